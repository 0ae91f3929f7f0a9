/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to VMs: each waits in the loop, with a limit, and none for another. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "duetd/fleet_private.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LET_GO_NS SECOND_NS

#define BODY_MAX 512 /* a node for each of VIEW_VCPUS_MAX */

static const struct {
	const char *method, *path;
} orders[ASK_KINDS] = {
	[ASK_BRIEF] = {"GET", "/duet/brief"},
	[ASK_BALLOON] = {"PATCH", "/duet/balloon"},
	[ASK_SHARING] = {"PATCH", "/duet/sharing"},
	[ASK_PLACE] = {"PATCH", "/duet/place"},
	[ASK_MAP] = {"PUT", "/duet/hints"},
};

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

/* One that cannot is tried again with the next decision that comes late enough. */
static void node_told(
	struct member *member, const struct ask *ask, const struct http_answer *answer)
{
	if (answer->status >= 300)
		log_debug("%s: refuses %s (%u)", member->name, orders[ask->kind].path,
			answer->status);
	fleet_schedule(member);
}

static void answered(struct ask *ask, const struct http_answer *answer)
{
	struct member *member = ask->member;

	if (ask->kind == ASK_BALLOON)
		balloon_told(member, answer);
	else if (ask->kind == ASK_SHARING)
		sharing_told(member, answer);
	else if (ask->kind == ASK_BRIEF)
		fleet_take_answer(member, answer, peer_of(ask->question));
	else
		node_told(member, ask, answer);
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
	if (fleet_is_due(member))
		fleet_ask(member);
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

static int open_question(struct http_question **question, const struct member *member,
	enum ask_kind kind, const char *body, struct error *err)
{
	const struct http_ask ask = {.socket = member->socket,
		.method = orders[kind].method,
		.path = orders[kind].path,
		.body = kind == ASK_BRIEF ? NULL : body,
		.answer_max = FLEET_ANSWER_MAX};

	return http_question_open(question, &ask, err);
}

static void lease_text(char text[BODY_MAX], uint64_t mib, unsigned ms)
{
	snprintf(text, BODY_MAX, "{\"amount_mib\": %" PRIu64 ", \"for_ms\": %u}", mib, ms);
}

static void sharing_text(char text[BODY_MAX], enum sharing sharing, unsigned ms)
{
	snprintf(text, BODY_MAX, "{\"state\": \"%s\", \"for_ms\": %u}",
		sharing == SHARING_BLIND ? "blind" : "hinted", ms);
}

static void write_body(const struct member *member, enum ask_kind kind, char body[BODY_MAX])
{
	if (kind == ASK_BALLOON)
		lease_text(body, member->wanted_mib, FLEET_LEASE_MS);
	else if (kind == ASK_SHARING)
		sharing_text(body, member->wanted_sharing, member->wanted_ms);
	else if (kind == ASK_PLACE)
		fleet_place_text(member, body, BODY_MAX);
	else
		snprintf(body, BODY_MAX, "{\"wish\": \"locality\"}");
}

static enum ask_kind what_is_due(const struct member *member)
{
	for (enum ask_kind kind = ASK_BRIEF + 1; kind < ASK_KINDS; kind++)
		if (member->due[kind])
			return kind;
	return ASK_BRIEF;
}

bool fleet_is_due(const struct member *member)
{
	return what_is_due(member) != ASK_BRIEF;
}

void fleet_forget_due(struct member *member)
{
	memset(member->due, 0, sizeof(member->due));
}

static void begin(struct member *member, struct ask *ask)
{
	struct fleet *fleet = member->fleet;

	ask->member = member;
	member->ask = ask;
	loop_timer_stop(&member->next_time);
	ask->patience.expired = patience_over;
	loop_timer_after(fleet->loop, &ask->patience, fleet->options.patience_ms * MS_NS);
	loop_watch(
		fleet->loop, &ask->watch, http_question_fd(ask->question), POLLIN | POLLOUT, ready);
}

void fleet_ask(struct member *member)
{
	struct ask *ask = calloc(1, sizeof(*ask));
	enum ask_kind kind = what_is_due(member);
	struct error err = {0};
	char body[BODY_MAX];
	int ret;

	write_body(member, kind, body);
	member->due[kind] = false;
	if (!ask) {
		fleet_take_fault(member, "no memory to ask it", false);
		return;
	}
	ask->kind = kind;
	ret = open_question(&ask->question, member, kind, body, &err);
	if (ret < 0) {
		free(ask);
		fleet_take_fault(member, err.text, ret == -ECONNREFUSED);
		return;
	}
	begin(member, ask);
}

/* ---- the end ---- */

static void let_go(
	const struct member *member, enum ask_kind kind, const char *body, uint64_t until)
{
	struct http_question *question = NULL;
	struct http_answer answer;
	uint64_t now;
	int ret;

	if (open_question(&question, member, kind, body, NULL) < 0)
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
		char body[BODY_MAX];

		if (member->leased && member->well) {
			lease_text(body, member->told_mib, FLEET_END_MS);
			let_go(member, ASK_BALLOON, body, until);
		}
		if (member->shares && member->well) {
			sharing_text(body, member->told_sharing, FLEET_END_MS);
			let_go(member, ASK_SHARING, body, until);
		}
	}
}
