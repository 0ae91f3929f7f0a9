/* SPDX-License-Identifier: Apache-2.0 */
/* TCP senders one after the other, and their congestion windows on the way. */
#include "workload.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (16 << 10)

struct seen {
	uint64_t bytes, looks, windows;
	uint32_t lowest_window, resent;
};

/* Segments. */
static void look(int fd, struct seen *seen)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		fail("TCP_INFO");
	seen->looks++;
	seen->windows += info.tcpi_snd_cwnd;
	if (info.tcpi_snd_cwnd < seen->lowest_window)
		seen->lowest_window = info.tcpi_snd_cwnd;
	seen->resent = info.tcpi_total_retrans;
}

static void send_for(char **args, uint64_t ns, struct seen *seen)
{
	static char buffer[CHUNK];
	const uint64_t end = now_ns() + ns;
	int fd = connected(args, SOCK_STREAM);
	uint32_t before = seen->resent;

	while (now_ns() < end) {
		ssize_t sent = send(fd, buffer, sizeof(buffer), 0);

		if (sent <= 0)
			fail("send");
		seen->bytes += (uint64_t)sent;
		look(fd, seen);
	}
	shutdown(fd, SHUT_WR);
	if (recv(fd, buffer, 1, 0) != 1)
		fail("the peer's last word");
	look(fd, seen);
	seen->resent += before;
	close(fd);
}

int window(char **args)
{
	const uint64_t ns = number(args[2]) * 1000000, count = number(args[3]);
	struct seen seen = {.lowest_window = UINT32_MAX};

	LAB_MARK(MARK_START);
	for (uint64_t i = 0; i < count; i++)
		send_for(args, ns, &seen);
	LAB_MARK(MARK_END);
	printf("{\"bytes\": %lu, \"window\": %.1f, \"lowest_window\": %u, \"resent\": %u}\n",
		seen.bytes, (double)seen.windows / (double)seen.looks, seen.lowest_window,
		seen.resent);
	return 0;
}
