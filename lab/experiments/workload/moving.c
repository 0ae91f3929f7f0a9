/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A working set that grows and shrinks as it is told, beside files that are read once. Orders come
 * by lines on standard input, "MIB STEP ROUNDS": in so many rounds the window moves to that size,
 * STEP MiB a round at most, and each round touches a part of its pages. A line that is no order
 * ends it. Each page's content is checked when it is touched.
 */
#define _GNU_SOURCE
#include "pages.h"
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MOST       PAGES((size_t)1024)
#define TOUCHED    32  /* a round touches one page of so many, anywhere in the window */
#define READ_BYTES MIB /* a round reads so much of the file */

struct window {
	uint64_t *memory;
	size_t pages;
	uint64_t random, touches, wrong;
	int file;
	void *buffer;
	uint64_t due, period; /* nanoseconds */
};

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* What leaves the window is given back to the kernel, what comes is written. */
static void move(struct window *window, size_t goal, size_t step)
{
	while (window->pages < goal && step--)
		page_write(window->memory, window->pages++);
	if (window->pages > goal) {
		size_t gone = smaller(step, window->pages - goal);

		window->pages -= gone;
		if (madvise(page_at(window->memory, window->pages), gone * PAGE, MADV_DONTNEED) < 0)
			fail("madvise");
	}
}

static void touch_some(struct window *window)
{
	const size_t touches = window->pages / TOUCHED;

	window->wrong += pages_touch(window->memory, window->pages, touches, &window->random);
	window->touches += touches;
}

static void read_on(struct window *window)
{
	ssize_t got = read(window->file, window->buffer, READ_BYTES);

	if (got == 0)
		errno = ENODATA; /* too short for what was asked: nothing may be read twice */
	if (got <= 0)
		fail("the file");
}

/* Its value in /proc/vmstat. */
static uint64_t counter(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void tell(const struct window *window)
{
	char text[16384] = "\n";
	int fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text + 1, sizeof(text) - 2);

	if (got < 0)
		fail("/proc/vmstat");
	close(fd);
	text[got + 1] = 0;
	printf("@round {\"mib\": %zu, \"in\": %" PRIu64 ", \"out\": %" PRIu64
	       ", \"refaults\": %" PRIu64 ", \"touches\": %" PRIu64 ", \"wrong\": %" PRIu64 "}\n",
		window->pages * PAGE / MIB, counter(text, "\npswpin "), counter(text, "\npswpout "),
		counter(text, "\nworkingset_refault_file "), window->touches, window->wrong);
}

static void wait_for_next(struct window *window)
{
	struct timespec next;

	window->due += window->period;
	if (window->due < now_ns())
		window->due = now_ns(); /* a late round does not hurry those after it */
	next.tv_sec = (time_t)(window->due / 1000000000U);
	next.tv_nsec = (long)(window->due % 1000000000U);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
}

static void obey(struct window *window, size_t mib, size_t step, unsigned long rounds)
{
	while (rounds--) {
		move(window, PAGES(mib), PAGES(step));
		touch_some(window);
		read_on(window);
		tell(window);
		wait_for_next(window);
	}
	puts("@told");
	fflush(stdout);
}

static void prepare(struct window *window, char **args)
{
	window->file = open(args[0], O_RDONLY | O_CLOEXEC);
	if (window->file < 0)
		fail(args[0]);
	window->period = number(args[1]) * 1000000U;
	window->buffer = malloc(READ_BYTES);
	if (!window->buffer)
		fail("memory");
	window->memory = pages_new(MOST);
	window->due = now_ns();
}

int moving(char **args)
{
	struct window state = {.random = 1};
	char line[128];
	size_t mib, step;
	unsigned long rounds;

	prepare(&state, args);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("@moving");
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%zu %zu %lu", &mib, &step, &rounds) != 3 ||
			mib > MOST * PAGE / MIB)
			break;
		obey(&state, mib, step, rounds);
	}
	return state.wrong ? 1 : 0;
}
