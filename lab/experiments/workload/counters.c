/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work of a known size under a perf event, of the PMU that the guest's module registers or of any
 * other, and a neighbour that makes noise.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PMUS     "/sys/bus/event_source/devices/"
#define NAP_NS   100000L
#define EVENTS   4
#define ONE_LOOP 2 /* instructions */

static int read_file(const char *path, const char *format, void *value)
{
	FILE *file = fopen(path, "re");
	int got = file ? fscanf(file, format, value) : -1;

	if (file)
		fclose(file);
	return got == 1 ? 0 : -1;
}

/* PMU/NAME, as perf has it, from sysfs. */
static void find_event(const char *pmu, const char *name, struct perf_event_attr *attr)
{
	char path[256];
	uint64_t config;

	snprintf(path, sizeof(path), PMUS "%s/type", pmu);
	if (read_file(path, "%" SCNu32, &attr->type) < 0)
		fail(path);
	snprintf(path, sizeof(path), PMUS "%s/events/%s", pmu, name);
	if (read_file(path, "event=%" SCNx64, &config) < 0)
		fail(path);
	attr->config = config;
}

/* @cpu below 0: of this thread wherever it runs; else of the CPU whoever runs. */
static int open_event(const char *pmu, const char *name, int cpu)
{
	struct perf_event_attr attr = {.size = sizeof(attr),
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING};
	int fd;

	find_event(pmu, name, &attr);
	fd = (int)syscall(SYS_perf_event_open, &attr, cpu < 0 ? 0 : -1, cpu, -1, 0);
	if (fd < 0)
		fail(name);
	return fd;
}

/* @rounds of ONE_LOOP instructions each. */
static void spin(uint64_t rounds)
{
	if (rounds)
		__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(rounds) : : "cc");
}

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

struct sample {
	uint64_t count, enabled, running;
};

static void take(int fd, struct sample *sample)
{
	if (fd >= 0 && read(fd, sample, sizeof(*sample)) != sizeof(*sample))
		fail("read");
}

/* A step of the measurement begins with each nap, unless it is to @warm up. */
static void work(uint64_t rounds, unsigned long naps, bool warm)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};

	spin(rounds / (naps + 1));
	for (unsigned long i = 0; i < naps; i++) {
		if (!warm)
			LAB_MARK(MARK_STEP);
		nanosleep(&nap, NULL);
		spin(rounds / (naps + 1));
	}
}

static unsigned open_events(const char *pmu, char *names, int cpu, int fds[EVENTS])
{
	unsigned count = 0;

	for (char *name = strtok(names, "+"); name && count < EVENTS; name = strtok(NULL, "+"))
		if (strcmp(name, "none") != 0)
			fds[count++] = open_event(pmu, name, cpu);
	return count;
}

int counters(char **args)
{
	const int cpu = strcmp(args[2], "thread") == 0 ? -1 : (int)number(args[2]);
	const uint64_t rounds = number(args[3]);
	const unsigned long naps = number(args[4]);
	struct sample before[EVENTS] = {0}, after[EVENTS] = {0};
	int fds[EVENTS];
	unsigned count = open_events(args[0], args[1], cpu, fds);
	uint64_t start, thread;

	/* All of it has run once before it counts: what is between a read and its mark is small. */
	for (unsigned i = 0; i < count; i++)
		take(fds[i], &after[i]);
	work(rounds / 100, naps / 10, true);
	start = now_ns();
	thread = thread_ns();
	for (unsigned i = 0; i < count; i++)
		take(fds[i], &before[i]);
	LAB_MARK(MARK_START);
	work(rounds, naps, false);
	LAB_MARK(MARK_END);
	for (unsigned i = 0; i < count; i++)
		take(fds[i], &after[i]);
	thread = thread_ns() - thread;
	printf("{\"ns\": %" PRIu64 ", \"thread_ns\": %" PRIu64 ", \"own\": %" PRIu64
	       ", \"events\": [",
		now_ns() - start, thread, rounds / (naps + 1) * (naps + 1) * ONE_LOOP);
	for (unsigned i = 0; i < count; i++)
		printf("%s{\"count\": %" PRIu64 ", \"enabled\": %" PRIu64 ", \"running\": %" PRIu64
		       "}",
			i ? ", " : "", after[i].count - before[i].count,
			after[i].enabled - before[i].enabled, after[i].running - before[i].running);
	printf("]}\n");
	return 0;
}

/* Says that it has begun; then busy or at rest for a while, with what the CPU counted in it. */
int noise(char **args)
{
	const int cpu = (int)number(args[0]);
	const uint64_t end = now_ns() + number(args[1]) * 1000000000U;
	const struct timespec nap = {.tv_nsec = NAP_NS * 100};
	struct sample before, after;
	cpu_set_t one;
	int fd;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		fail("sched_setaffinity");
	fd = open_event("cpu", "instructions", cpu);
	take(fd, &before);
	puts("noise");
	fflush(stdout);
	while (now_ns() < end)
		if (strcmp(args[2], "spin") == 0)
			spin(1000000);
		else
			nanosleep(&nap, NULL);
	take(fd, &after);
	printf("%" PRIu64 "\n", after.count - before.count);
	return 0;
}
