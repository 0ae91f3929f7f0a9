/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest does to a CPU: threads that never rest, requests that come at fixed times. */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void spin(unsigned long loops)
{
	for (volatile unsigned long i = 0; i < loops; i++)
		;
}

/* Processes, each with one thread; they end with the guest. */
int hogs(char **args)
{
	for (unsigned long n = number(args[0]); n; n--) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork");
		if (pid == 0) {
			close(STDOUT_FILENO); /* who reads the ids waits for its end */
			for (;;)
				spin(1000000);
		}
		printf("%d ", (int)pid);
	}
	putchar('\n');
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return (one > other) - (one < other);
}

static void sleep_until(uint64_t due)
{
	const struct timespec at = {
		.tv_sec = (time_t)(due / 1000000000U), .tv_nsec = (long)(due % 1000000000U)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void print_times(uint64_t *times, unsigned long count)
{
	uint64_t sum = 0;

	for (unsigned long i = 0; i < count; i++)
		sum += times[i];
	qsort(times, count, sizeof(*times), by_size);
	printf("{\"requests\": %lu, \"mean_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 "}\n", count,
		sum / count, times[(count - 1) * 99 / 100]);
}

/* Open-loop: a request comes at its time, whether the one before was answered or not. */
int respond(char **args)
{
	const unsigned long count = number(args[0]), loops = number(args[2]);
	const uint64_t period = number(args[1]) * 1000U;
	uint64_t *times = calloc(count ? count : 1, sizeof(*times)), due = now_ns();

	if (!times || !count)
		fail("requests");
	LAB_MARK(MARK_START);
	for (unsigned long i = 0; i < count; i++) {
		due += period;
		sleep_until(due);
		LAB_MARK(MARK_STEP);
		spin(loops);
		times[i] = now_ns() - due;
	}
	LAB_MARK(MARK_END);
	print_times(times, count);
	free(times);
	return 0;
}

static int count_of(int pid, int without_kernel)
{
	struct perf_event_attr attr = {.size = sizeof(attr),
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.exclude_kernel = without_kernel & 1};
	int fd = (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, 0);

	if (fd < 0)
		fail("instructions of a process (lab/lab up --pmu has counters)");
	return fd;
}

static uint64_t value_of(int fd)
{
	uint64_t value;

	if (read(fd, &value, sizeof(value)) != sizeof(value))
		fail("read");
	return value;
}

/* Of the first thread alone. */
int retired(char **args)
{
	const int pid = (int)number(args[0]);
	const unsigned long seconds = number(args[1]);
	int all = count_of(pid, 0), user = count_of(pid, 1);
	const uint64_t from = now_ns(), all_before = value_of(all), user_before = value_of(user);
	uint64_t ns, grown, of_user;

	sleep_until(from + seconds * 1000000000U);
	grown = value_of(all) - all_before;
	of_user = value_of(user) - user_before;
	ns = now_ns() - from;
	printf("{\"ns\": %" PRIu64 ", \"instructions\": %" PRIu64 ", \"user\": %" PRIu64 "}\n", ns,
		grown, of_user);
	return 0;
}
