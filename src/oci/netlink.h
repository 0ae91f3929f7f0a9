/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of rtnetlink, and the few questions that a container's network needs: of the host's side
 * (which cards are in a namespace, their addresses and routes) and of the guest's (the same put
 * in place). One thread; a socket belongs to the network namespace in which it was opened.
 */
#ifndef DUET_OCI_NETLINK_H
#define DUET_OCI_NETLINK_H

#include "oci/setup.h"

#include <linux/rtnetlink.h>

#define NETLINK_ROOM 2048

struct netlink_message {
	struct nlmsghdr head; /* of nlmsg_len bytes, from here on */
	uint8_t room[NETLINK_ROOM];
};

int netlink_open(void);

/* A message of @type; its body is copied. */
void netlink_begin(struct netlink_message *message, uint16_t type, uint16_t flags, const void *body,
	size_t length);
void netlink_add(struct netlink_message *message, uint16_t type, const void *value, size_t length);
/* Attributes between the two are within @type. */
size_t netlink_nest(struct netlink_message *message, uint16_t type);
void netlink_nest_end(struct netlink_message *message, size_t nest);
/* Sends it and waits for the answer: 0 or what the kernel says. */
int netlink_do(int fd, struct netlink_message *message);
/* Sends it and calls @each with every message of the answer. */
int netlink_dump(int fd, struct netlink_message *message,
	void (*each)(void *opaque, const struct nlmsghdr *head), void *opaque);
/* Attribute @type of those behind a body of @body bytes; null: there is none of at least @length
 * bytes. */
const void *netlink_find(const struct nlmsghdr *head, size_t body, uint16_t type, size_t length);

/* ---- the guest's side ---- */

/* The card of the link's hardware address gets its name, addresses and routes. */
int netlink_configure(int fd, const struct link *link);
/* Up, by index. */
int netlink_up(int fd, int index);

#endif
