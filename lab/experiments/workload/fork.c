/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() of a heap of which a part is written afterwards; and what its costs consist of.
 *
 * fork WAY MIB PERCENT: WAY is `private` (ordinary memory) or `heap` (/dev/duet-heap). The child
 * holds its memory while the parent writes to PERCENT of its pages, evenly spread. Marks: START
 * before fork(), STEP when it is back, END after the last write. Times in ns.
 *
 * copy MIB: copies of pages between START and END, all of whose memory is there.
 */
#include "workload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL

static uint8_t *memory_of(const char *way, size_t bytes)
{
	int heap = strcmp(way, "heap") == 0;
	int fd = heap ? open("/dev/duet-heap", O_RDWR | O_CLOEXEC) : -1;
	uint8_t *memory;

	if (heap && fd < 0)
		fail("/dev/duet-heap");
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		heap ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	/* Pages of one size for all ways. */
	if (!heap)
		madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

static long faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Writes to @written of @pages; the longest time that one of them took. */
static uint64_t write_some(uint8_t *memory, size_t pages, size_t written)
{
	uint64_t worst = 0, before = now_ns();

	for (size_t i = 0; i < written; i++) {
		uint64_t now;

		*(volatile uint8_t *)(memory + i * pages / written * PAGE) = 3;
		if (i % 16)
			continue;
		now = now_ns();
		if (now - before > worst)
			worst = now - before;
		before = now;
	}
	return worst;
}

int fork_heap(char **args)
{
	size_t pages = number(args[1]) << 8, written = pages * number(args[2]) / 100;
	uint8_t *memory = memory_of(args[0], pages * PAGE);
	uint64_t start, forked, end, worst;
	int hold[2], status;
	long faults;
	pid_t child;

	memset(memory, 1, pages * PAGE);
	if (pipe(hold) < 0)
		fail("pipe");
	faults = faults_so_far();
	LAB_MARK(MARK_START);
	start = now_ns();
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(hold[1]);
		_exit(read(hold[0], &status, 1) == 0 && memory[0] == 1 ? 0 : 1);
	}
	forked = now_ns();
	LAB_MARK(MARK_STEP);
	worst = write_some(memory, pages, written);
	end = now_ns();
	LAB_MARK(MARK_END);
	faults = faults_so_far() - faults;
	close(hold[0]);
	close(hold[1]);
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("the child's copy");
	printf("{\"fork_ns\": %lu, \"write_ns\": %lu, \"worst_ns\": %lu, \"faults\": %ld, "
	       "\"pages\": %zu, \"written\": %zu}\n",
		forked - start, end - forked, worst, faults, pages, written);
	return 0;
}

int copy(char **args)
{
	size_t pages = number(args[0]) << 8;
	uint8_t *source = memory_of("private", pages * PAGE),
		*target = memory_of("private", pages * PAGE);
	uint64_t start, end;

	memset(source, 1, pages * PAGE);
	memset(target, 2, pages * PAGE);
	LAB_MARK(MARK_START);
	start = now_ns();
	for (size_t i = 0; i < pages; i++) {
		void *to = target + i * PAGE;
		const void *from = source + i * PAGE;
		size_t words = PAGE / 8;

		/* As the guest's kernel copies a page. */
		__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
	}
	end = now_ns();
	LAB_MARK(MARK_END);
	printf("{\"copy_ns\": %lu, \"pages\": %zu}\n", end - start, pages);
	return 0;
}
