/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/footprint.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_guest(const struct memory *memory, unsigned long start)
{
	for (unsigned i = 0; i < memory->count; i++) {
		unsigned long host = (unsigned long)memory->regions[i].host;

		if (start >= host && start - host < memory->regions[i].size)
			return true;
	}
	return false;
}

int footprint_read(const struct memory *memory, struct footprint *footprint)
{
	_cleanup_fclose_ FILE *maps = fopen("/proc/self/smaps", "re");
	bool guest = false;
	char line[512];

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, kib;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			guest = is_guest(memory, start);
		else if (sscanf(line, "Pss: %lu kB", &kib) == 1)
			*(guest ? &footprint->guest_pss : &footprint->outside_pss) += kib * 1024;
		else if (sscanf(line, "Rss: %lu kB", &kib) == 1 && !guest)
			footprint->outside_rss += kib * 1024;
	}
	return 0;
}
