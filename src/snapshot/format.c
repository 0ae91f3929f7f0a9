/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/format.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "snapshot/pages.h"
#include "state/crc32c.h"
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* #syscalls main: getrandom pread64 pwrite64 ftruncate fstat newfstatat */

#define HEAD_VERSION 1
/* As MACHINE_MEMORY_MAX, a page's index then fits everywhere. */
#define SIZE_MAX_BYTES (1ULL << 40)

#define MARK_ID    "DUETMEM1"
#define MARK_WHOLE "DUETALL1"
#define MARK_SIZE  (8 + sizeof(struct snapshot_id) + 4)

int snapshot_id_new(struct snapshot_id *id)
{
	return getrandom(id->bytes, sizeof(id->bytes), 0) == sizeof(id->bytes) ? 0 : -EAGAIN;
}

bool snapshot_id_same(const struct snapshot_id *one, const struct snapshot_id *other)
{
	return memcmp(one->bytes, other->bytes, sizeof(one->bytes)) == 0;
}

bool snapshot_id_none(const struct snapshot_id *id)
{
	return snapshot_id_same(id, &(struct snapshot_id){{0}});
}

void snapshot_id_format(const struct snapshot_id *id, char text[SNAPSHOT_ID_TEXT])
{
	for (unsigned i = 0; i < sizeof(id->bytes); i++)
		snprintf(text + (size_t)2 * i, 3, "%02x", id->bytes[i]);
}

uint64_t snapshot_head_size(const struct snapshot_head *head)
{
	uint64_t size = 0;

	for (unsigned i = 0; i < head->regions; i++)
		size += head->region[i].size;
	return size;
}

void snapshot_head_of(struct snapshot_head *head, const struct memory *memory)
{
	const struct memory_region *region;

	*head = (struct snapshot_head){0};
	for (; (region = memory_region(memory, head->regions)); head->regions++) {
		head->region[head->regions].base = region->base.value;
		head->region[head->regions].size = region->size;
	}
}

void snapshot_head_save(const struct snapshot_head *head, struct state_writer *writer)
{
	state_section_begin(writer, "snapshot", HEAD_VERSION);
	state_put_bytes(writer, head->id.bytes, sizeof(head->id.bytes));
	state_put_bytes(writer, head->parent.bytes, sizeof(head->parent.bytes));
	state_put_u32(writer, head->regions);
	for (unsigned i = 0; i < head->regions; i++) {
		state_put_u64(writer, head->region[i].base);
		state_put_u64(writer, head->region[i].size);
	}
	state_section_close(writer);
}

bool snapshot_head_is_sane(const struct snapshot_head *head)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < head->regions; i++) {
		const uint64_t size = head->region[i].size;

		if (sum % CHUNK_BYTES || !size || size % (WORD_PAGES * MEMORY_PAGE) ||
			size > SIZE_MAX_BYTES - sum || head->region[i].base % MEMORY_PAGE)
			return false;
		sum += size;
	}
	return sum > 0;
}

int snapshot_head_restore(
	struct snapshot_head *head, struct state_reader *reader, struct error *err)
{
	int ret = state_section_next(reader, err);

	*head = (struct snapshot_head){0};
	if (ret < 0)
		return ret;
	if (ret == 0 || strcmp(reader->name, "snapshot") != 0)
		return error_set(err, EINVAL,
			"snapshot: this is the state of a machine, but no snapshot of one");
	if (reader->version != HEAD_VERSION)
		return error_set(err, ENOTSUP,
			"snapshot: it has version %u, this duet reads version %u; use the duet "
			"that made it",
			reader->version, HEAD_VERSION);
	state_get_bytes(reader, head->id.bytes, sizeof(head->id.bytes));
	state_get_bytes(reader, head->parent.bytes, sizeof(head->parent.bytes));
	head->regions = (unsigned)min_u64(state_get_u32(reader), MEMORY_MAX_REGIONS + 1);
	for (unsigned i = 0; i < head->regions && i < MEMORY_MAX_REGIONS; i++) {
		head->region[i].base = state_get_u64(reader);
		head->region[i].size = state_get_u64(reader);
	}
	if (head->regions > MEMORY_MAX_REGIONS || !snapshot_head_is_sane(head) ||
		snapshot_id_none(&head->id))
		return error_set(err, EINVAL, "snapshot: its table of memory makes no sense");
	return state_section_end(reader, err);
}

/* ---- marks of the memory file ---- */

static void make_mark(uint8_t *mark, const char *magic, const struct snapshot_id *id)
{
	memcpy(mark, magic, 8);
	memcpy(mark + 8, id->bytes, sizeof(id->bytes));
	store_le32(mark + MARK_SIZE - 4, crc32c(0, mark, MARK_SIZE - 4));
}

static int put_mark(int fd, uint64_t at, const char *magic, const struct snapshot_id *id)
{
	uint8_t page[MEMORY_PAGE] = {0};
	ssize_t put;

	make_mark(page, magic, id);
	put = pwrite(fd, page, sizeof(page), (off_t)at);
	if (put < 0)
		return -errno;
	return put == sizeof(page) ? 0 : -ENOSPC;
}

int snapshot_marks_write(int fd, uint64_t size, const struct snapshot_id *id, bool diff)
{
	int ret = ftruncate(fd, (off_t)(size + SNAPSHOT_MARKS)) < 0 ? -errno : 0;

	if (ret == 0)
		ret = put_mark(fd, size, MARK_ID, id);
	if (ret == 0 && !diff)
		ret = put_mark(fd, size + MEMORY_PAGE, MARK_WHOLE, id);
	return ret;
}

/* @id: null: any, when its sum is right. */
static bool has_mark(int fd, uint64_t at, const char *magic, const struct snapshot_id *id)
{
	uint8_t mark[MARK_SIZE], right[MARK_SIZE];
	struct snapshot_id own;

	if (pread(fd, mark, sizeof(mark), (off_t)at) != sizeof(mark))
		return false;
	memcpy(own.bytes, mark + 8, sizeof(own.bytes));
	make_mark(right, magic, id ? id : &own);
	return memcmp(mark, right, sizeof(mark)) == 0;
}

int snapshot_marks_check(int fd, uint64_t size, const struct snapshot_id *id, bool whole,
	const char *path, struct error *err)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_errno(err, errno, "%s", path);
	if (!S_ISREG(stat.st_mode))
		return error_set(
			err, EINVAL, "%s: no regular file; name a snapshot's memory", path);
	if ((uint64_t)stat.st_size != size + SNAPSHOT_MARKS)
		return error_set(err, EINVAL,
			"%s: %llu bytes, and the snapshot's memory has %llu; it was cut short, or "
			"is of "
			"another machine",
			path, (unsigned long long)stat.st_size,
			(unsigned long long)(size + SNAPSHOT_MARKS));
	if (!has_mark(fd, size, MARK_ID, id))
		return error_set(err, EINVAL,
			"%s: not the memory of this snapshot; name the two files that were made "
			"together",
			path);
	if (whole && !has_mark(fd, size + MEMORY_PAGE, MARK_WHOLE, NULL))
		return error_set(err, EINVAL,
			"%s: it has the changes to another snapshot alone; put them together by "
			"duet "
			"snapshot merge",
			path);
	return 0;
}
