/* SPDX-License-Identifier: Apache-2.0 */
/* What a process holds: descriptors, and memory of its own apart from the guest's. */
#include "life.h"

#include "base/cleanup.h"
#include "cli/footprint.h"
#include "memory/memory.h"

#include <dirent.h>
#include <stdio.h>

unsigned measure_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count - 3; /* . and .. and its own */
}

static bool is_guest(const struct memory *memory, unsigned long start)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(memory, i)); i++)
		if (start - (unsigned long)region->host < region->size)
			return true;
	return false;
}

unsigned long measure_memory(const struct memory *memory)
{
	_cleanup_fclose_ FILE *maps = NULL;
	unsigned long sum = 0, start, end, kib;
	bool guest = false;
	char line[512];

	footprint_trim();
	maps = fopen("/proc/self/smaps", "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			guest = is_guest(memory, start);
		else if (!guest && sscanf(line, "Anonymous: %lu kB", &kib) == 1)
			sum += kib;
		/* Which the kernel rounds up to 2 MiB when it likes. */
		else if (!guest && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
			sum -= kib;
	}
	return sum;
}
