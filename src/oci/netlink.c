/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/netlink.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_ROOM 32768

int netlink_open(void)
{
	const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	const struct timeval patience = {.tv_sec = 10};

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

void netlink_begin(struct netlink_message *message, uint16_t type, uint16_t flags, const void *body,
	size_t length)
{
	memset(message, 0, sizeof(*message));
	message->head.nlmsg_len = NLMSG_LENGTH((uint32_t)length);
	message->head.nlmsg_type = type;
	message->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	message->head.nlmsg_seq = 1;
	memcpy(message->room, body, length);
}

void netlink_add(struct netlink_message *message, uint16_t type, const void *value, size_t length)
{
	const size_t at = NLMSG_ALIGN(message->head.nlmsg_len);
	struct rtattr *attribute = (void *)((uint8_t *)message + at);

	/* What is too long is cut off, and the kernel says so. */
	if (at + RTA_SPACE(length) > sizeof(*message))
		return;
	attribute->rta_type = type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(length);
	if (length)
		memcpy(RTA_DATA(attribute), value, length);
	message->head.nlmsg_len = (uint32_t)(at + RTA_LENGTH(length));
}

size_t netlink_nest(struct netlink_message *message, uint16_t type)
{
	const size_t at = NLMSG_ALIGN(message->head.nlmsg_len);

	netlink_add(message, type, NULL, 0);
	return at;
}

void netlink_nest_end(struct netlink_message *message, size_t nest)
{
	struct rtattr *attribute = (void *)((uint8_t *)message + nest);

	attribute->rta_len = (unsigned short)(message->head.nlmsg_len - nest);
}

/* 1: the end; 0: more is to come. */
static int take_one(const struct nlmsghdr *head,
	void (*each)(void *opaque, const struct nlmsghdr *head), void *opaque)
{
	const struct nlmsgerr *failed = NLMSG_DATA(head);

	if (head->nlmsg_type == NLMSG_ERROR)
		return head->nlmsg_len < NLMSG_LENGTH(sizeof(*failed)) ? -EPROTO
		       : failed->error                                 ? failed->error
								       : 1;
	if (head->nlmsg_type == NLMSG_DONE)
		return 1;
	if (each)
		each(opaque, head);
	return 0;
}

static int hear(int fd, void (*each)(void *opaque, const struct nlmsghdr *head), void *opaque)
{
	_cleanup_free_ uint8_t *answer = malloc(ANSWER_ROOM);
	const struct nlmsghdr *head;
	ssize_t got;
	int ret = 0;

	while (ret == 0) {
		got = answer ? recv(fd, answer, ANSWER_ROOM, 0) : -1;
		if (got < 0)
			return answer ? -errno : -ENOMEM;
		head = (const void *)answer;
		for (uint32_t left = (uint32_t)got; ret == 0 && NLMSG_OK(head, left);
			head = NLMSG_NEXT(head, left))
			ret = take_one(head, each, opaque);
	}
	return ret < 0 ? ret : 0;
}

int netlink_dump(int fd, struct netlink_message *message,
	void (*each)(void *opaque, const struct nlmsghdr *head), void *opaque)
{
	message->head.nlmsg_flags |= NLM_F_DUMP;
	if (send(fd, message, message->head.nlmsg_len, 0) < 0)
		return -errno;
	return hear(fd, each, opaque);
}

int netlink_do(int fd, struct netlink_message *message)
{
	message->head.nlmsg_flags |= NLM_F_ACK;
	if (send(fd, message, message->head.nlmsg_len, 0) < 0)
		return -errno;
	return hear(fd, NULL, NULL);
}

const void *netlink_find(const struct nlmsghdr *head, size_t body, uint16_t type, size_t length)
{
	const struct rtattr *attribute =
		(const void *)((const uint8_t *)NLMSG_DATA(head) + NLMSG_ALIGN(body));
	uint32_t left;

	if (head->nlmsg_len < NLMSG_LENGTH(body))
		return NULL;
	left = head->nlmsg_len - (uint32_t)NLMSG_LENGTH(NLMSG_ALIGN(body));
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if ((attribute->rta_type & NLA_TYPE_MASK) == type)
			return RTA_PAYLOAD(attribute) >= length ? RTA_DATA(attribute) : NULL;
	return NULL;
}
