/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
	const char *name;
	int (*run)(char **args);
	int arguments;
} programs[] = {
	{"serve", serve, 2},
	{"request", request, 4},
	{"stream", stream, 3},
	{"flood", flood, 3},
	{"paced", paced, 4},
	{"offloads", offloads, 2},
	{"disk", disk, 5},
	{"rings", rings, 4},
	{"counters", counters, 5},
	{"noise", noise, 3},
	{"window", window, 4},
	{"loops", loops, 1},
	{"await", await_service, 4},
	{"fork", fork_heap, 3},
	{"copy", copy, 1},
	{"repeat", repeat, 3},
	{"switches", switches, 2},
	{"tell-time", tell_time, 2},
	{"ask-time", ask_time, 2},
	{"watch-clocks", watch_clocks, 1},
	{"touch", touch, 2},
	{"library", library, 2},
	{"data", data, 1},
	{"burst", burst, 4},
	{"shareable", shareable, 1},
	{"moving", moving, 2},
	{"hogs", hogs, 1},
	{"respond", respond, 3},
	{"retired", retired, 2},
	{"travel", travel, 6},
	{"answered", answered, 3},
	{"tenant", tenant, 6},
	{"arrivals", arrivals, 4},
};

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t draw(uint64_t *random, uint64_t below)
{
	*random = *random * 6364136223846793005U + 1442695040888963407U;
	return (*random >> 33) % below;
}

unsigned long number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end) {
		errno = EINVAL;
		fail(text);
	}
	return value;
}

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(programs) / sizeof(programs[0]); i++)
		if (strcmp(argv[1], programs[i].name) == 0 && argc == 2 + programs[i].arguments)
			return programs[i].run(argv + 2);
	fprintf(stderr, "workload: see workload.h for the programs and their arguments\n");
	return 2;
}
