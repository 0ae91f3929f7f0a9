/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and responses, transfers and floods over UDP and TCP, and the peer that answers. */
#include "workload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD  64
#define LARGEST  (64 << 10)
#define DATAGRAM 1400
/* A datagram may be lost; a stream is only late, much so with a part of a CPU. */
#define DATAGRAM_SEC 5
#define STREAM_SEC   120

static struct sockaddr_in address_of(char **args)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)number(args[1]))};

	errno = EINVAL;
	if (inet_pton(AF_INET, args[0], &address.sin_addr) != 1)
		fail(args[0]);
	return address;
}

int connected(char **args, int type)
{
	const struct sockaddr_in address = address_of(args);
	const struct timeval patience = {.tv_sec = type == SOCK_DGRAM ? DATAGRAM_SEC : STREAM_SEC};
	int fd = socket(AF_INET, type, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
		connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		fail("connect");
	return fd;
}

int listening(char **args, int type)
{
	const struct sockaddr_in address = address_of(args);
	const int yes = 1;
	int fd = socket(AF_INET, type, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		fail("bind");
	if (type == SOCK_STREAM && listen(fd, 4) < 0)
		fail("listen");
	return fd;
}

static void echo(int udp)
{
	char packet[2048];
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	ssize_t got = recvfrom(udp, packet, sizeof(packet), 0, (struct sockaddr *)&from, &length);

	if (got > 0 && packet[0] != 'f') /* a flood wants no answer */
		sendto(udp, packet, (size_t)got, 0, (struct sockaddr *)&from, length);
}

/* Reads one connection to its end, and says with one byte that all is here. */
static void swallow(int tcp)
{
	static char buffer[1 << 18];
	int fd = accept(tcp, NULL, NULL);

	if (fd < 0)
		return;
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	if (write(fd, "", 1) < 0)
		perror("workload: serve");
	close(fd);
}

int serve(char **args)
{
	struct pollfd sockets[] = {{.fd = listening(args, SOCK_DGRAM), .events = POLLIN},
		{.fd = listening(args, SOCK_STREAM), .events = POLLIN}};

	puts("{\"serving\": true}");
	fflush(stdout);
	while (poll(sockets, 2, -1) > 0) {
		if (sockets[0].revents)
			echo(sockets[0].fd);
		if (sockets[1].revents)
			swallow(sockets[1].fd);
	}
	return 1;
}

/* One round trip's nanoseconds; 0 when the answer did not come. */
static uint64_t round_trip(int fd, uint32_t sequence)
{
	char out[PAYLOAD] = "r", in[PAYLOAD];
	const uint64_t start = now_ns();

	memcpy(out + 4, &sequence, sizeof(sequence));
	if (send(fd, out, sizeof(out), 0) < 0)
		return 0;
	do { /* an answer that came too late is not this one's */
		if (recv(fd, in, sizeof(in), 0) < 0)
			return 0;
	} while (memcmp(out, in, sizeof(in)) != 0);
	return now_ns() - start;
}

static int by_size(const void *one, const void *other)
{
	const uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

static void report_times(uint64_t *times, size_t count, size_t lost)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < count; i++)
		sum += (double)times[i];
	for (size_t i = 0; i < count; i++)
		squares += pow((double)times[i] - sum / (double)count, 2);
	qsort(times, count, sizeof(*times), by_size);
	printf("{\"count\": %zu, \"lost\": %zu, \"mean_ns\": %.0f, \"sd_ns\": %.0f, \"p99_ns\": "
	       "%llu, "
	       "\"percentiles_ns\": [",
		count, lost, sum / (double)count, sqrt(squares / (double)count),
		(unsigned long long)times[(count - 1) * 99 / 100]);
	for (size_t i = 0; i <= 100; i += 2)
		printf("%s%llu", i ? ", " : "", (unsigned long long)times[(count - 1) * i / 100]);
	puts("]}");
}

int request(char **args)
{
	const size_t wanted = number(args[2]), warmup = number(args[3]);
	uint64_t *times = calloc(wanted, sizeof(*times));
	size_t count = 0, lost = 0;
	uint32_t sequence = 0;
	int fd = connected(args, SOCK_DGRAM);

	if (!times)
		fail("memory");
	while (sequence < warmup)
		round_trip(fd, sequence++);
	LAB_MARK(MARK_START);
	while (count + lost < wanted) {
		LAB_MARK(MARK_STEP);
		times[count] = round_trip(fd, sequence++);
		if (times[count])
			count++;
		else
			lost++;
	}
	LAB_MARK(MARK_END);
	errno = ETIMEDOUT;
	if (count == 0)
		fail("no answer came");
	report_times(times, count, lost);
	free(times);
	return 0;
}

int stream(char **args)
{
	static char buffer[LARGEST];
	size_t left = number(args[2]);
	const size_t total = left;
	int fd = connected(args, SOCK_STREAM);
	uint64_t start = now_ns();

	LAB_MARK(MARK_START);
	while (left) {
		ssize_t sent = send(fd, buffer, left < LARGEST ? left : LARGEST, 0);

		if (sent <= 0)
			fail("send");
		left -= (size_t)sent;
	}
	shutdown(fd, SHUT_WR);
	if (recv(fd, buffer, 1, 0) != 1)
		fail("the peer's last word");
	LAB_MARK(MARK_END);
	printf("{\"bytes\": %zu, \"ns\": %llu}\n", total, (unsigned long long)(now_ns() - start));
	return 0;
}

int flood(char **args)
{
	char packet[DATAGRAM] = "f";
	const uint64_t end = now_ns() + number(args[2]) * 1000000000U;
	size_t sent = 0;
	int fd = connected(args, SOCK_DGRAM);

	while (now_ns() < end)
		sent += send(fd, packet, sizeof(packet), 0) > 0;
	printf("{\"packets\": %zu}\n", sent);
	return 0;
}

/* What is late is sent late: nothing is made up for, so that no burst comes of it. */
int paced(char **args)
{
	char packet[DATAGRAM] = "f";
	const size_t count = number(args[2]);
	const unsigned long period = number(args[3]); /* microseconds */
	const struct timespec pause = {
		.tv_sec = (time_t)(period / 1000000U), .tv_nsec = (long)(period % 1000000U) * 1000};
	size_t sent = 0;
	int fd = connected(args, SOCK_DGRAM);

	LAB_MARK(MARK_START);
	while (sent < count) { /* word that nobody listens there is no reason to end */
		nanosleep(&pause, NULL);
		if (send(fd, packet, sizeof(packet), 0) > 0)
			sent++;
		else if (errno != ECONNREFUSED)
			fail("send");
	}
	LAB_MARK(MARK_END);
	printf("{\"packets\": %zu}\n", sent);
	return 0;
}
