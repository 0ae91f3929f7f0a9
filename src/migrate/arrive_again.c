/* SPDX-License-Identifier: Apache-2.0 */
/* The source of a machine that runs here comes again, after the line was cut. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "migrate/address.h"
#include "migrate/arrive_private.h"
#include "migrate/lacks.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* For the rest of a hello that has begun: one at a time is heard, and the source waits behind
 * strangers. */
#define HELLO_S 1
/* That have said nothing so far. */
#define KNOCKS_MAX 32
/* After a failure to take a connection that is there. */
#define AGAIN_S 1
/* That the source may take to have its machine back. */
#define TAKE_BACK_S 60

/* Those of its connections that have come. */
struct line {
	struct channel channels[WIRE_STREAMS_MAX + 1];
	unsigned count;
};

static void drop(struct line *line)
{
	while (line->count)
		channel_close(&line->channels[--line->count]);
}

/* Connections, the oldest first. */
struct knocks {
	int fds[KNOCKS_MAX];
	unsigned count;
};

/* ---- the next connection ---- */

/* Milliseconds; -1: no limit, for nobody knows yet whose machine it is. */
static int time_left(struct arrival *arrival)
{
	const uint64_t now = clock_ns();
	uint64_t until = UINT64_MAX;

	pthread_mutex_lock(&arrival->lock);
	if (arrival->given_up)
		until = arrival->given_up_until;
	else if (arrival->runs)
		until = arrival->until;
	pthread_mutex_unlock(&arrival->lock);
	if (until == UINT64_MAX)
		return -1;
	return now < until ? (int)((until - now) / MS_NS) + 1 : 0;
}

/* 0: something has happened. */
static int await_knock(
	struct arrival *arrival, struct pollfd *fds, unsigned count, struct error *err)
{
	eventfd_t ignored;

	if (poll(fds, count, time_left(arrival)) < 0) {
		for (unsigned i = 0; i < count; i++)
			fds[i].revents = 0;
		return errno == EINTR ? 0 : error_errno(err, errno, "poll");
	}
	if (fds[0].revents)
		return error_set(err, ECANCELED, "the target was ended");
	if (fds[1].revents)
		eventfd_read(arrival->word, &ignored);
	return 0;
}

static int forget(struct knocks *knocks, unsigned index)
{
	const int fd = knocks->fds[index];

	knocks->count--;
	memmove(knocks->fds + index, knocks->fds + index + 1,
		(knocks->count - index) * sizeof(knocks->fds[0]));
	return fd;
}

/* So that the kernel's queue has room for the source. */
static int take_in(const struct arrival *arrival, struct knocks *knocks, struct error *err)
{
	int fd = address_accept(arrival->terms.listening, arrival->stop, AGAIN_S, err);

	if (fd == -ECANCELED)
		return fd;
	/* Who knocked is gone, or there is no descriptor just now. */
	if (fd < 0) {
		fd = channel_wait(-1, 0, arrival->stop, AGAIN_S, err);
		return fd == -ECANCELED ? fd : 0;
	}
	if (knocks->count == KNOCKS_MAX)
		close(forget(knocks, 0));
	knocks->fds[knocks->count++] = fd;
	return 0;
}

/* The first that has said something; -EAGAIN: none has so far, or something else has happened. */
static int look_out(struct arrival *arrival, struct knocks *knocks, struct error *err)
{
	struct pollfd fds[3 + KNOCKS_MAX] = {{.fd = arrival->stop, .events = POLLIN},
		{.fd = arrival->word, .events = POLLIN},
		{.fd = arrival->terms.listening, .events = POLLIN}};
	int ret;

	for (unsigned i = 0; i < knocks->count; i++)
		fds[3 + i] = (struct pollfd){.fd = knocks->fds[i], .events = POLLIN};
	ret = await_knock(arrival, fds, 3 + knocks->count, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < knocks->count; i++)
		if (fds[3 + i].revents)
			return forget(knocks, i);
	if (fds[2].revents)
		ret = take_in(arrival, knocks, err);
	return ret < 0 ? ret : -EAGAIN;
}

/* Likewise. */
static int accept_next(struct arrival *arrival, struct knocks *knocks, struct error *err)
{
	if (time_left(arrival) != 0)
		return look_out(arrival, knocks, err);
	return error_set(err, ETIMEDOUT,
		"the source, which has the rest of memory, did not come again within %u s",
		arrival->hello.wait);
}

/* ---- who it is ---- */

static int check_hello(const struct arrival *arrival, const struct line *line,
	const struct wire_hello *hello, struct error *err)
{
	const struct wire_hello *own = &arrival->hello;

	if (memcmp(hello->id, own->id, WIRE_ID) != 0)
		return error_set(err, EBUSY,
			"another machine came here, whose source is waited for; start a second "
			"duet run --incoming");
	if (hello->streams != own->streams || hello->wait != own->wait ||
		hello->index != line->count)
		return error_set(err, EPROTO, "stream %u of %u came where %u of %u was to come",
			hello->index, hello->streams, line->count, own->streams);
	return 0;
}

