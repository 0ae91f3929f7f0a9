/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/guest.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* What answers at once if it answers at all, on a machine that is not stuck. */
#define PATIENCE_MS 30000

int guest_socket(int dir, const char *name, bool listens)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr *place = (const void *)&address;
	int code;

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
	if (listens ? bind(fd, place, sizeof(address)) == 0 && listen(fd, 8) == 0
		    : connect(fd, place, sizeof(address)) == 0)
		return fd;
	code = errno;
	close(fd);
	return -code;
}

/* The line by which duet knows which port is meant, and its answer. */
static int greet(int fd)
{
	const struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
	char line[32];
	size_t length = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	snprintf(line, sizeof(line), "CONNECT %d\n", AGENT_PORT);
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		return -errno;
	/* Not a byte of what follows. */
	while (length < sizeof(line) - 1) {
		const ssize_t got = recv(fd, line + length, 1, 0);

		if (got <= 0)
			return got < 0 ? -errno : -ECONNREFUSED;
		if (line[length++] == '\n')
			return strncmp(line, "OK ", 3) == 0 ? 0 : -EPROTO;
	}
	return -EPROTO;
}

int guest_connect(const struct container *container, struct error *err)
{
	_cleanup_close_ int fd = guest_socket(container->dir, GUEST_SOCKET, false);
	int ret = fd < 0 ? fd : greet(fd);

	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return error_set(err, ESRCH, "container %s does not run", container->id);
	if (ret == -EAGAIN)
		return error_set(err, ETIMEDOUT,
			"the machine of container %s does not answer; "
			"duet-oci kill %s KILL ends it",
			container->id, container->id);
	if (ret < 0)
		return error_errno(err, -ret, "the machine of container %s", container->id);
	return steal_fd(&fd);
}

/* They are a guest's: nothing that a terminal would take for a command. */
static int take_words(const struct frame *frame, struct error *err)
{
	const int ret =
		error_set(err, EINVAL, "%.*s", (int)frame->length, (const char *)frame->payload);

	for (char *at = err ? err->text : NULL; at && *at; at++)
		if ((unsigned char)*at < ' ' || *at == 127)
			*at = '?';
	return ret;
}

int guest_answer(
	int fd, struct frame_input *input, int patience_ms, struct frame *frame, struct error *err)
{
	int ret = frame_wait(input, fd, patience_ms, frame);

	if (ret == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT, "the container's machine does not answer");
	if (ret < 0)
		return error_set(err, ECONNRESET, "the container's machine has ended");
	if (frame->type == FRAME_FAILED)
		return take_words(frame, err);
	return frame->type == FRAME_OK ? 0
				       : error_set(err, EPROTO,
						 "the container's machine said something else "
						 "than was asked");
}

/* A question of two numbers; the answer's payload, if @wire, is read by @take. */
static int ask(const struct container *container, const uint32_t question[3],
	void (*take)(struct wire *wire, void *result), void *result, struct error *err)
{
	struct frame_input input = {.limit = frame_host_takes};
	_cleanup_close_ int fd = guest_connect(container, err);
	struct frame frame;
	struct wire wire;
	int ret = fd < 0 ? fd : frame_send_numbers(fd, question[0], question[1], question[2]);

	if (fd >= 0 && ret < 0)
		error_errno(err, -ret, "the container's machine");
	if (ret == 0)
		ret = guest_answer(fd, &input, PATIENCE_MS, &frame, err);
	if (ret == 0 && take) {
		wire_read(&wire, frame.payload, frame.length);
		take(&wire, result);
		ret = wire_end(&wire);
		if (ret < 0)
			error_set(err, EPROTO, "the container's machine answered nonsense");
	}
	frame_input_free(&input);
	return ret;
}

static void take_listing(struct wire *wire, void *result)
{
	wire_listing(wire, result);
}

static void take_usage(struct wire *wire, void *result)
{
	wire_usage(wire, result);
}

int guest_start(const struct container *container, struct error *err)
{
	return ask(container, (const uint32_t[]){FRAME_START, 0, 0}, NULL, NULL, err);
}

int guest_kill(const struct container *container, int signal, bool all, struct error *err)
{
	return ask(
		container, (const uint32_t[]){FRAME_KILL, (uint32_t)signal, all}, NULL, NULL, err);
}

int guest_list(const struct container *container, struct listing *listing, struct error *err)
{
	return ask(container, (const uint32_t[]){FRAME_LIST, 0, 0}, take_listing, listing, err);
}

int guest_usage(const struct container *container, struct usage *usage, struct error *err)
{
	return ask(container, (const uint32_t[]){FRAME_USAGE, 0, 0}, take_usage, usage, err);
}
