/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's state file: the raw bytes, and one with right checksums; what was taken is used. */
#include "input.h"

#include "machine/config.h"
#include "snapshot/read.h"
#include "snapshot/restore.h"
#include "state/state.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE_MOST (64ULL << 20) /* bytes of memory that pages are read of */

static void read_pages(const struct snapshot *snapshot)
{
	static uint8_t bytes[CHUNK_BYTES];
	int fd = memfd_create("memory", MFD_CLOEXEC);
	const uint64_t size = snapshot_head_size(&snapshot->head);
	struct error err;

	if (size <= SIZE_MOST && snapshot_marks_write(fd, size, &snapshot->head.id, true) == 0) {
		snapshot_marks_check(fd, size, &snapshot->head.id, true, "memory", &err);
		for (uint64_t chunk = 0; chunk < pages_chunks(&snapshot->pages); chunk++)
			pages_read(&snapshot->pages, chunk, bytes, fd);
	}
	close(fd);
}

static void parse(const uint8_t *bytes, size_t length)
{
	struct snapshot snapshot = {.memory_fd = -1, .length = length};
	struct machine_config config;
	struct error err;

	/* A copy of that very size, so that the sanitizer sees a byte too much. */
	snapshot.bytes = malloc(length ? length : 1);
	snapshot.name = strdup("state");
	if (length)
		memcpy(snapshot.bytes, bytes, length);
	if (snapshot_parse(&snapshot, &err) == 0) {
		read_pages(&snapshot);
		snapshot_config(&snapshot, &config, &err);
		machine_config_free(&config);
	}
	snapshot_close(&snapshot);
}

static void put_head(struct state_writer *writer, struct input *input)
{
	const unsigned regions = input_number(input, 1) & 15;

	state_section_begin(writer, "snapshot", 1 + (input_number(input, 1) == 1));
	for (unsigned i = 0; i < 32; i++)
		state_put_u8(writer, (uint8_t)input_number(input, 1));
	state_put_u32(writer, regions);
	for (unsigned i = 0; i < regions; i++) {
		state_put_u64(writer, input_number(input, 8));
		/* Often sane. */
		state_put_u64(writer, input_number(input, 2) << 18);
	}
	state_section_close(writer);
}

static void put_section(struct state_writer *writer, const char *name, struct input *input)
{
	uint8_t body[512];
	size_t length = input_number(input, 2) % sizeof(body);

	input_bytes(input, body, length);
	state_section_begin(writer, name, 1);
	state_put_bytes(writer, body, length);
	state_section_close(writer);
}

static void parse_made(struct input *input)
{
	struct state_writer writer, machine;

	state_writer_init(&writer);
	state_writer_init(&machine);
	put_head(&writer, input);
	put_section(&writer, "config", input);
	put_section(&writer, "pages/0", input);
	if (input_number(input, 1) & 1)
		put_section(&writer, "pages/1", input);
	put_section(&machine, "machine", input);
	if (state_writer_finish(&writer) == 0 && state_writer_finish(&machine) == 0) {
		size_t length = writer.length + machine.length;
		uint8_t *both = malloc(length);

		memcpy(both, writer.bytes, writer.length);
		memcpy(both + writer.length, machine.bytes, machine.length);
		parse(both, length);
		free(both);
	}
	state_writer_free(&writer);
	state_writer_free(&machine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	parse(data, size);
	parse_made(&input);
	return 0;
}
