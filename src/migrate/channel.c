/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/channel.h"

#include "base/checked.h"
#include "base/clock.h"
#include "migrate/mtls.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* #syscalls main arrive: poll recvfrom sendto shutdown */

#define FAREWELL_MS 2000

static int is_gone(struct error *err)
{
	return error_set(err, EPIPE, "the other side is gone");
}

int channel_wait(int fd, short events, int stop, unsigned patience, struct error *err)
{
	struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = stop, .events = POLLIN}};
	int ret;

	do
		ret = poll(fds, 2, patience ? (int)patience * 1000 : -1);
	while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return error_errno(err, errno, "poll");
	if (fds[1].revents)
		return error_set(err, ECANCELED, "cancelled");
	if (ret == 0)
		return error_set(
			err, ETIMEDOUT, "the other side has been silent for %u s", patience);
	return 0;
}

int channel_await(const struct channel *channel, short events, struct error *err)
{
	unsigned patience = channel->patience;
	uint64_t now = channel->until ? clock_ns() : 0;

	if (channel->until && now >= channel->until)
		return error_set(err, ETIMEDOUT, "the other side takes too long");
	if (channel->until)
		patience = (unsigned)((channel->until - now + SECOND_NS - 1) / SECOND_NS);
	return channel_wait(channel->fd, events, channel->stop, patience, err);
}

int channel_open(struct channel *channel, int fd, int stop, const struct mtls *tls, bool listens,
	unsigned patience, struct error *err)
{
	int ret = 0;

	*channel = (struct channel){.fd = fd, .stop = stop, .patience = CHANNEL_PATIENCE_S};
	if (patience)
		channel->until = clock_ns() + patience * SECOND_NS;
	if (tls)
		ret = mtls_begin(tls, channel, listens, err);
	return ret;
}

void channel_close(struct channel *channel)
{
	mtls_end(channel->tls);
	channel->tls = NULL;
	if (channel->fd >= 0)
		close(channel->fd);
	channel->fd = -1;
}

/* Once, without waiting; -EAGAIN: @events say for what. */
static ssize_t put_once(struct channel *channel, const void *bytes, size_t length, short *events)
{
	ssize_t put;

	*events = POLLOUT;
	if (channel->tls)
		return mtls_put(channel->tls, bytes, length, events);
	put = send(channel->fd, bytes, length, MSG_NOSIGNAL);
	return put < 0 ? -errno : put;
}

static ssize_t take_once(struct channel *channel, void *bytes, size_t length, short *events)
{
	ssize_t got;

	*events = POLLIN;
	if (channel->tls)
		return mtls_take(channel->tls, bytes, length, events);
	got = recv(channel->fd, bytes, length, 0);
	return got < 0 ? -errno : got;
}

static int put(struct channel *channel, const void *bytes, size_t length, struct error *err)
{
	const uint8_t *at = bytes;

	while (length) {
		short events;
		ssize_t done = put_once(channel, at, length, &events);
		int ret = 0;

		if (done == -EAGAIN)
			ret = channel_await(channel, events, err);
		else if (done == -EPIPE || done == -ECONNRESET)
			ret = is_gone(err);
		else if (done < 0 && done != -EINTR)
			ret = error_errno(err, (int)-done, "the stream to the other side");
		if (ret < 0)
			return ret;
		if (done > 0) {
			at += done;
			length -= (size_t)done;
			channel->sent += (uint64_t)done;
		}
	}
	return 0;
}

static int take(struct channel *channel, void *bytes, size_t length, struct error *err)
{
	uint8_t *at = bytes;

	while (length) {
		short events;
		ssize_t done = take_once(channel, at, length, &events);
		int ret = 0;

		if (done == -EAGAIN)
			ret = channel_await(channel, events, err);
		else if (done == 0 || done == -ECONNRESET || done == -EPIPE)
			ret = is_gone(err);
		else if (done < 0 && done != -EINTR)
			ret = error_errno(err, (int)-done, "the stream from the other side");
		if (ret < 0)
			return ret;
		if (done > 0) {
			at += done;
			length -= (size_t)done;
		}
	}
	return 0;
}

int channel_send(struct channel *channel, enum wire_kind kind, const void *body, size_t length,
	const void *more, size_t more_length, struct error *err)
{
	uint8_t header[WIRE_HEADER];
	int ret;

	wire_seal(header, kind, body, length, more, more_length);
	memcpy(channel->crc, header + WIRE_CRC_AT, sizeof(channel->crc));
	ret = put(channel, header, sizeof(header), err);
	if (ret == 0)
		ret = put(channel, body, length, err);
	if (ret == 0)
		ret = put(channel, more, more_length, err);
	channel->torn = ret < 0;
	return ret;
}

int channel_say(struct channel *channel, enum wire_kind kind, struct error *err)
{
	return channel_send(channel, kind, "", 0, "", 0, err);
}

