/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/frame.h"

#include "base/bytes.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

uint32_t frame_agent_takes(uint32_t type)
{
	switch (type) {
	case FRAME_SETUP:
		return FRAME_SETUP_MAX;
	case FRAME_EXEC:
		return FRAME_LIST_MAX;
	case FRAME_INPUT:
		return FRAME_DATA_MAX;
	case FRAME_START:
	case FRAME_KILL:
	case FRAME_LIST:
	case FRAME_USAGE:
	case FRAME_RESIZE:
	case FRAME_SIGNAL:
		return FRAME_TEXT_MAX;
	default:
		return 0;
	}
}

uint32_t frame_host_takes(uint32_t type)
{
	switch (type) {
	case FRAME_OK:
		return FRAME_LIST_MAX;
	case FRAME_OUTPUT:
	case FRAME_ERRORS:
		return FRAME_DATA_MAX;
	case FRAME_FAILED:
	case FRAME_TAKEN:
	case FRAME_EXIT:
		return FRAME_TEXT_MAX;
	default:
		return 0;
	}
}

/* Some more bytes into [@at, @at + @length). 1: all; 0: not yet. */
static int fill(struct frame_input *input, int fd, uint8_t *at, size_t length)
{
	ssize_t got;

	while (length) {
		got = recv(fd, at, length, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (got == 0)
			return input->filled ? -ECONNRESET : -EPIPE;
		input->filled += (size_t)got;
		at += got;
		length -= (size_t)got;
	}
	return 1;
}

static int begin(struct frame_input *input)
{
	const uint32_t length = load_le32(input->head + 4);
	const uint32_t limit = input->limit(load_le32(input->head));

	if (!limit || length > limit)
		return -EBADMSG;
	free(input->payload);
	input->payload = malloc(length + 1UL);
	return input->payload ? 0 : -ENOMEM;
}

int frame_take(struct frame_input *input, int fd, struct frame *frame)
{
	uint32_t length;
	int ret;

	if (input->filled < FRAME_HEAD) {
		ret = fill(input, fd, input->head + input->filled, FRAME_HEAD - input->filled);
		if (ret > 0)
			ret = begin(input) ?: 1;
		if (ret <= 0)
			return ret;
	}
	length = load_le32(input->head + 4);
	ret = fill(input, fd, input->payload + (input->filled - FRAME_HEAD),
		length - (input->filled - FRAME_HEAD));
	if (ret <= 0)
		return ret;
	*frame = (struct frame){load_le32(input->head), length, input->payload};
	input->filled = 0;
	return 1;
}

/* 0: readable; -ETIMEDOUT. */
static int wait_readable(int fd, int patience_ms)
{
	struct pollfd item = {.fd = fd, .events = POLLIN};
	int ret = poll(&item, 1, patience_ms);

	if (ret < 0 && errno != EINTR)
		return -errno;
	return ret == 0 ? -ETIMEDOUT : 0;
}

int frame_wait(struct frame_input *input, int fd, int patience_ms, struct frame *frame)
{
	const uint64_t until = clock_ns() + (uint64_t)(patience_ms < 0 ? 0 : patience_ms) * MS_NS;
	uint64_t now;
	int ret;

	do {
		now = clock_ns();
		if (patience_ms >= 0 && now > until)
			return -ETIMEDOUT;
		ret = wait_readable(fd, patience_ms < 0 ? -1 : (int)((until - now) / MS_NS + 1));
		if (ret < 0)
			return ret;
		ret = frame_take(input, fd, frame);
	} while (ret == 0);
	return ret < 0 ? ret : 0;
}

void frame_input_free(struct frame_input *input)
{
	free(input->payload);
	input->payload = NULL;
	input->filled = 0;
}

static int wait_writable(int fd)
{
	struct pollfd item = {.fd = fd, .events = POLLOUT};

	return poll(&item, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

static int send_all(int fd, const uint8_t *bytes, size_t length)
{
	ssize_t sent;
	int ret;

	while (length) {
		/* A peer that is gone is an error, not a signal. */
		sent = send(fd, bytes, length, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			ret = wait_writable(fd);
			if (ret < 0)
				return ret;
			continue;
		}
		if (sent < 0 && errno != EINTR)
			return -errno;
		if (sent > 0) {
			bytes += sent;
			length -= (size_t)sent;
		}
	}
	return 0;
}

int frame_send(int fd, uint32_t type, const void *payload, uint32_t length)
{
	uint8_t head[FRAME_HEAD];
	int ret;

	store_le32(head, type);
	store_le32(head + 4, length);
	ret = send_all(fd, head, sizeof(head));
	return ret < 0 ? ret : send_all(fd, payload, length);
}

int frame_send_numbers(int fd, uint32_t type, uint32_t first, uint32_t second)
{
	uint8_t payload[8];

	store_le32(payload, first);
	store_le32(payload + 4, second);
	return frame_send(fd, type, payload, sizeof(payload));
}

int frame_numbers(const struct frame *frame, uint32_t *first, uint32_t *second)
{
	if (frame->length != 8)
		return -EBADMSG;
	*first = load_le32(frame->payload);
	*second = load_le32(frame->payload + 4);
	return 0;
}
