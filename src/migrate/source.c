/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "migrate/greet.h"
#include "migrate/remain.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

/* Storage may be slow to open, passt to start. */
#define BUILD_S 120
/* Who has said that it is ready has little left to do. */
#define ANSWER_S 60
/* Why it was given back, in words: an error's text is shorter. */
#define ANSWER_ROOM 4096

struct leaving {
	struct sweep sweep;
	bool late; /* what it lacks goes after it */
	struct serve serve;
	uint64_t stopped; /* clock_ns() */
};

static void set_phase(const struct source *source, enum source_phase phase)
{
	atomic_store(&source->progress->phase, phase);
}

/* ---- what is asked of the other side ---- */

static int expect(struct source *source, enum wire_kind kind, unsigned patience, struct error *err)
{
	struct channel *channel = &source->channels[0];
	int ret;

	/* For all of it: a byte now and then does not count. */
	channel->patience = patience;
	channel->until = clock_ns() + patience * SECOND_NS;
	ret = channel_expect(channel, &source->answer, kind, err);
	channel->until = 0;
	channel->patience = CHANNEL_PATIENCE_S;
	return ret;
}

static int send_config(struct source *source, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	int ret = source->ops->config(source->opaque, &text, err);

	if (ret == 0)
		ret = channel_send(
			&source->channels[0], WIRE_CONFIG, text, strlen(text), "", 0, err);
	return ret == 0 ? expect(source, WIRE_BUILT, BUILD_S, err) : ret;
}

/* ---- while it runs ---- */

static int not_converging(const struct source *source, struct error *err)
{
	return error_set(err, ETIMEDOUT,
		"the guest writes to memory faster than it can be sent: it would stand still for "
		"%llu ms; allow more (--downtime), more streams, or say --post-copy or --force",
		(unsigned long long)(source->plan.expected / 1000000));
}

/* Null: nobody knows. */
static const uint64_t *writers(const struct source *source, uint64_t written[SHARES_CPUS_MAX])
{
	return source->ops->writers(source->opaque, written) ? written : NULL;
}

/* As the plan has it now, whose part in it changes from round to round. */
static int hold(struct source *source, uint64_t left, struct error *err)
{
	struct source_progress *progress = source->progress;
	struct shares *shares = &source->shares;
	uint8_t before[SHARES_CPUS_MAX];
	uint64_t written[SHARES_CPUS_MAX];

	memcpy(before, shares->percent, sizeof(before));
	shares_next(shares, source->plan.throttle, writers(source, written), left, clock_ns());
	atomic_store(&progress->throttle, shares_most(shares));
	for (unsigned i = 0; i < shares->cpus; i++)
		atomic_store(&progress->held[i], shares->percent[i]);
	if (memcmp(before, shares->percent, sizeof(before)) == 0)
		return 0;
	return source->ops->throttle(source->opaque, shares->percent, err);
}

/* After a round: PLAN_AGAIN, PLAN_STOP, or negative. */
static int decide(
	struct source *source, struct sweep *sweep, uint64_t sent, uint64_t took, struct error *err)
{
	struct source_progress *progress = source->progress;
	enum plan_step step;
	uint64_t left;
	int ret = sweep_take_log(sweep, err);

	if (ret < 0)
		return ret;
	left = sweep_wanted(sweep);
	step = plan_next(&source->plan, sent, took, left * MEMORY_PAGE);
	atomic_store(&progress->left, left);
	atomic_store(&progress->rate, plan_rate(&source->plan));
	atomic_store(&progress->expected, source->plan.expected);
	/* The way out: it runs there, and what is left goes after it. */
	if (step == PLAN_FAIL && source->wait)
		return PLAN_STOP;
	if (step == PLAN_FAIL)
		return not_converging(source, err);
	/* Before it stands still for the rest nobody is held any more. */
	if (step == PLAN_AGAIN)
		ret = hold(source, left, err);
	return ret < 0 ? ret : (int)step;
}

static int copy_running(struct source *source, struct sweep *sweep, struct error *err)
{
	uint64_t written[SHARES_CPUS_MAX];
	int ret;

	shares_begin(&source->shares, source->cpus, writers(source, written), clock_ns());
	atomic_store(&source->progress->cpus, source->shares.cpus);
	do {
		uint64_t sent, begin = clock_ns();

		atomic_fetch_add(&source->progress->rounds, 1);
		ret = sweep_send(sweep, &sent, err);
		if (ret == 0)
			ret = decide(source, sweep, sent, clock_ns() - begin, err);
	} while (ret == PLAN_AGAIN);
	return ret < 0 ? ret : 0;
}

/* ---- while it stands still ---- */

