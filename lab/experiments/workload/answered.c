/* SPDX-License-Identifier: Apache-2.0 */
/* How long it takes until a guest answers that is only just being started. */
#include "workload.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#define EVERY_MS 5
#define BYTES    64U

/* Nobody there yet, or no answer: neither is an error. */
static int is_answered(int fd)
{
	struct pollfd waits = {.fd = fd, .events = POLLIN};
	char bytes[BYTES] = "anybody there?";

	if (send(fd, bytes, sizeof(bytes), 0) < 0)
		return poll(&waits, 0, EVERY_MS) > 0;
	return poll(&waits, 1, EVERY_MS) > 0 && recv(fd, bytes, sizeof(bytes), 0) > 0;
}

int answered(char **args)
{
	const uint64_t begin = now_ns(), limit = number(args[2]) * 1000000000U;
	const int fd = connected(args, SOCK_DGRAM);
	uint64_t asked = 1;

	LAB_MARK(MARK_START);
	while (!is_answered(fd)) {
		if (now_ns() - begin > limit) {
			fprintf(stderr, "workload: nobody answers\n");
			return 1;
		}
		asked++;
	}
	LAB_MARK(MARK_END);
	printf("{\"asked\": %" PRIu64 ", \"ns\": %" PRIu64 "}\n", asked, now_ns() - begin);
	return 0;
}
