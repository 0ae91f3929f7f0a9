/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/checked.h"
#include "state/crc32c.h"
#include "state/format.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A section's body starts after name, version and its own length. */
static size_t body_offset(size_t section, size_t name_length)
{
	return section + 2 + name_length + 4 + 4;
}

static void append(struct state_writer *writer, const void *bytes, size_t length)
{
	if (writer->failed || length == 0)
		return;
	if (length > writer->capacity - writer->length) {
		size_t capacity = align_up(writer->length + length, 4096) * 2;
		uint8_t *grown = realloc(writer->bytes, capacity);

		if (!grown) {
			writer->failed = true;
			return;
		}
		writer->bytes = grown;
		writer->capacity = capacity;
	}
	memcpy(writer->bytes + writer->length, bytes, length);
	writer->length += length;
}

void state_writer_init(struct state_writer *writer)
{
	*writer = (struct state_writer){0};
	append(writer, STATE_MAGIC, STATE_MAGIC_LENGTH);
	state_put_u32(writer, STATE_FORMAT_VERSION);
}

void state_writer_free(struct state_writer *writer)
{
	free(writer->bytes);
	*writer = (struct state_writer){0};
}

void state_section_begin(struct state_writer *writer, const char *name, uint32_t version)
{
	size_t length = strnlen(name, STATE_NAME_MAX + 1);

	/* A name too long or a section in a section is an error of the program's: no stream. */
	if (length > STATE_NAME_MAX || writer->section)
		writer->failed = true;
	writer->section = writer->length;
	state_put_u16(writer, (uint16_t)length);
	append(writer, name, length);
	state_put_u32(writer, version);
	state_put_u32(writer, 0); /* length, known at the close */
}

void state_section_close(struct state_writer *writer)
{
	size_t name_length, body, length;
	const uint8_t *name;
	uint32_t crc;

	if (writer->failed || !writer->section)
		return;
	name_length = load_le16(writer->bytes + writer->section);
	name = writer->bytes + writer->section + 2;
	body = body_offset(writer->section, name_length);
	length = writer->length - body;
	writer->section = 0;
	if (length > STATE_SECTION_MAX) {
		writer->failed = true;
		return;
	}
	store_le32(writer->bytes + body - 4, (uint32_t)length);
	crc = crc32c(0, name, name_length + 4);
	crc = crc32c(crc, writer->bytes + body, length);
	state_put_u32(writer, crc);
}

void state_put_u8(struct state_writer *writer, uint8_t value)
{
	append(writer, &value, sizeof(value));
}

void state_put_u16(struct state_writer *writer, uint16_t value)
{
	uint8_t bytes[sizeof(value)];

	store_le16(bytes, value);
	append(writer, bytes, sizeof(bytes));
}

void state_put_u32(struct state_writer *writer, uint32_t value)
{
	uint8_t bytes[sizeof(value)];

	store_le32(bytes, value);
	append(writer, bytes, sizeof(bytes));
}

void state_put_u64(struct state_writer *writer, uint64_t value)
{
	uint8_t bytes[sizeof(value)];

	store_le64(bytes, value);
	append(writer, bytes, sizeof(bytes));
}

void state_put_bool(struct state_writer *writer, bool value)
{
	state_put_u8(writer, value);
}

void state_put_bytes(struct state_writer *writer, const void *bytes, size_t length)
{
	append(writer, bytes, length);
}

int state_writer_finish(struct state_writer *writer)
{
	state_section_begin(writer, STATE_END_NAME, 0);
	state_section_close(writer);
	return writer->failed ? -ENOMEM : 0;
}
