/* SPDX-License-Identifier: Apache-2.0 */
/* A service and its client on one CPU: a request takes work, and the client has a time-out. */
#define _GNU_SOURCE
#include "workload.h"

#include "../../../guest/lib/include/duet/timer.h"

#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALIBRATION 200000
#define DEAD        10 /* requests that nobody answers */
#define MINUTE_MS   60000

struct client {
	int fd;
	int timer; /* on effective time; below 0: on the wall's */
	uint64_t timeout;
	uint64_t timeouts, mean, worst;
};

static void work(uint64_t loops)
{
	for (uint64_t i = 0; i < loops; i++)
		__asm__ volatile("" : "+r"(i));
}

/* Loops that take @ns where nobody takes the CPU away: the shortest of some tries. */
static uint64_t loops_of(uint64_t ns)
{
	uint64_t best = UINT64_MAX;

	for (int tries = 0; tries < 20; tries++) {
		uint64_t start = now_ns();

		work(CALIBRATION);
		if (now_ns() - start < best)
			best = now_ns() - start;
	}
	return ns * CALIBRATION / (best ? best : 1);
}

static void on_one_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		fail("CPU 0");
}

static void answer(int fd, uint64_t loops)
{
	char byte;

	while (read(fd, &byte, 1) == 1) {
		work(loops);
		if (write(fd, &byte, 1) != 1)
			_exit(1);
	}
	_exit(0);
}

/* True: there is an answer; false: the time-out was first. */
static bool await(const struct client *client)
{
	struct pollfd files[2] = {
		{.fd = client->fd, .events = POLLIN}, {.fd = client->timer, .events = POLLIN}};

	if (client->timer >= 0 && duet_timer_set(client->timer, client->timeout, 0) < 0)
		fail("the timer");
	if (poll(files, 2, client->timer >= 0 ? MINUTE_MS : (int)(client->timeout / 1000000)) < 0)
		fail("poll");
	return files[0].revents;
}

static void request_once(struct client *client)
{
	uint64_t start = now_ns(), took;
	char byte = 0;

	if (write(client->fd, &byte, 1) != 1)
		fail("request");
	/* Every answer comes in the end: a time-out before it was for nothing. */
	client->timeouts += !await(client);
	if (read(client->fd, &byte, 1) != 1)
		fail("answer");
	took = now_ns() - start;
	client->mean += took;
	client->worst = took > client->worst ? took : client->worst;
}

/* How long the client waits, at worst, for one that does not answer: on the wall. */
static uint64_t await_the_dead(const struct client *client)
{
	uint64_t worst = 0;

	for (int i = 0; i < DEAD; i++) {
		uint64_t start = now_ns();

		if (await(client))
			fail("an answer that nobody gave");
		worst = now_ns() - start > worst ? now_ns() - start : worst;
	}
	return worst;
}

int await_service(char **args)
{
	const uint64_t count = number(args[0]), loops = loops_of(number(args[1]) * 1000);
	struct client client = {.timer = -1, .timeout = number(args[2]) * 1000000};
	struct duet_time before = {0}, after = {0};
	uint64_t dead;
	int ends[2];

	if (strcmp(args[3], "effective") == 0 && (client.timer = duet_timer_open(0)) < 0)
		fail("/dev/duet-timer");
	on_one_cpu();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		fail("socketpair");
	if (fork() == 0) {
		close(ends[0]);
		answer(ends[1], loops);
	}
	close(ends[1]);
	client.fd = ends[0];
	if (client.timer >= 0)
		duet_timer_now(client.timer, &before);
	LAB_MARK(MARK_START);
	for (uint64_t i = 0; i < count; i++)
		request_once(&client);
	LAB_MARK(MARK_END);
	if (client.timer >= 0)
		duet_timer_now(client.timer, &after);
	dead = await_the_dead(&client);
	printf("{\"requests\": %lu, \"timeouts\": %lu, \"mean_ns\": %lu, \"worst_ns\": %lu, "
	       "\"stolen_ns\": %lu, \"dead_ns\": %lu}\n",
		count, client.timeouts, client.mean / count, client.worst,
		after.stolen - before.stolen, dead);
	return 0;
}
