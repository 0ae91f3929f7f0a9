/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/remain.h"

#include "base/clock.h"
#include "base/log.h"
#include "migrate/greet.h"

#include <errno.h>
#include <poll.h>

/* Between two tries for a line. */
#define SOON_MS 50
#define LATE_MS 5000

int remain_begin(struct serve *serve, struct sweep *sweep, struct error *err)
{
	struct channel *first = &sweep->source->channels[0];
	int ret = sweep_share(sweep, err);

	if (ret == 0)
		ret = serve_init(serve, sweep, err);
	if (ret == 0)
		ret = sweep_say_wanted(sweep, first, err);
	return ret == 0 ? serve_start(serve, err) : ret;
}

void remain_end(struct serve *serve)
{
	if (serve->started)
		serve_hang_up(serve->source);
	serve_free(serve);
}

/* ---- a line is cut ---- */

static void set_phase(const struct serve *serve, enum source_phase phase)
{
	atomic_store(&serve->source->progress->phase, phase);
}

static void hang_up(struct serve *serve)
{
	serve_hang_up(serve->source);
	serve_join(serve);
	for (unsigned i = 0; i <= serve->source->streams; i++)
		channel_close(&serve->source->channels[i]);
}

/* What the other side lacks is its to say: what was on its way is in neither's memory. */
static int connect_again(struct serve *serve, struct error *err)
{
	struct source *source = serve->source;
	struct channel *urgent = &source->channels[source->streams];
	int ret = greet_all(source, true, err);

	if (ret == 0) {
		ret = sweep_hear_wanted(serve->sweep, urgent, err);
		/* By who would have said what it lacks: a stranger welcomes nobody. */
		serve->given_back = ret == -EREMOTEIO;
	}
	if (ret == 0)
		sweep_reconnect(serve->sweep);
	if (ret == 0)
		ret = serve_start(serve, err);
	/* Who gives it back waits for the answer. */
	if (ret < 0 && !serve->given_back)
		hang_up(serve);
	return ret;
}

/* False: it is to leave. */
static bool sleep_for(const struct source *source, unsigned milliseconds)
{
	struct pollfd fd = {.fd = source->stop, .events = POLLIN};

	return poll(&fd, 1, (int)milliseconds) <= 0;
}

/* Of one that never said that it runs; what else says so has made a mistake. */
static bool is_given_back(struct serve *serve, bool cut)
{
	if (serve->given_back && !cut)
		hang_up(serve);
	serve->given_back = serve->given_back && cut;
	return serve->given_back;
}

static void tell_of_cut(const struct serve *serve, bool cut, const struct error *err)
{
	log_warning("migration: %s; the guest %s there and lacks %llu pages of its memory: "
		    "connecting again for %u s",
		err->text, cut ? "may run" : "runs",
		(unsigned long long)atomic_load(&serve->source->progress->left),
		serve->source->wait);
}

/* 0: there is a line again. */
static int await_line(struct serve *serve, bool cut, struct error *err)
{
	const struct source *source = serve->source;
	const uint64_t until = clock_ns() + source->wait * SECOND_NS;
	unsigned pause = SOON_MS;
	struct error why = {0};

	set_phase(serve, SOURCE_CUT);
	atomic_fetch_add(&source->progress->cuts, 1);
	tell_of_cut(serve, cut, err);
	while (clock_ns() < until) {
		if (!sleep_for(source, pause))
			return error_set(err, ECANCELED, "this process was ended");
		if (connect_again(serve, &why) == 0) {
			log_info("migration: connected again");
			set_phase(serve, SOURCE_ARRIVING);
			return 0;
		}
		if (is_given_back(serve, cut))
			return error_set(err, EREMOTEIO, "%s", why.text);
		log_info("migration: connecting again: %s", why.text);
		pause = pause * 2 < LATE_MS ? pause * 2 : LATE_MS;
	}
	return error_set(err, ETIMEDOUT, "no line for %u s: %.500s", source->wait, why.text);
}

/* ---- while there is one ---- */

/* Until nothing is wanted any more, or the line is cut. */
static int send_rest(struct serve *serve, struct error *err)
{
	uint64_t bytes;
	int ret = sweep_send(serve->sweep, &bytes, err);

	if (ret < 0)
		serve_hang_up(serve->source);
	serve_join(serve);
	/* Of two that fail for each other's sake the first knows why. */
	if (!serve->whole && ret >= 0)
		*err = serve->err;
	return serve->whole ? 0 : -EPIPE;
}

enum source_end remain_run(struct serve *serve, bool cut, struct error *err)
{
	int ret = cut ? -EPIPE : 0;

	set_phase(serve, SOURCE_ARRIVING);
	if (!cut)
		serve->source->ops->follow(serve->source->opaque);
	for (;;) {
		if (ret == 0)
			ret = send_rest(serve, err);
		if (ret == 0) {
			/* What it no longer needs was not sent. */
			atomic_store(&serve->source->progress->left, 0);
			return SOURCE_MOVED;
		}
		hang_up(serve);
		ret = await_line(serve, cut, err);
		if (ret < 0)
			return serve->given_back ? SOURCE_STAYS : SOURCE_TORN;
		/* Who welcomes us runs it. */
		if (cut)
			serve->source->ops->follow(serve->source->opaque);
		cut = false;
	}
}
