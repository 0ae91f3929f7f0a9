/* SPDX-License-Identifier: Apache-2.0 */
/* What a process holds: descriptors, and memory of its own apart from the guest's. */
#include "life.h"

#include "cli/footprint.h"

#include <dirent.h>

unsigned measure_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count - 3; /* . and .. and its own */
}

unsigned long measure_memory(const struct memory *memory)
{
	struct footprint footprint = {0};

	footprint_trim();
	footprint_read(memory, &footprint);
	return footprint.outside_own / 1024;
}
