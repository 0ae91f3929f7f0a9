/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state: explicit little-endian fields in versioned sections.
 *
 * A stream is: magic "DUETSAVE", u32 format version, then sections, then a closing section named
 * "end". A section is: u16 length of the name, the name, u32 version, u32 length of the body,
 * body, u32 CRC-32C of name, version and body. A device has one section, named after its type and
 * its stable id ("virtio-block/disk0").
 *
 * The writer grows a buffer and never fails but for memory, which it remembers: check
 * state_writer_finish() once. The reader works on a buffer, never reads past it, and once it
 * failed every further read returns 0 and state_section_end() reports the failure: a stream from
 * a hostile peer needs no check per field, but each VALUE must be checked before use.
 *
 * One thread at a time.
 */
#ifndef DUET_STATE_STATE_H
#define DUET_STATE_STATE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_NAME_MAX    96
#define STATE_SECTION_MAX (16U << 20)

struct state_writer {
	uint8_t *bytes;
	size_t length, capacity;
	size_t section; /* offset of the open section, 0 when none */
	bool failed;
};

void state_writer_init(struct state_writer *writer);
void state_writer_free(struct state_writer *writer);
void state_section_begin(struct state_writer *writer, const char *name, uint32_t version);
void state_section_close(struct state_writer *writer);
void state_put_u8(struct state_writer *writer, uint8_t value);
void state_put_u16(struct state_writer *writer, uint16_t value);
void state_put_u32(struct state_writer *writer, uint32_t value);
void state_put_u64(struct state_writer *writer, uint64_t value);
void state_put_bool(struct state_writer *writer, bool value);
/* Raw bytes of a length both sides know; for a variable length put it first. */
void state_put_bytes(struct state_writer *writer, const void *bytes, size_t length);
/* Writes the closing section. -ENOMEM when any put ran out of memory. */
int state_writer_finish(struct state_writer *writer);

struct state_reader {
	const uint8_t *bytes;
	size_t length;
	size_t at;                     /* next byte */
	size_t section_end;            /* one past the open section's body, 0 when none */
	char name[STATE_NAME_MAX + 1]; /* of the open section */
	uint32_t version;              /* of the open section */
	bool failed;
};

/* @bytes stays the caller's and must outlive the reader. -EINVAL when the magic is wrong. */
int state_reader_init(
	struct state_reader *reader, const void *bytes, size_t length, struct error *err);
/* Opens the next section (checksum checked). 1: there is one; 0: the closing section was met;
 * negative: the stream is broken. */
int state_section_next(struct state_reader *reader, struct error *err);
uint8_t state_get_u8(struct state_reader *reader);
uint16_t state_get_u16(struct state_reader *reader);
uint32_t state_get_u32(struct state_reader *reader);
uint64_t state_get_u64(struct state_reader *reader);
bool state_get_bool(struct state_reader *reader);
void state_get_bytes(struct state_reader *reader, void *to, size_t length);
/* Past the open section, unread. */
int state_section_skip(struct state_reader *reader, struct error *err);
/* -EINVAL when a read ran past the section, or when bytes are left over. */
int state_section_end(struct state_reader *reader, struct error *err);

#endif
