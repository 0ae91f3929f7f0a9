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

#define CALIBRATION    200000
#define CALIBRATION_NS 500000000
#define DEAD           5 /* requests that nobody answers */
#define MINUTE_MS      60000

struct client {
	int fd;
	int timer; /* on effective time; below 0: on the wall's */
	int clock; /* effective time, for the record; below 0: there is none */
	uint64_t timeout;
	uint64_t timeouts, mean, worst;
};

static void work(uint64_t loops)
{
	for (uint64_t i = 0; i < loops; i++)
		__asm__ volatile("" : "+r"(i));
}

/* Loops that take @ns: the mean of half a second, for the lab's CPUs have their own neighbours. */
static uint64_t loops_of(uint64_t ns)
{
	const uint64_t start = now_ns();
	uint64_t done = 0;

	while (now_ns() - start < CALIBRATION_NS) {
		work(CALIBRATION);
		done += CALIBRATION;
	}
	return (uint64_t)((double)ns * (double)done / (double)(now_ns() - start));
}

/* So that all that are compared do the same work. */
int loops(char **args)
{
	printf("{\"loops\": %lu}\n", loops_of(number(args[0]) * 1000));
	return 0;
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

static struct duet_time time_of(const struct client *client)
{
	struct duet_time time = {.wall = now_ns()};

	if (client->clock >= 0 && duet_timer_now(client->clock, &time) < 0)
		fail("/dev/duet-timer");
	return time;
}

/* The service is a process of its own. */
static int started_service(uint64_t loops)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		fail("socketpair");
	if (fork() == 0) {
		close(ends[0]);
		answer(ends[1], loops);
	}
	close(ends[1]);
	return ends[0];
}

static void report(const struct client *client, uint64_t count, const struct duet_time *before,
	const struct duet_time *after)
{
	printf("{\"requests\": %lu, \"timeouts\": %lu, \"mean_ns\": %lu, \"worst_ns\": %lu, "
	       "\"stolen_ns\": %lu, \"wall_ns\": %lu, \"effective_ns\": %lu, \"dead_ns\": %lu}\n",
		count, client->timeouts, client->mean / count, client->worst,
		after->stolen - before->stolen, after->wall - before->wall,
		after->effective - before->effective, await_the_dead(client));
}

int await_service(char **args)
{
	const uint64_t count = number(args[0]);
	struct client client = {.timer = -1, .timeout = number(args[2]) * 1000000};
	struct duet_time before, after;

	if (strcmp(args[3], "effective") == 0 && (client.timer = duet_timer_open(0)) < 0)
		fail("/dev/duet-timer");
	client.clock = duet_timer_open(0);
	on_one_cpu();
	client.fd = started_service(number(args[1]));
	before = time_of(&client);
	LAB_MARK(MARK_START);
	for (uint64_t i = 0; i < count; i++)
		request_once(&client);
	LAB_MARK(MARK_END);
	after = time_of(&client);
	report(&client, count, &before, &after);
	return 0;
}
