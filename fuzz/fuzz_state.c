/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state from a hostile peer: the raw stream, and a stream with right checksums. */
#include "input.h"
#include "machine/sections.h"
#include "state/state.h"

#include <stdlib.h>

static void read_something(struct state_reader *reader, uint8_t what)
{
	uint8_t bytes[64];

	switch (what & 7) {
	case 0:
		state_get_u8(reader);
		break;
	case 1:
		state_get_u16(reader);
		break;
	case 2:
		state_get_u32(reader);
		break;
	case 3:
		state_get_u64(reader);
		break;
	case 4:
		state_get_bool(reader);
		break;
	default:
		state_get_bytes(reader, bytes, what >> 2);
		break;
	}
}

static void read_stream(const uint8_t *bytes, size_t length)
{
	/* A copy of that very size, so that the sanitizer sees a byte too much. */
	uint8_t *copy = malloc(length ? length : 1);
	struct input choices = {bytes, length};
	struct state_reader reader;
	struct error err;

	if (length)
		memcpy(copy, bytes, length);
	if (state_reader_init(&reader, copy, length, &err) == 0) {
		while (state_section_next(&reader, &err) == 1) {
			for (unsigned i = 0; i < 32; i++)
				read_something(&reader, (uint8_t)input_number(&choices, 1));
			if (reader.section_end && !reader.failed)
				reader.at = reader.section_end;
			state_section_end(&reader, &err);
		}
	}
	free(copy);
}

/* As a machine does, which asks for its own by name. */
static void read_sections(const uint8_t *bytes, size_t length)
{
	static const char *const names[] = {"sa", "sb", "sc", "sd"};
	struct sections sections;
	struct state_reader reader, *section;
	struct error err;

	if (state_reader_init(&reader, bytes, length, &err) < 0)
		return;
	if (sections_read(&sections, &reader, &err) == 0) {
		for (unsigned i = 0; i < 4; i++)
			if (sections_open(&sections, names[i], 1, &section, &err) == 0) {
				state_get_u64(section);
				state_section_end(section, &err);
			}
		sections_all_opened(&sections, &err);
	}
	sections_free(&sections);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct state_writer writer;

	read_stream(data, size);
	read_sections(data, size);
	state_writer_init(&writer);
	while (input.left) {
		char name[8] = {'s', (char)('a' + (input_number(&input, 1) & 15)), 0};
		uint8_t body[256];
		size_t length = input_number(&input, 1);

		input_bytes(&input, body, length);
		state_section_begin(&writer, name, 1);
		state_put_bytes(&writer, body, length);
		state_section_close(&writer);
	}
	if (state_writer_finish(&writer) == 0) {
		read_stream(writer.bytes, writer.length);
		read_sections(writer.bytes, writer.length);
	}
	state_writer_free(&writer);
	return 0;
}
