/* SPDX-License-Identifier: Apache-2.0 */
/* A machine through a pipe: its configuration and its state, each behind its length, then each page
 * that is not zero behind its address. */
#include "life.h"

#include "base/cleanup.h"
#include "memory/memory.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

static void put(FILE *file, const void *bytes, uint64_t length)
{
	fwrite(&length, sizeof(length), 1, file);
	fwrite(bytes, 1, length, file);
}

static void send_memory(struct machine *machine, FILE *file)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(machine_memory(machine), i)); i++) {
		for (uint64_t at = 0; at < region->size; at += MEMORY_PAGE) {
			uint64_t gpa = region->base.value + at;

			if (memory_page_is_zero(region->mapped_at + at))
				continue;
			fwrite(&gpa, sizeof(gpa), 1, file);
			fwrite(region->mapped_at + at, MEMORY_PAGE, 1, file);
		}
	}
}

int transfer_send(struct machine *machine, int fd, struct error *err)
{
	_cleanup_fclose_ FILE *file = fdopen(fd, "w");
	_cleanup_free_ char *config = NULL;
	struct state_writer writer;
	int ret = machine_config_write(machine_config(machine), &config, err);

	state_writer_init(&writer);
	if (ret == 0)
		ret = machine_save(machine, &writer, err);
	if (ret == 0 && state_writer_finish(&writer) < 0)
		ret = error_errno(err, ENOMEM, "state");
	if (ret == 0) {
		put(file, config, strlen(config));
		put(file, writer.bytes, writer.length);
		send_memory(machine, file);
	}
	if (ret == 0 && fflush(file) != 0)
		ret = error_errno(err, errno, "move");
	state_writer_free(&writer);
	return ret;
}

static int read_all(struct transfer *transfer, int fd, struct error *err)
{
	size_t capacity = 0;
	ssize_t got;

	do {
		if (transfer->length == capacity) {
			capacity = capacity ? 2 * capacity : 1U << 24;
			transfer->bytes = realloc(transfer->bytes, capacity);
			if (!transfer->bytes)
				return error_errno(err, ENOMEM, "incoming");
		}
		got = read(fd, transfer->bytes + transfer->length, capacity - transfer->length);
		if (got < 0)
			return error_errno(err, errno, "incoming");
		transfer->length += (size_t)got;
	} while (got > 0);
	return 0;
}

static const void *take(struct transfer *transfer, void *number, uint64_t length)
{
	const uint8_t *bytes = transfer->bytes + transfer->at;

	if (length > transfer->length - transfer->at)
		return NULL;
	if (number)
		memcpy(number, bytes, length);
	transfer->at += length;
	return bytes;
}

int transfer_receive(
	struct transfer *transfer, int fd, struct machine_config *config, struct error *err)
{
	int ret = read_all(transfer, fd, err);
	const char *text = NULL;
	uint64_t length;

	if (ret < 0)
		return ret;
	if (take(transfer, &length, sizeof(length)))
		text = take(transfer, NULL, length);
	if (!text)
		return error_set(err, EPIPE, "incoming: nothing came");
	machine_config_init(config);
	ret = machine_config_read(config, text, length, "incoming", err);
	return ret < 0 ? ret : machine_config_complete(config, err);
}

int transfer_apply(struct transfer *transfer, struct machine *machine, struct error *err)
{
	struct state_reader reader;
	const void *state = NULL;
	uint64_t length, gpa;
	int ret;

	if (take(transfer, &length, sizeof(length)))
		state = take(transfer, NULL, length);
	if (!state)
		return error_set(err, EPIPE, "incoming: no state came");
	while (take(transfer, &gpa, sizeof(gpa))) {
		const void *page = take(transfer, NULL, MEMORY_PAGE);

		if (!page || memory_write(machine_memory(machine), GPA(gpa), page, MEMORY_PAGE) < 0)
			return error_set(err, EPIPE, "incoming: memory is cut off");
	}
	ret = state_reader_init(&reader, state, length, err);
	if (ret == 0)
		ret = machine_restore(machine, &reader, err);
	free(transfer->bytes);
	*transfer = (struct transfer){0};
	return ret;
}
