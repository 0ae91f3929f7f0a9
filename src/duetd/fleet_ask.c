/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to VMs: each waits in the loop, with a limit, and none for another. */
#include "base/checked.h"
#include "base/clock.h"
#include "duetd/fleet_private.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define LET_GO_NS SECOND_NS

static void free_ask(struct loop_watch *watch)
{
	free(container_of(watch, struct ask, watch));
}

void fleet_ask_end(struct ask *ask)
{
	if (ask->member)
		ask->member->ask = NULL;
	ask->member = NULL;
	loop_timer_stop(&ask->patience);
	loop_unwatch(&ask->watch, free_ask);
	http_question_close(ask->question);
}

static pid_t peer_of(const struct http_question *question)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(http_question_fd(question), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return 0;
	return peer.pid;
}

/* A VM that cannot be told is asked as before: an older duet has no such request. */
static void balloon_told(struct member *member, const struct http_answer *answer)
{
	const uint64_t now = clock_ns();

	if (!member->leased || member->told_mib != member->wanted_mib)
		member->target_since = now;
	member->told_at = now;
	member->told_mib = member->wanted_mib;
	member->leased = answer->status < 300;
	fleet_schedule(member);
}

/* Refused (its driver may have gone), it is tried when it would be told anew. */
static void sharing_told(struct member *member, const struct http_answer *answer)
{
	const bool ends = member->wanted_ms == FLEET_END_MS;

	member->sharing_at = ends ? 0 : clock_ns();
	member->told_sharing = member->wanted_sharing;
	member->shares = answer->status < 300 && !ends;
	fleet_schedule(member);
}

static void answered(struct ask *ask, const struct http_answer *answer)
{
	struct member *member = ask->member;

	if (ask->errand == ERRAND_BALLOON)
		balloon_told(member, answer);
	else if (ask->errand == ERRAND_SHARING)
		sharing_told(member, answer);
	else
		fleet_take_answer(member, answer, peer_of(ask->question));
}

static void ready(struct loop_watch *watch, uint32_t events)
{
	struct ask *ask = container_of(watch, struct ask, watch);
	struct member *member = ask->member;
	struct http_answer answer;
	struct error err = {0};
	int ret;

	if (!member)
		return;
	ret = http_question_go_on(ask->question, &answer, &err);
	if (ret > 0)
		return;
	if (ret < 0)
		fleet_take_fault(member, err.text, false);
	else
		answered(ask, &answer);
	fleet_ask_end(ask);
	if (fleet_next(member) != ERRAND_BRIEF)
		fleet_ask(member, fleet_next(member));
}

static void patience_over(struct loop_timer *timer)
{
	struct ask *ask = container_of(timer, struct ask, patience);
	struct member *member = ask->member;
	char why[160];

	snprintf(why, sizeof(why), "no answer within %u ms: it hangs, or is stopped",
		member->fleet->options.patience_ms);
	fleet_take_fault(member, why, false);
	fleet_ask_end(ask);
}

enum errand fleet_next(const struct member *member)
{
	if (member->due)
		return ERRAND_BALLOON;
	return member->sharing_due ? ERRAND_SHARING : ERRAND_BRIEF;
}

static int open_question(struct http_question **question, const struct member *member,
	enum errand errand, const char *body, struct error *err)
{
	static const char *const paths[] = {[ERRAND_BRIEF] = "/duet/brief",
		[ERRAND_BALLOON] = "/duet/balloon",
		[ERRAND_SHARING] = "/duet/sharing"};
	const struct http_ask ask = {.socket = member->socket,
		.method = errand == ERRAND_BRIEF ? "GET" : "PATCH",
		.path = paths[errand],
		.body = errand == ERRAND_BRIEF ? NULL : body,
		.answer_max = FLEET_ANSWER_MAX};

	return http_question_open(question, &ask, err);
}

static void lease_text(char text[80], uint64_t mib, unsigned ms)
{
	snprintf(text, 80, "{\"amount_mib\": %" PRIu64 ", \"for_ms\": %u}", mib, ms);
}

static void sharing_text(char text[80], enum sharing sharing, unsigned ms)
{
	snprintf(text, 80, "{\"state\": \"%s\", \"for_ms\": %u}",
		sharing == SHARING_BLIND ? "blind" : "hinted", ms);
}

void fleet_ask(struct member *member, enum errand errand)
{
	struct fleet *fleet = member->fleet;
	struct ask *ask = calloc(1, sizeof(*ask));
	struct error err = {0};
	char body[80] = "";
	int ret;

	if (errand == ERRAND_BALLOON) {
		lease_text(body, member->wanted_mib, FLEET_LEASE_MS);
		member->due = false;
	} else if (errand == ERRAND_SHARING) {
		sharing_text(body, member->wanted_sharing, member->wanted_ms);
		member->sharing_due = false;
	}
	if (!ask) {
		fleet_take_fault(member, "no memory to ask it", false);
		return;
	}
	ret = open_question(&ask->question, member, errand, body, &err);
	if (ret < 0) {
		free(ask);
		fleet_take_fault(member, err.text, ret == -ECONNREFUSED);
		return;
	}
	ask->errand = errand;
	ask->member = member;
	member->ask = ask;
	loop_timer_stop(&member->next_time);
	ask->patience.expired = patience_over;
	loop_timer_after(fleet->loop, &ask->patience, fleet->options.patience_ms * 1000000ULL);
	loop_watch(
		fleet->loop, &ask->watch, http_question_fd(ask->question), POLLIN | POLLOUT, ready);
}

/* ---- the end ---- */

static void let_go(
	const struct member *member, enum errand errand, const char *body, uint64_t until)
{
	struct http_question *question = NULL;
	struct http_answer answer;
	uint64_t now;
	int ret;

	if (open_question(&question, member, errand, body, NULL) < 0)
		return;
	/* Told in any case, and not waited for when the time is over. */
	do {
		now = clock_ns();
		ret = http_question_wait(question,
			now < until ? (unsigned)((until - now) / 1000000) + 1 : 0, &answer, NULL);
	} while (ret > 0 && now < until);
	http_question_close(question);
}

/* One that hangs costs the others no more than what is left of the second: their leases end. */
void fleet_let_go(struct fleet *fleet)
{
	const uint64_t until = clock_ns() + LET_GO_NS;

	for (const struct member *member = fleet->members; member; member = member->next) {
		char body[80];

		if (member->leased && member->well) {
			lease_text(body, member->told_mib, FLEET_END_MS);
			let_go(member, ERRAND_BALLOON, body, until);
		}
		if (member->shares && member->well) {
			sharing_text(body, member->told_sharing, FLEET_END_MS);
			let_go(member, ERRAND_SHARING, body, until);
		}
	}
}