int message_reserve(struct message *message, size_t size, struct error *err)
{
	uint8_t *body;

	if (message->capacity >= size)
		return 0;
	body = realloc(message->body, size);
	if (!body)
		return error_errno(err, ENOMEM, "a message of %zu bytes", size);
	message->body = body;
	message->capacity = size;
	return 0;
}

/* Memory is had for what has come, not for what was promised. */
#define PIECE (1U << 20)

static int take_body(struct channel *channel, struct message *message, struct error *err)
{
	size_t length = message->header.length, got = 0;
	int ret = message_reserve(message, 1, err);

	while (ret == 0 && got < length) {
		size_t piece = min_u64(length - got, PIECE);

		ret = message_reserve(message, got + piece + 1, err);
		if (ret == 0)
			ret = take(channel, message->body + got, piece, err);
		got += piece;
	}
	if (ret == 0)
		message->body[length] = 0;
	return ret;
}

static int receive_head(struct channel *channel, struct message *message, struct error *err)
{
	uint8_t header[WIRE_HEADER];
	int ret;

	/* Whoever never leaves us waiting is not listened to for ever. */
	if (channel_is_stopped(channel))
		return error_set(err, ECANCELED, "cancelled");
	ret = take(channel, header, sizeof(header), err);
	return ret == 0 ? wire_open(&message->header, header, err) : ret;
}

static int receive_body(struct channel *channel, struct message *message, struct error *err)
{
	int ret = take_body(channel, message, err);

	return ret == 0 ? wire_check(&message->header, message->body, err) : ret;
}

/* The other side's words, made fit for a line of the log. */
static int other_failed(struct message *message, struct error *err)
{
	for (char *at = (char *)message->body; *at; at++)
		if (!isprint((unsigned char)*at))
			*at = '?';
	return error_set(err, EREMOTEIO, "the other side: %.500s",
		*message->body ? (const char *)message->body : "failed");
}

/* What cannot come now may be long, and a stranger's: no memory is had for it. */
int channel_receive_either(struct channel *channel, struct message *message, enum wire_kind kind,
	enum wire_kind other, struct error *err)
{
	int ret = receive_head(channel, message, err);
	const enum wire_kind came = message->header.kind;

	if (ret == 0 && came != kind && came != other && came != WIRE_FAILED)
		return error_set(err, EPROTO, "a message \"%s\" came where \"%s\" was to come",
			wire_name(came), wire_name(kind));
	if (ret == 0)
		ret = receive_body(channel, message, err);
	return ret == 0 && came == WIRE_FAILED ? other_failed(message, err) : ret;
}

int channel_expect(
	struct channel *channel, struct message *message, enum wire_kind kind, struct error *err)
{
	return channel_receive_either(channel, message, kind, kind, err);
}

void message_free(struct message *message)
{
	free(message->body);
	*message = (struct message){0};
}

bool channel_has_word(const struct channel *channel)
{
	struct pollfd fd = {.fd = channel->fd, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

/* Of channel->until. */
static int left_ms(const struct channel *channel)
{
	const uint64_t now = clock_ns();

	return now < channel->until ? (int)((channel->until - now) / 1000000) : 0;
}

bool channel_is_stopped(const struct channel *channel)
{
	struct pollfd fd = {.fd = channel->stop, .events = POLLIN};

	return channel->stop >= 0 && poll(&fd, 1, 0) > 0;
}

void channel_hear_out(struct channel *channel, unsigned milliseconds)
{
	char rest[4096];
	struct pollfd fd = {.fd = channel->fd, .events = POLLIN};

	channel->until = clock_ns() + milliseconds * MS_NS;
	shutdown(channel->fd, SHUT_WR);
	while (poll(&fd, 1, left_ms(channel)) > 0)
		if (recv(channel->fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
			break;
}

bool channel_hear_failed(struct channel *channel, unsigned seconds)
{
	struct message message = {0};
	int ret;

	channel->until = clock_ns() + seconds * SECOND_NS;
	ret = channel_expect(channel, &message, WIRE_FAILED, NULL);
	message_free(&message);
	return ret == -EREMOTEIO;
}

bool channel_say_failed(struct channel *channel, const char *why)
{
	if (channel->fd < 0)
		return false;
	channel->patience = 1;
	channel->until = clock_ns() + FAREWELL_MS * MS_NS;
	return !channel->torn && (!channel->tls || mtls_is_up(channel->tls)) &&
	       channel_send(channel, WIRE_FAILED, why, strnlen(why, 500), "", 0, NULL) == 0;
}

void channel_fail(struct channel *channel, const char *why)
{
	if (channel->fd < 0)
		return;
	/* It is over: who cancels it is not waited for twice, nor a peer that takes nothing. */
	channel->stop = -1;
	channel_say_failed(channel, why);
	channel_hear_out(channel, (unsigned)left_ms(channel));
}
