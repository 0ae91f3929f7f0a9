/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/write.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "snapshot/pages.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Bits of /proc/PID/pagemap: the page is there, or was and is swapped out. */
#define PAGEMAP_THERE (3ULL << 62)

struct writing {
	const struct snapshot_content *content;
	struct snapshot_progress *progress;
	struct pages pages;
	int memory_fd;
	int pagemap; /* -1: every page is looked at */
};

/* Looking at a page that was never touched would map the zero page. */
static bool load_pagemap(
	const struct writing *writing, const uint8_t *host, unsigned count, uint64_t *entries)
{
	const uint64_t first = (uintptr_t)host / MEMORY_PAGE;
	const size_t length = count * sizeof(*entries);

	return writing->pagemap >= 0 &&
	       pread(writing->pagemap, entries, length, (off_t)(first * sizeof(*entries))) ==
		       (ssize_t)length;
}

static void keep_data(struct writing *writing, uint64_t chunk, const struct memory_region *region,
	const uint8_t *host)
{
	const unsigned count = pages_of_chunk(&writing->pages, chunk);
	uint64_t entries[CHUNK_PAGES];
	/* What is not there of a file's or another process's memory is not zero. */
	const bool known =
		region->kind == MEMORY_ANONYMOUS && load_pagemap(writing, host, count, entries);

	for (unsigned i = 0; i < count; i++)
		if ((!known || entries[i] & PAGEMAP_THERE) &&
			!memory_page_is_zero(host + i * MEMORY_PAGE))
			pages_keep(&writing->pages, chunk * CHUNK_PAGES + i);
}

static void keep_changes(struct writing *writing, uint64_t chunk)
{
	const unsigned words = pages_of_chunk(&writing->pages, chunk) / WORD_PAGES;
	const uint64_t at = chunk * CHUNK_PAGES / WORD_PAGES;

	memcpy(&writing->pages.held[at], &writing->content->changed[at], words * sizeof(uint64_t));
}

static int write_chunk(struct writing *writing, uint64_t chunk, const struct memory_region *region,
	uint64_t offset)
{
	const uint8_t *host = memory_begin(writing->content->memory, gpa_add(region->base, offset),
		min_u64(CHUNK_BYTES, region->size - offset));
	int ret;

	if (!host)
		return -EFAULT;
	if (writing->content->changed)
		keep_changes(writing, chunk);
	else
		keep_data(writing, chunk, region, host);
	ret = pages_write(&writing->pages, chunk, host, writing->memory_fd);
	atomic_fetch_add(
		&writing->progress->done, pages_of_chunk(&writing->pages, chunk) * MEMORY_PAGE);
	atomic_store(&writing->progress->written, writing->pages.stored * MEMORY_PAGE);
	return ret;
}

/* A region ends where a chunk does, but for the last one. */
static int write_region(struct writing *writing, const struct memory_region *region)
{
	uint64_t chunk = region->first_page / CHUNK_PAGES;
	int ret = 0;

	for (uint64_t offset = 0; ret == 0 && offset < region->size; offset += CHUNK_BYTES) {
		if (atomic_load(&writing->progress->cancelled))
			return -ECANCELED;
		ret = write_chunk(writing, chunk++, region, offset);
	}
	return ret;
}

static int write_memory(struct writing *writing, const struct snapshot_head *head)
{
	const struct memory_region *region;
	int ret = snapshot_marks_write(
		writing->memory_fd, snapshot_head_size(head), &head->id, snapshot_is_diff(head));

	for (unsigned i = 0; ret == 0 && (region = memory_region(writing->content->memory, i)); i++)
		ret = write_region(writing, region);
	return ret;
}

static int append(int fd, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	while (length) {
		ssize_t put = write(fd, at, length);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		at += put;
		length -= (size_t)put;
	}
	return 0;
}

int snapshot_write_state(int fd, const struct snapshot_head *head, const struct pages *pages,
	const struct snapshot_content *content)
{
	struct state_writer writer;
	int ret;

	state_writer_init(&writer);
	snapshot_head_save(head, &writer);
	state_section_begin(&writer, "config", 1);
	state_put_bytes(&writer, content->config, strlen(content->config));
	state_section_close(&writer);
	pages_save(pages, &writer);
	ret = state_writer_finish(&writer);
	if (ret == 0)
		ret = append(fd, writer.bytes, writer.length);
	if (ret == 0)
		ret = append(fd, content->machine, content->machine_length);
	state_writer_free(&writer);
	return ret;
}

static int write_files(struct writing *writing, const struct snapshot_target *target)
{
	struct snapshot_head head;
	int ret;

	snapshot_head_of(&head, writing->content->memory);
	head.id = writing->content->id;
	head.parent = writing->content->parent;
	atomic_store(&writing->progress->total, snapshot_head_size(&head));
	writing->memory_fd = target->memory_fd;
	if (!snapshot_head_is_sane(&head))
		return -EINVAL;
	ret = pages_init(&writing->pages, snapshot_head_size(&head) / MEMORY_PAGE);
	if (ret == 0)
		ret = write_memory(writing, &head);
	if (ret == 0)
		ret = snapshot_write_state(
			target->state_fd, &head, &writing->pages, writing->content);
	return ret;
}

/* In the place of the one that it is the changes to, a snapshot would destroy both. Two files are
 * Firecracker's way, whose clients put them together, and may use a name again, as there. */
static int check_new(const struct snapshot_place *place, struct error *err)
{
	if (!place->directory || access(place->directory, F_OK) < 0)
		return 0;
	return error_set(err, EEXIST,
		"%s: is there already, and changes need a name of their own: they may be to what "
		"it holds",
		place->directory);
}

int snapshot_write(const struct snapshot_content *content, const struct snapshot_place *place,
	struct snapshot_progress *progress, struct error *err)
{
	_cleanup_close_ int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct writing writing = {.content = content, .progress = progress, .pagemap = pagemap};
	struct snapshot_target target = {.state_fd = -1, .memory_fd = -1};
	int ret = content->changed ? check_new(place, err) : 0;

	if (ret == 0)
		ret = snapshot_target_open(&target, place, err);

	if (ret == 0) {
		ret = write_files(&writing, &target);
		if (ret == 0 && atomic_load(&progress->cancelled))
			ret = -ECANCELED;
		if (ret < 0)
			error_errno(err, -ret, "%s",
				place->directory ? place->directory : place->memory);
	}
	if (ret == 0)
		ret = snapshot_target_commit(&target, err);
	snapshot_target_close(&target);
	pages_free(&writing.pages);
	return ret;
}
