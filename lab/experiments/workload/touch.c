/* SPDX-License-Identifier: Apache-2.0 */
/* A program that uses its memory again and again, on one CPU; the plugin sees where that is. */
#define _GNU_SOURCE /* sched_setaffinity() */
#include "workload.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>

#define STRIDE 512

/* One block, with the mark in it; on one page, or it would be two. */
__attribute__((noinline, aligned(64))) static void sweep(volatile uint64_t *from, size_t words)
{
	for (size_t i = 0; i < words; i += STRIDE / sizeof(*from)) {
		LAB_MARK(LAB_TOUCH);
		from[i]++;
	}
}

int touch(char **args)
{
	const size_t bytes = (size_t)number(args[1]) << 20;
	uint64_t *memory;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(number(args[0]), &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu) < 0)
		fail("sched_setaffinity");
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	for (;;)
		sweep(memory, bytes / sizeof(*memory));
}
