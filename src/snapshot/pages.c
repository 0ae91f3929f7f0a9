/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/pages.h"

#include "base/checked.h"
#include "state/crc32c.h"
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGES_VERSION 1
/* Of a section: small enough for STATE_SECTION_MAX. */
#define SECTION_PAGES (1ULL << 20)

int pages_init(struct pages *pages, uint64_t count)
{
	*pages = (struct pages){.count = count};
	pages->held = calloc(count / WORD_PAGES, sizeof(*pages->held));
	pages->sums = calloc(pages_chunks(pages), sizeof(*pages->sums));
	return pages->held && pages->sums ? 0 : -ENOMEM;
}

void pages_free(struct pages *pages)
{
	free(pages->held);
	free(pages->sums);
	*pages = (struct pages){0};
}

unsigned pages_of_chunk(const struct pages *pages, uint64_t chunk)
{
	return (unsigned)min_u64(CHUNK_PAGES, pages->count - chunk * CHUNK_PAGES);
}

/* The next run of pages that are held in [*@at, @end); its length, 0: there is none. */
static unsigned next_run(const struct pages *pages, uint64_t *at, uint64_t end)
{
	unsigned length = 0;

	while (*at < end && !pages_hold(pages, *at))
		++*at;
	while (*at + length < end && pages_hold(pages, *at + length))
		length++;
	return length;
}

static int write_all(int fd, const uint8_t *bytes, size_t length, off_t at)
{
	while (length) {
		ssize_t put = pwrite(fd, bytes, length, at);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		bytes += put;
		at += put;
		length -= (size_t)put;
	}
	return 0;
}

int pages_write(struct pages *pages, uint64_t chunk, const uint8_t *bytes, int fd)
{
	const uint64_t first = chunk * CHUNK_PAGES, end = first + pages_of_chunk(pages, chunk);
	uint32_t sum = 0;
	unsigned length;

	for (uint64_t at = first; (length = next_run(pages, &at, end)); at += length) {
		const uint8_t *from = bytes + (at - first) * MEMORY_PAGE;
		int ret = write_all(fd, from, length * MEMORY_PAGE, (off_t)(at * MEMORY_PAGE));

		if (ret < 0)
			return ret;
		sum = crc32c(sum, from, length * MEMORY_PAGE);
		pages->stored += length;
	}
	pages->sums[chunk] = sum;
	return 0;
}

static int read_all(int fd, uint8_t *bytes, size_t length, off_t at)
{
	while (length) {
		ssize_t got = pread(fd, bytes, length, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA;
		bytes += got;
		at += got;
		length -= (size_t)got;
	}
	return 0;
}

int pages_read(const struct pages *pages, uint64_t chunk, uint8_t *bytes, int fd)
{
	const uint64_t first = chunk * CHUNK_PAGES, end = first + pages_of_chunk(pages, chunk);
	uint32_t sum = 0;
	unsigned length;

	for (uint64_t at = first; (length = next_run(pages, &at, end)); at += length) {
		uint8_t *to = bytes + (at - first) * MEMORY_PAGE;
		int ret = read_all(fd, to, length * MEMORY_PAGE, (off_t)(at * MEMORY_PAGE));

		if (ret < 0)
			return ret;
		sum = crc32c(sum, to, length * MEMORY_PAGE);
	}
	return sum == pages->sums[chunk] ? 0 : -EBADMSG;
}

/* ---- saved ---- */

static void name_section(unsigned number, char name[16])
{
	snprintf(name, 16, "pages/%u", number);
}

static uint64_t pages_of_section(const struct pages *pages, uint64_t first)
{
	return min_u64(SECTION_PAGES, pages->count - first);
}

static uint64_t chunks_of(uint64_t count)
{
	return (count + CHUNK_PAGES - 1) / CHUNK_PAGES;
}

void pages_save(const struct pages *pages, struct state_writer *writer)
{
	char name[16];
	unsigned number = 0;

	for (uint64_t first = 0; first < pages->count; first += SECTION_PAGES) {
		const uint64_t count = pages_of_section(pages, first);

		name_section(number++, name);
		state_section_begin(writer, name, PAGES_VERSION);
		for (uint64_t i = 0; i < count / WORD_PAGES; i++)
			state_put_u64(writer, pages->held[first / WORD_PAGES + i]);
		for (uint64_t i = 0; i < chunks_of(count); i++)
			state_put_u32(writer, pages->sums[first / CHUNK_PAGES + i]);
		state_section_close(writer);
	}
}

static int restore_section(
	struct pages *pages, uint64_t first, struct state_reader *reader, struct error *err)
{
	const uint64_t count = pages_of_section(pages, first);

	for (uint64_t i = 0; i < count / WORD_PAGES; i++) {
		uint64_t word = state_get_u64(reader);

		pages->held[first / WORD_PAGES + i] = word;
		pages->stored += (unsigned)__builtin_popcountll(word);
	}
	for (uint64_t i = 0; i < chunks_of(count); i++)
		pages->sums[first / CHUNK_PAGES + i] = state_get_u32(reader);
	return state_section_end(reader, err);
}

int pages_restore(
	struct pages *pages, uint64_t count, struct state_reader *reader, struct error *err)
{
	char name[16];
	unsigned number = 0;
	int ret = pages_init(pages, count);

	if (ret < 0)
		return error_errno(err, -ret, "snapshot: table of pages");
	for (uint64_t first = 0; first < count; first += SECTION_PAGES) {
		ret = state_section_next(reader, err);
		if (ret < 0)
			return ret;
		name_section(number++, name);
		if (ret == 0 || strcmp(reader->name, name) != 0 || reader->version != PAGES_VERSION)
			return error_set(err, EINVAL,
				"snapshot: section %s is missing or of another version; use the "
				"duet that "
				"made it",
				name);
		ret = restore_section(pages, first, reader, err);
		if (ret < 0)
			return ret;
	}
	return state_section_next(reader, err);
}
