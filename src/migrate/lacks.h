/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages are to come after the hand-over, as bodies of messages, one for each 128 MiB in which
 * there are some:
 *
 *   u64 address   u32 pages   u32 0   then a bit for each page, in words of 64 bits
 *
 * Bits rather than runs: where a guest writes here and there they are fewer, and they are never
 * many. Any thread.
 */
#ifndef DUET_MIGRATE_LACKS_H
#define DUET_MIGRATE_LACKS_H

#include "memory/memory.h"

struct channel;

#define LACKS_HEAD     16
#define LACKS_WORDS    512
#define LACKS_BODY_MAX (LACKS_HEAD + LACKS_WORDS * 8)

/* 64 pages, at a multiple of as many from the start of a region. */
struct lacks_ops {
	uint64_t (*get)(void *opaque, gpa_t gpa); /* their bits */
	void (*put)(void *opaque, gpa_t gpa, uint64_t bits);
};

/* Says all of @memory, as get() has it. */
int lacks_say(struct channel *channel, const struct memory *memory, const struct lacks_ops *ops,
	void *opaque, struct error *err);
/* A body from the other side, for put(). *@after: the end of the one before, 0 at first: each is
 * behind it. -EPROTO, -EFAULT, and then nothing was put. */
int lacks_take(const struct memory *memory, const uint8_t *body, size_t length, uint64_t *after,
	const struct lacks_ops *ops, void *opaque, struct error *err);

#endif
