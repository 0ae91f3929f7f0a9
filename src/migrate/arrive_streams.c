/* SPDX-License-Identifier: Apache-2.0 */
/* The streams that bring what nobody has asked for, a thread for each. */
#include "base/thread.h"
#include "migrate/arrive_private.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define STACK_SIZE (128U << 10)

static int take_message(struct arrival_stream *stream, struct error *err)
{
	struct pages_seen seen = {0};
	int ret = channel_expect(&stream->in.channel, &stream->in.message, WIRE_PAGES, err);

	return ret == 0 ? arrival_take_pages(stream->arrival, &stream->in, &seen, err) : ret;
}

/* The source ends it, or whoever closes it. */
static void *take_stream(void *opaque)
{
	struct arrival_stream *stream = opaque, *none = NULL;

	pthread_setname_np(pthread_self(), "duet-arrive");
	while (take_message(stream, &stream->err) == 0)
		continue;
	atomic_compare_exchange_strong(&stream->arrival->torn, &none, stream);
	eventfd_write(stream->arrival->word, 1);
	return NULL;
}

static int begin(struct arrival *arrival, struct error *err)
{
	arrival->flows = true;
	for (unsigned i = 0; i < arrival->hello.streams; i++) {
		struct arrival_stream *stream = &arrival->streams[i];
		int ret;

		stream->arrival = arrival;
		stream->err = (struct error){0};
		arrival_open(arrival, &stream->in, &arrival->given[i]);
		ret = thread_start(&stream->thread, STACK_SIZE, take_stream, stream);
		stream->started = ret == 0;
		if (ret) {
			while (++i < arrival->hello.streams)
				channel_close(&arrival->given[i]);
			return error_errno(err, ret, "post-copy: a thread for each stream");
		}
	}
	return 0;
}

int arrival_look_at_streams(struct arrival *arrival, struct error *err)
{
	const struct arrival_stream *torn = atomic_load(&arrival->torn);
	bool given;

	pthread_mutex_lock(&arrival->lock);
	given = arrival->has_given;
	arrival->has_given = false;
	pthread_mutex_unlock(&arrival->lock);
	if (given)
		return begin(arrival, err);
	return torn ? error_set(err, torn->err.code, "%s", torn->err.text) : 0;
}

void arrival_end_streams(struct arrival *arrival)
{
	for (unsigned i = 0; arrival->flows && i < arrival->hello.streams; i++) {
		struct arrival_stream *stream = &arrival->streams[i];

		if (stream->started) {
			shutdown(stream->in.channel.fd, SHUT_RDWR);
			pthread_join(stream->thread, NULL);
		}
		stream->started = false;
		arrival_close(&stream->in);
	}
	arrival->flows = false;
	atomic_store(&arrival->torn, NULL);
}
