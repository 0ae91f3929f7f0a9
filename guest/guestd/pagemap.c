/* SPDX-License-Identifier: Apache-2.0 */
#include "guestd.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int pagemap_open(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

#define CHUNK 512 /* pages looked at in one call */

#define PROCESS_SIZES 16 /* of memory, that one process may map */
#define ALL_SIZES     256

void patience_begin(struct patience *patience, size_t frames)
{
	patience->all = ALL_SIZES * (uint64_t)frames;
	patience_next_process(patience, frames);
}

void patience_next_process(struct patience *patience, size_t frames)
{
	patience->process = PROCESS_SIZES * (uint64_t)frames;
}

static bool patience_take(struct patience *patience, uint64_t pages)
{
	if (pages > patience->process || pages > patience->all)
		return false;
	patience->process -= pages;
	patience->all -= pages;
	return true;
}

static size_t read_entries(int pagemap, uint64_t address, uint64_t *entries, size_t count)
{
	ssize_t length = pread(pagemap, entries, count * sizeof(*entries),
		(off_t)(address / PAGE * sizeof(*entries)));

	return length > 0 ? (size_t)length / sizeof(*entries) : 0;
}

bool each_page(int pagemap, const struct mapping *mapping, struct patience *patience,
	void (*visit)(void *context, uint64_t entry), void *context)
{
	uint64_t entries[CHUNK];

	for (uint64_t at = mapping->start; at < mapping->end; at += CHUNK * PAGE) {
		size_t pages = (mapping->end - at) / PAGE, count;

		pages = pages < CHUNK ? pages : CHUNK;
		if (!patience_take(patience, pages))
			return false;
		count = read_entries(pagemap, at, entries, pages);
		for (size_t i = 0; i < count; i++)
			visit(context, entries[i]);
	}
	return true;
}

static bool take_end(void *context, uint64_t start, uint64_t end)
{
	size_t *count = context;

	(void)start;
	if (end / PAGE > *count)
		*count = end / PAGE;
	return true;
}

size_t frames(void)
{
	size_t count = 0;

	each_region("System RAM", take_end, &count);
	return count;
}
