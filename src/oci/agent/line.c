/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/agent/box_private.h"

#include "base/bytes.h"

#include <errno.h>
#include <sys/socket.h>

int line_tell(int line, enum line_type type, const void *payload, size_t length, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	uint8_t kind = (uint8_t)type;
	struct iovec parts[2] = {{&kind, 1}, {(void *)(uintptr_t)payload, length}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.room);
		control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(line, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void take_fd(struct msghdr *head, struct line_message *message)
{
	const struct cmsghdr *control = CMSG_FIRSTHDR(head);

	if (control && control->cmsg_type == SCM_RIGHTS)
		memcpy(&message->fd, CMSG_DATA(control), sizeof(message->fd));
}

int line_hear(int line, struct line_message *message, struct error *err)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	uint8_t bytes[sizeof(err->text) + 1];
	struct iovec part = {bytes, sizeof(bytes) - 1};
	struct msghdr head = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	const ssize_t got = recvmsg(line, &head, MSG_CMSG_CLOEXEC);

	*message = (struct line_message){.fd = -1};
	if (got < 0)
		return error_set(
			err, errno, "a process of the container is stuck before it begins");
	if (got == 0)
		return 0;
	bytes[got] = 0;
	take_fd(&head, message);
	message->type = (enum line_type)bytes[0];
	if (message->type == LINE_FAILED)
		return error_set(err, EINVAL, "%s", bytes + 1);
	if (got == 5)
		message->number = load_le32(bytes + 1);
	return 0;
}
