/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/checked.h"
#include "state/crc32c.h"
#include "state/format.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

int state_reader_init(
	struct state_reader *reader, const void *bytes, size_t length, struct error *err)
{
	*reader = (struct state_reader){.bytes = bytes, .length = length, .failed = true};
	if (length < STATE_HEADER_LENGTH || memcmp(bytes, STATE_MAGIC, STATE_MAGIC_LENGTH) != 0)
		return error_set(err, EINVAL, "saved state: this is no state saved by duet");
	if (load_le32(reader->bytes + STATE_MAGIC_LENGTH) != STATE_FORMAT_VERSION)
		return error_set(err, EINVAL,
			"saved state: format %u, this duet reads format %u; use the duet that "
			"saved it",
			load_le32(reader->bytes + STATE_MAGIC_LENGTH), STATE_FORMAT_VERSION);
	reader->at = STATE_HEADER_LENGTH;
	reader->failed = false;
	return 0;
}

/* The next @length bytes up to @end, or null: then the reader has failed. */
static const uint8_t *take(struct state_reader *reader, size_t length, size_t end)
{
	const uint8_t *bytes = reader->bytes + reader->at;

	if (reader->failed || !range_within(reader->at, length, end)) {
		reader->failed = true;
		return NULL;
	}
	reader->at += length;
	return bytes;
}

static bool next_name(struct state_reader *reader)
{
	const uint8_t *bytes = take(reader, 2, reader->length);
	size_t length = bytes ? load_le16(bytes) : 0;

	if (length > STATE_NAME_MAX)
		reader->failed = true;
	bytes = take(reader, length, reader->length);
	if (!bytes || memchr(bytes, 0, length)) {
		reader->failed = true;
		return false;
	}
	memcpy(reader->name, bytes, length);
	reader->name[length] = 0;
	return true;
}

static bool checksum_right(const struct state_reader *reader, const uint8_t *version,
	const uint8_t *body, size_t length)
{
	uint32_t crc = crc32c(0, reader->name, strlen(reader->name));

	crc = crc32c(crc, version, 4);
	crc = crc32c(crc, body, length);
	return crc == load_le32(body + length);
}

static bool next_section(struct state_reader *reader)
{
	const uint8_t *head, *body;
	size_t length, start;

	if (!next_name(reader))
		return false;
	head = take(reader, 8, reader->length);
	if (!head)
		return false;
	length = load_le32(head + 4);
	start = reader->at;
	body = length <= STATE_SECTION_MAX ? take(reader, length + 4, reader->length) : NULL;
	if (!body || !checksum_right(reader, head, body, length))
		return false;
	reader->version = load_le32(head);
	reader->at = start;
	reader->section_end = start + length;
	return true;
}

int state_section_next(struct state_reader *reader, struct error *err)
{
	size_t start = reader->at;

	if (reader->section_end || !next_section(reader)) {
		reader->failed = true;
		return error_set(err, EINVAL,
			"saved state: broken section at byte %zu; the file is damaged or cut short",
			start);
	}
	if (strcmp(reader->name, STATE_END_NAME) != 0)
		return 1;
	if (reader->at != reader->section_end)
		return error_set(err, EINVAL, "saved state: its end is damaged");
	return 0;
}

uint8_t state_get_u8(struct state_reader *reader)
{
	const uint8_t *bytes = take(reader, 1, reader->section_end);

	return bytes ? *bytes : 0;
}

uint16_t state_get_u16(struct state_reader *reader)
{
	const uint8_t *bytes = take(reader, 2, reader->section_end);

	return bytes ? load_le16(bytes) : 0;
}

uint32_t state_get_u32(struct state_reader *reader)
{
	const uint8_t *bytes = take(reader, 4, reader->section_end);

	return bytes ? load_le32(bytes) : 0;
}

uint64_t state_get_u64(struct state_reader *reader)
{
	const uint8_t *bytes = take(reader, 8, reader->section_end);

	return bytes ? load_le64(bytes) : 0;
}

bool state_get_bool(struct state_reader *reader)
{
	uint8_t value = state_get_u8(reader);

	if (value > 1)
		reader->failed = true;
	return value == 1;
}

void state_get_bytes(struct state_reader *reader, void *to, size_t length)
{
	const uint8_t *bytes = take(reader, length, reader->section_end);

	if (bytes)
		memcpy(to, bytes, length);
	else
		memset(to, 0, length);
}

int state_section_skip(struct state_reader *reader, struct error *err)
{
	if (!reader->failed && reader->section_end)
		reader->at = reader->section_end;
	return state_section_end(reader, err);
}

int state_section_end(struct state_reader *reader, struct error *err)
{
	if (!reader->failed && reader->section_end && reader->at == reader->section_end) {
		reader->section_end = 0;
		reader->at += 4; /* the checksum, seen by state_section_next() */
		return 0;
	}
	reader->failed = true;
	return error_set(err, EINVAL, "saved state: section %s does not have the length expected",
		reader->name);
}
