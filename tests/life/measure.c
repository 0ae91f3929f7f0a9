/* SPDX-License-Identifier: Apache-2.0 */
/* What a process holds: descriptors, and memory of its own apart from the guest's. What it holds is
 * counted, not the pages that were ever written: which those are depends on where the heap had
 * room. */
#include "life.h"

#include "cli/footprint.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

unsigned measure_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count - 3; /* . and .. and its own */
}

/* Bytes of address space but of the guest, the heap (counted by what is allocated) and the first
 * thread's stack. */
static unsigned long mapped(const struct memory *memory)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long total = 0;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && !strstr(line, "[heap]") &&
			!strstr(line, "[stack]") && !footprint_is_guest(memory, start))
			total += end - start;
	}
	if (maps)
		fclose(maps);
	return total;
}

unsigned long measure_memory(const struct memory *memory)
{
	/* Before anything is allocated for this. */
	const struct mallinfo2 heap = mallinfo2();

	return heap.uordblks + mapped(memory);
}
