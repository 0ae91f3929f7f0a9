/* SPDX-License-Identifier: Apache-2.0 */
/* All of memory is there, or never will be: and the source knows, before it is waited for no
 * longer. */
#include "base/clock.h"
#include "base/log.h"
#include "migrate/arrive_private.h"

/* That the source may take to hear that a machine has ended. */
#define LAST_WORD_S 2

/* Pages that were asked for and came another way are on this one still. */
static int hear_whole(struct arrival *arrival)
{
	struct inflow *urgent = &arrival->urgent;
	int ret;

	do
		ret = channel_receive_either(
			&urgent->channel, &urgent->message, WIRE_WHOLE, WIRE_PAGES, NULL);
	while (ret == 0 && urgent->message.header.kind == WIRE_PAGES);
	return ret;
}

/* Whether the source has heard it, and may end. */
static bool say_whole(struct arrival *arrival, unsigned seconds)
{
	struct channel *urgent = &arrival->urgent.channel;

	if (urgent->fd < 0)
		return false;
	urgent->until = clock_ns() + seconds * SECOND_NS;
	return channel_say(urgent, WIRE_WHOLE, NULL) == 0 && hear_whole(arrival) == 0;
}

/* Without that a source would wait for a line in vain, and not know what has become of its machine.
 */
static void tell_source(struct arrival *arrival)
{
	struct error err = {0};

	arrival->whole = true;
	arrival->until = clock_ns() + arrival->hello.wait * SECOND_NS;
	while (!say_whole(arrival, CHANNEL_PATIENCE_S)) {
		arrival_drop_given(arrival);
		arrival_end_streams(arrival);
		arrival_close(&arrival->urgent);
		if (arrival_await_source(arrival, &err) < 0) {
			log_info("--incoming: the source was not told that all of memory is here: "
				 "%.200s",
				err.text);
			break;
		}
	}
}

/* What is said last though it is to leave. */
static void say_last(struct arrival *arrival)
{
	arrival->urgent.channel.stop = -1;
	say_whole(arrival, LAST_WORD_S);
}

void arrival_finish(struct arrival *arrival, int result, const struct error *err)
{
	const struct arrival_ops *ops = &arrival->terms.ops;
	bool leaving, mine, ended;

	pthread_mutex_lock(&arrival->lock);
	leaving = arrival->leaving;
	ended = arrival->ended;
	mine = arrival->committed && !arrival->given_up;
	pthread_mutex_unlock(&arrival->lock);
	if (result == 0 || !mine)
		memory_late_end(arrival->late);
	if (mine && !leaving)
		ops->ended(ops->opaque, result, err);
	if (result == 0 && !leaving)
		tell_source(arrival);
	else if (mine && (result == 0 || ended))
		say_last(arrival);
	arrival_end_streams(arrival);
	arrival_close(&arrival->urgent);
	if (mine && !leaving)
		ops->closed(ops->opaque);
}
