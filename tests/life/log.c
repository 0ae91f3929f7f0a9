/* SPDX-License-Identifier: Apache-2.0 */
/* Is every write in the log? Memory as it was, beside memory as it is. */
#include "life.h"

#include "memory/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint8_t *before[MEMORY_MAX_REGIONS]; /* null: not logging */

static uint8_t *copy(const struct memory_region *region)
{
	uint8_t *bytes = mmap(NULL, region->size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (bytes == MAP_FAILED)
		return NULL;
	/* What is zero takes no room. */
	for (uint64_t at = 0; at < region->size; at += MEMORY_PAGE)
		if (memcmp(bytes + at, region->mapped_at + at, MEMORY_PAGE) != 0)
			memcpy(bytes + at, region->mapped_at + at, MEMORY_PAGE);
	return bytes;
}

static int begin(struct machine *machine, struct error *err)
{
	const struct memory_region *region;
	int ret = machine_log_start(machine, err);

	for (unsigned i = 0; ret == 0 && (region = memory_region(machine_memory(machine), i));
		i++) {
		before[i] = copy(region);
		if (!before[i])
			ret = error_errno(err, ENOMEM, "log");
	}
	return ret;
}

static int compare(struct machine *machine, unsigned index, const struct memory_region *region,
	struct log_result *result, struct error *err)
{
	uint64_t pages = region->size / MEMORY_PAGE;
	uint64_t *bitmap = calloc(pages / 64, sizeof(*bitmap));
	int ret = bitmap ? machine_log_take(machine, index, bitmap, err)
			 : error_errno(err, ENOMEM, "log");

	for (uint64_t page = 0; ret == 0 && page < pages; page++) {
		uint64_t at = page * MEMORY_PAGE;

		if (memcmp(before[index] + at, region->mapped_at + at, MEMORY_PAGE) == 0)
			continue;
		result->changed++;
		result->unlogged += !(bitmap[page / 64] >> page % 64 & 1);
	}
	free(bitmap);
	munmap(before[index], region->size);
	before[index] = NULL;
	return ret;
}

int log_toggle(struct machine *machine, struct log_result *result, struct error *err)
{
	const struct memory_region *region;
	int ret = 0;

	*result = (struct log_result){.ended = before[0] != NULL};
	if (!result->ended)
		return begin(machine, err);
	for (unsigned i = 0; ret == 0 && (region = memory_region(machine_memory(machine), i)); i++)
		ret = compare(machine, i, region, result, err);
	machine_log_stop(machine);
	return ret;
}
