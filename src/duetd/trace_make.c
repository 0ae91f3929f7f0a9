/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs of 512 MiB to 2 GiB. Each works in phases of 20 s to 2 min; its working set is 15 to
 * 85 % of its memory in each, and gets there within 1 to 20 s. One in five has no kit.
 */
#include "base/checked.h"
#include "duetd/trace.h"

#include <inttypes.h>

#define SECONDS    300
#define OVERCOMMIT 1.5

static uint64_t next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static unsigned between(uint64_t *seed, unsigned low, unsigned high)
{
	return low + (unsigned)(next(seed) % (high - low + 1));
}

static unsigned some_memory(uint64_t *seed)
{
	static const unsigned sizes[] = {512, 768, 1024, 1536, 2048};

	return sizes[between(seed, 0, ARRAY_SIZE(sizes) - 1)];
}

static void make_vm(FILE *file, unsigned number, unsigned memory, uint64_t *seed)
{
	unsigned second = 0, mib = memory * between(seed, 15, 85) / 100;
	unsigned vcpus = between(seed, 1, 4), touches = between(seed, 500, 4000);
	unsigned reads = between(seed, 100, 2000);
	bool hints = between(seed, 1, 5) > 1;

	fprintf(file,
		"{\"vm\": \"vm%u\", \"memory_mib\": %u, \"vcpus\": %u, \"hints\": %s, \"touches\": "
		"%u, \"reads\": %u, \"working_set_mib\": [[0, %u]",
		number, memory, vcpus, hints ? "true" : "false", touches, reads, mib);
	for (;;) {
		second += between(seed, 20, 120);
		if (second >= SECONDS)
			break;
		fprintf(file, ", [%u, %u]", second, mib);
		mib = memory * between(seed, 15, 85) / 100;
		second += between(seed, 1, 20);
		fprintf(file, ", [%u, %u]", second, mib);
	}
	fprintf(file, "]}\n");
}

void trace_make(FILE *file, unsigned vms, uint64_t seed)
{
	uint64_t memory = 0, sizes = seed;

	for (unsigned i = 0; i < vms; i++)
		memory += some_memory(&sizes);
	fprintf(file, "{\"host\": {\"memory_mib\": %" PRIu64 ", \"seconds\": %d}}\n",
		(uint64_t)((double)memory / OVERCOMMIT), SECONDS);
	sizes = seed;
	for (unsigned i = 0; i < vms; i++) {
		uint64_t own = seed + ((uint64_t)(i + 1) << 32);

		make_vm(file, i, some_memory(&sizes), &own);
	}
}