static int send_state(struct source *source, const struct state_writer *writer, struct error *err)
{
	int ret = channel_send(
		&source->channels[0], WIRE_STATE, writer->bytes, writer->length, "", 0, err);

	return ret == 0 ? expect(source, WIRE_READY, BUILD_S, err) : ret;
}

/* The rest before the state, or, where that took too long, its names, and it goes later. */
static int send_memory(struct leaving *leaving, struct error *err)
{
	struct sweep *sweep = &leaving->sweep;
	uint64_t sent;
	int ret = sweep_take_log(sweep, err);

	if (ret == 0 && !leaving->late)
		ret = sweep_send(sweep, &sent, err);
	if (ret == 0)
		ret = sweep_finish(sweep, err);
	return ret == 0 && leaving->late ? remain_begin(&leaving->serve, sweep, err) : ret;
}

static int copy_rest(struct source *source, struct leaving *leaving, struct error *err)
{
	struct state_writer writer;
	int ret;

	state_writer_init(&writer);
	leaving->late = source->wait && source->plan.expected > source->plan.limit;
	ret = source->ops->stop(source->opaque, &writer, err);
	if (ret == 0)
		ret = send_memory(leaving, err);
	if (ret == 0)
		ret = send_state(source, &writer, err);
	state_writer_free(&writer);
	return ret;
}

/* ---- whose it is ---- */

/* The other side has said by a whole message that it gave up, which it does before the guest's
 * first instruction there: so it is ours again. */
static enum source_end take_back(struct source *source, struct error *err)
{
	struct error failed = {0};

	if (source->ops->take_back(source->opaque, &failed) < 0) {
		error_prefix(err, "%s; and then ", failed.text);
		return SOURCE_UNKNOWN;
	}
	return SOURCE_STAYS;
}

static enum source_end follow(
	struct source *source, struct leaving *leaving, bool cut, struct error *err)
{
	enum source_end end = remain_run(&leaving->serve, cut, err);

	return end == SOURCE_STAYS ? take_back(source, err) : end;
}

static enum source_end commit(struct source *source, struct leaving *leaving, struct error *err)
{
	const uint64_t before = source->channels[0].sent;
	int ret = source->ops->release(source->opaque, err);

	if (ret == 0 && !source->ops->commit(source->opaque))
		ret = error_set(err, ECANCELED, "cancelled");
	if (ret < 0)
		return take_back(source, err);
	set_phase(source, SOURCE_COMMITTED);
	/* From the first byte on: what the other side has read of it nobody here knows. */
	ret = channel_say(&source->channels[0], WIRE_COMMIT, err);
	/* The line was gone already, as when the one for pages was cut while disks were flushed. */
	if (ret < 0 && source->channels[0].sent == before)
		return take_back(source, err);
	if (ret == 0)
		ret = expect(source, WIRE_RUNNING, ANSWER_S, err);
	atomic_store(&source->progress->stood, clock_ns() - leaving->stopped);
	if (ret == -EREMOTEIO)
		return take_back(source, err);
	if (leaving->late)
		return follow(source, leaving, ret < 0, err);
	return ret == 0 ? SOURCE_MOVED : SOURCE_UNKNOWN;
}

static int copy(struct source *source, struct leaving *leaving, struct error *err)
{
	struct sweep *sweep = &leaving->sweep;
	int ret = greet_all(source, false, err);

	if (ret == 0)
		ret = send_config(source, err);
	if (ret == 0)
		ret = source->ops->log(source->opaque, err);
	if (ret == 0)
		ret = sweep_init(sweep, source, err);
	if (ret < 0)
		return ret;
	atomic_store(&source->progress->total, memory_size(sweep->memory) / MEMORY_PAGE);
	set_phase(source, SOURCE_COPYING);
	ret = copy_running(source, sweep, err);
	if (ret < 0)
		return ret;
	leaving->stopped = clock_ns();
	set_phase(source, SOURCE_STOPPED);
	return copy_rest(source, leaving, err);
}

enum source_end source_run(struct source *source, struct error *err)
{
	enum source_end end = SOURCE_STAYS;
	struct leaving leaving = {.sweep.source = source};
	/* Had now: what the other side says once it has been given the machine must be heard. */
	int ret = message_reserve(&source->answer, ANSWER_ROOM, err);

	if (ret == 0)
		ret = copy(source, &leaving, err);
	if (ret == 0)
		end = commit(source, &leaving, err);
	if (leaving.stopped && !atomic_load(&source->progress->stood))
		atomic_store(&source->progress->stood, clock_ns() - leaving.stopped);
	if (end == SOURCE_STAYS)
		channel_fail(&source->channels[0], err->text);
	remain_end(&leaving.serve);
	sweep_free(&leaving.sweep);
	message_free(&source->answer);
	set_phase(source, SOURCE_ENDED);
	return end;
}
