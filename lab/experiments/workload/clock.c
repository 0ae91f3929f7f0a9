/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's clocks say, beside those of the host, and whether one of them ever steps back. */
#include "workload.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define TRIES 32 /* questions of a sample, of which the one answered soonest counts */

struct reading {
	uint64_t monotonic, tsc;
};

static struct reading read_clocks(void)
{
	return (struct reading){.monotonic = now_ns(), .tsc = __rdtsc()};
}

/* Answers each datagram with what its own clock says. */
int tell_time(char **args)
{
	const int udp = listening(args, SOCK_DGRAM);

	puts("telling");
	fflush(stdout);
	for (;;) {
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);
		uint64_t now;

		if (recvfrom(udp, &now, sizeof(now), 0, (struct sockaddr *)&from, &length) < 0)
			continue;
		now = now_ns();
		sendto(udp, &now, sizeof(now), 0, (struct sockaddr *)&from, length);
	}
}

/* The host's clock in the middle of the shortest way there and back. */
int ask_time(char **args)
{
	const int udp = connected(args, SOCK_DGRAM);
	uint64_t best = UINT64_MAX, theirs = 0;
	struct reading at = {0};

	for (unsigned i = 0; i < TRIES; i++) {
		const struct reading before = read_clocks();
		struct reading after;
		uint64_t answer;

		if (send(udp, &answer, sizeof(answer), 0) < 0 ||
			recv(udp, &answer, sizeof(answer), 0) != sizeof(answer))
			continue;
		after = read_clocks();
		if (after.monotonic - before.monotonic >= best)
			continue;
		best = after.monotonic - before.monotonic;
		theirs = answer;
		at.monotonic = before.monotonic + best / 2;
		at.tsc = before.tsc + (after.tsc - before.tsc) / 2;
	}
	if (best == UINT64_MAX) {
		errno = ETIMEDOUT;
		fail("nobody tells the time");
	}
	printf("{\"host\": %lu, \"monotonic\": %lu, \"tsc\": %lu, \"way\": %lu}\n", theirs,
		at.monotonic, at.tsc, best);
	return 0;
}

/* Reads them until there is a file. */
int watch_clocks(char **args)
{
	struct reading last = read_clocks();
	uint64_t back_ns = 0, back_tsc = 0, reads = 0, gap_ns = 0;

	puts("watching");
	fflush(stdout);
	for (bool ended = false; !ended; reads++) {
		const struct reading now = read_clocks();

		if (now.monotonic < last.monotonic && last.monotonic - now.monotonic > back_ns)
			back_ns = last.monotonic - now.monotonic;
		if (now.tsc < last.tsc && last.tsc - now.tsc > back_tsc)
			back_tsc = last.tsc - now.tsc;
		if (now.monotonic > last.monotonic && now.monotonic - last.monotonic > gap_ns)
			gap_ns = now.monotonic - last.monotonic;
		last = now;
		if (reads % 1024 == 0)
			ended = access(args[0], F_OK) == 0;
	}
	printf("{\"reads\": %lu, \"back_ns\": %lu, \"back_tsc\": %lu, \"gap_ns\": %lu}\n", reads,
		back_ns, back_tsc, gap_ns);
	return 0;
}
