/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values in the payload of a frame between duet-oci and the guest's agent, little-endian. One
 * function for each type does both ways, so that what is written and what is read is described
 * once, by one function for each message. Who reads trusts nothing: after the first thing that is
 * not as it must be everything reads as empty, and wire_end() says so. Pure, any thread.
 */
#ifndef DUET_OCI_WIRE_H
#define DUET_OCI_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_TEXTS_MAX 4096
#define WIRE_TEXT_MAX  (128U << 10) /* Linux's own limit of one argument */

struct wire {
	bool writing;
	bool bad;
	uint8_t *bytes; /* read: the payload, not ours; written: malloc()ed, the caller's */
	size_t at, length;
};

/* Text that ends by null each, and an end by null. Zero-initialised: none. */
struct texts {
	char **items;
	uint32_t count;
};

struct blob {
	uint8_t *bytes;
	uint32_t length;
};

void wire_read(struct wire *wire, const uint8_t *bytes, size_t length);
void wire_write(struct wire *wire);
/* -EBADMSG: what was read was no such message, or more than it; -ENOMEM: what was to be written did
 * not fit. */
int wire_end(const struct wire *wire);

void wire_u32(struct wire *wire, uint32_t *value);
void wire_u64(struct wire *wire, uint64_t *value);
void wire_bool(struct wire *wire, bool *value);
/* Null is another thing than "". Read: malloc()ed, without a null inside. */
void wire_text(struct wire *wire, char **text);
void wire_texts(struct wire *wire, struct texts *texts);
void wire_blob(struct wire *wire, struct blob *blob);
/* How many elements follow, @most at most. Read: 0 of what is bad. */
uint32_t wire_count(struct wire *wire, uint32_t count, uint32_t most);

/* -ENOMEM. @text is copied. */
int texts_add(struct texts *texts, const char *text);
bool texts_have(const struct texts *texts, const char *text);
void texts_free(struct texts *texts);

#endif
