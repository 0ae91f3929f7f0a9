/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP sender, and its congestion window on the way. */
#include "workload.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (16 << 10)

struct seen {
	uint64_t bytes, looks, windows;
	uint32_t lowest_window, lowest_threshold, resent;
};

static uint32_t lower(uint32_t one, uint32_t other)
{
	return one < other ? one : other;
}

/* Segments. */
static void look(int fd, struct seen *seen)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		fail("TCP_INFO");
	seen->looks++;
	seen->windows += info.tcpi_snd_cwnd;
	seen->lowest_window = lower(seen->lowest_window, info.tcpi_snd_cwnd);
	seen->lowest_threshold = lower(seen->lowest_threshold, info.tcpi_snd_ssthresh);
	seen->resent = info.tcpi_total_retrans;
}

int window(char **args)
{
	static char buffer[CHUNK];
	const uint64_t end = now_ns() + number(args[2]) * 1000000;
	struct seen seen = {.lowest_window = UINT32_MAX, .lowest_threshold = UINT32_MAX};
	int fd = connected(args, SOCK_STREAM);

	LAB_MARK(MARK_START);
	while (now_ns() < end) {
		ssize_t sent = send(fd, buffer, sizeof(buffer), 0);

		if (sent <= 0)
			fail("send");
		seen.bytes += (uint64_t)sent;
		look(fd, &seen);
	}
	shutdown(fd, SHUT_WR);
	if (recv(fd, buffer, 1, 0) != 1)
		fail("the peer's last word");
	LAB_MARK(MARK_END);
	look(fd, &seen);
	printf("{\"bytes\": %lu, \"window\": %.1f, \"lowest_window\": %u, "
	       "\"lowest_threshold\": %u, \"resent\": %u}\n",
		seen.bytes, (double)seen.windows / (double)seen.looks, seen.lowest_window,
		seen.lowest_threshold, seen.resent);
	return 0;
}
