/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/read.h"

#include "base/cleanup.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_VERSION 1
/* More than the most vCPUs, devices and memory need. */
#define STATE_FILE_MAX (256U << 20)

/* ---- what is in it ---- */

static int find_config(struct snapshot *snapshot, struct state_reader *reader, struct error *err)
{
	int ret = state_section_next(reader, err);

	if (ret < 0)
		return ret;
	if (ret == 0 || strcmp(reader->name, "config") != 0 || reader->version != CONFIG_VERSION)
		return error_set(err, EINVAL,
			"snapshot: the machine's configuration is missing or of another version; "
			"use the "
			"duet that made it");
	snapshot->config = (const char *)reader->bytes + reader->at;
	snapshot->config_length = reader->section_end - reader->at;
	return state_section_skip(reader, err);
}

/* Each section's checksum, and nothing behind the last. */
static int check_machine(const struct snapshot *snapshot, struct error *err)
{
	const size_t length = snapshot->length - snapshot->machine_at;
	struct state_reader reader;
	int ret = state_reader_init(&reader, snapshot->bytes + snapshot->machine_at, length, err);

	while (ret == 0 && (ret = state_section_next(&reader, err)) > 0)
		ret = state_section_skip(&reader, err);
	if (ret == 0 && reader.section_end + 4 != length)
		return error_set(err, EINVAL, "snapshot: something is behind its end");
	return ret;
}

int snapshot_parse(struct snapshot *snapshot, struct error *err)
{
	struct state_reader reader;
	int ret = state_reader_init(&reader, snapshot->bytes, snapshot->length, err);

	if (ret == 0)
		ret = snapshot_head_restore(&snapshot->head, &reader, err);
	if (ret == 0)
		ret = find_config(snapshot, &reader, err);
	if (ret == 0)
		ret = pages_restore(&snapshot->pages,
			snapshot_head_size(&snapshot->head) / MEMORY_PAGE, &reader, err);
	if (ret > 0)
		return error_set(
			err, EINVAL, "snapshot: section %s belongs to no part of it", reader.name);
	if (ret < 0)
		return ret;
	snapshot->machine_at = reader.section_end + 4; /* its checksum */
	return check_machine(snapshot, err);
}

/* ---- its files ---- */

static int open_file(const char *path, off_t *size, struct error *err)
{
	/* A FIFO is not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;

	if (fd < 0 && errno == ENOENT)
		return error_set(err, ENOENT,
			"%s: No such file or directory; name what duet ctl SOCK snapshot made",
			path);
	if (fd < 0)
		return error_errno(err, errno, "%s", path);
	if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode)) {
		close(fd);
		return error_set(
			err, EINVAL, "%s: no regular file; name a file of a snapshot", path);
	}
	*size = stat.st_size;
	return fd;
}

static int load_state(struct snapshot *snapshot, const char *path, struct error *err)
{
	off_t size;
	_cleanup_close_ int fd = open_file(path, &size, err);
	ssize_t got = 1;

	if (fd < 0)
		return fd;
	if (size > STATE_FILE_MAX)
		return error_set(err, EFBIG, "%s: too large for a machine's state", path);
	snapshot->bytes = malloc((size_t)size + 1);
	if (!snapshot->bytes)
		return error_errno(err, ENOMEM, "%s", path);
	while (snapshot->length < (size_t)size && got > 0) {
		got = read(fd, snapshot->bytes + snapshot->length, (size_t)size - snapshot->length);
		if (got > 0)
			snapshot->length += (size_t)got;
	}
	return got < 0 ? error_errno(err, errno, "%s", path) : 0;
}

static int open_memory(struct snapshot *snapshot, const char *path, bool whole, struct error *err)
{
	off_t size;

	snapshot->memory_fd = open_file(path, &size, err);
	if (snapshot->memory_fd < 0)
		return snapshot->memory_fd;
	return snapshot_marks_check(snapshot->memory_fd, snapshot_head_size(&snapshot->head),
		&snapshot->head.id, whole, path, err);
}

static int open_files(struct snapshot *snapshot, const char *state, const char *memory, bool whole,
	struct error *err)
{
	int ret = load_state(snapshot, state, err);

	if (ret == 0 && snapshot_parse(snapshot, err) < 0)
		ret = error_prefix(err, "%s: ", state);
	return ret < 0 ? ret : open_memory(snapshot, memory, whole, err);
}

int snapshot_open(struct snapshot *snapshot, const struct snapshot_place *place, bool whole,
	struct error *err)
{
	_cleanup_free_ char *memory = NULL;

	*snapshot = (struct snapshot){.memory_fd = -1};
	snapshot->name =
		place->directory ? snapshot_state_of(place->directory) : strdup(place->state);
	memory = place->directory ? snapshot_memory_of(place->directory) : strdup(place->memory);
	if (!snapshot->name || !memory)
		return error_errno(err, ENOMEM, "snapshot");
	return open_files(snapshot, snapshot->name, memory, whole, err);
}

void snapshot_close(struct snapshot *snapshot)
{
	pages_free(&snapshot->pages);
	free(snapshot->bytes);
	free(snapshot->name);
	if (snapshot->memory_fd >= 0)
		close(snapshot->memory_fd);
	*snapshot = (struct snapshot){.memory_fd = -1};
}