static int judge(const struct arrival *arrival, struct line *line, struct wire_hello *hello,
	const struct message *message, struct error *err)
{
	int ret = wire_get_hello(hello, message->body, message->header.length, err);

	/* Its line was cut once more while it came. */
	if (ret == 0 && hello->index == 0 && memcmp(hello->id, arrival->hello.id, WIRE_ID) == 0)
		drop(line);
	return ret == 0 ? check_hello(arrival, line, hello, err) : ret;
}

/* A stranger is told why, and not waited for until it has read that. */
static int read_hello(const struct arrival *arrival, struct line *line, struct channel *channel,
	struct error *err)
{
	struct message message = {0};
	struct wire_hello hello = {0};
	uint8_t bytes[WIRE_HELLO_SIZE];
	int ret = channel_expect(channel, &message, WIRE_HELLO, err);

	if (ret == 0) {
		ret = judge(arrival, line, &hello, &message, err);
		if (ret < 0)
			channel_send(channel, WIRE_FAILED, err->text, strnlen(err->text, 500), "",
				0, NULL);
	}
	message_free(&message);
	wire_put_hello(bytes, &hello);
	return ret == 0 ? channel_send(channel, WIRE_WELCOME, bytes, sizeof(bytes), "", 0, err)
			: ret;
}

static void welcome(const struct arrival *arrival, struct line *line, int fd)
{
	struct channel channel;
	struct error err = {0};
	int ret =
		channel_open(&channel, fd, arrival->stop, arrival->terms.tls, true, HELLO_S, &err);

	if (ret == 0)
		ret = read_hello(arrival, line, &channel, &err);
	if (ret == 0) {
		channel.until = 0;
		line->channels[line->count++] = channel;
		return;
	}
	log_warning("--incoming: a connection was turned away: %s", err.text);
	channel_close(&channel);
}

/* ---- what it is told ---- */

static uint64_t get(void *opaque, gpa_t gpa)
{
	const struct arrival *arrival = opaque;

	return memory_late_lacking(arrival->late, gpa);
}

static int say_what_lacks(struct arrival *arrival, struct channel *urgent, struct error *err)
{
	static const struct lacks_ops ops = {.get = get};
	int ret = lacks_say(urgent, arrival->terms.memory, &ops, arrival, err);

	return ret == 0 ? channel_say(urgent, WIRE_READY, err) : ret;
}

/* It is the source's again, whose answer is the same word. -ECANCELED: it has heard. */
static int say_given_up(struct arrival *arrival, struct line *line, struct error *err)
{
	struct channel *urgent = &line->channels[arrival->hello.streams];
	struct error why;
	int ret;

	pthread_mutex_lock(&arrival->lock);
	why = arrival->err;
	pthread_mutex_unlock(&arrival->lock);
	ret = channel_send(urgent, WIRE_FAILED, why.text, strnlen(why.text, 500), "", 0, err);
	if (ret == 0 && channel_hear_failed(&line->channels[0], TAKE_BACK_S))
		ret = error_set(err, ECANCELED, "the source goes on with its machine");
	else if (ret == 0)
		ret = -EPIPE;
	return ret;
}

/* Who says this to the source has the machine, or never will: so the line is made, and nothing is
 * said by it until that is known. */
static int tell(struct arrival *arrival, struct line *line, struct error *err)
{
	if (arrival_is(arrival, &arrival->given_up))
		return say_given_up(arrival, line, err);
	return say_what_lacks(arrival, &line->channels[arrival->hello.streams], err);
}

/* As if run() had brought it. */
static void take_over(struct arrival *arrival, struct line *line)
{
	const unsigned streams = arrival->hello.streams;

	arrival_open(arrival, &arrival->urgent, &line->channels[streams]);
	pthread_mutex_lock(&arrival->lock);
	memcpy(arrival->given, line->channels, streams * sizeof(arrival->given[0]));
	arrival->has_given = true;
	pthread_mutex_unlock(&arrival->lock);
	line->count = 0;
}

static bool is_decided(struct arrival *arrival)
{
	return arrival_is(arrival, &arrival->runs) || arrival_is(arrival, &arrival->given_up);
}

static bool is_line(const struct arrival *arrival, const struct line *line)
{
	return line->count == wire_connections(&arrival->hello);
}

/* What was given back or reset meanwhile is no longer missed. */
static bool needs_none(struct arrival *arrival)
{
	return !arrival->whole && arrival_is_whole(arrival);
}

/* A line whose source was told, or none. */
static int gather(
	struct arrival *arrival, struct line *line, struct knocks *knocks, struct error *err)
{
	for (;;) {
		int ret;

		if (needs_none(arrival)) {
			/* Nothing was said by it. */
			drop(line);
			return 0;
		}
		if (is_line(arrival, line) && is_decided(arrival)) {
			ret = tell(arrival, line, err);
			if (ret == 0 || ret == -ECANCELED)
				return ret;
			drop(line);
		}
		ret = accept_next(arrival, knocks, err);
		if (ret >= 0)
			welcome(arrival, line, ret);
		else if (ret != -EAGAIN)
			return ret;
	}
}

int arrival_await_source(struct arrival *arrival, struct error *err)
{
	struct line line = {.count = 0};
	struct knocks knocks = {.count = 0};
	int ret = gather(arrival, &line, &knocks, err);

	if (ret == 0 && is_line(arrival, &line))
		take_over(arrival, &line);
	drop(&line);
	while (knocks.count)
		close(forget(&knocks, 0));
	return ret;
}
