/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to tenants at fixed times, each tenant in its turn, whether those before were answered
 * or not. Each request and each answer is a step: a mark, in the order in which they happened.
 */
#define _GNU_SOURCE
#include "tenant.h"
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MOST        64
#define PATIENCE_NS 5000000000U /* for what was not answered when the last request is sent */
#define NONE        SIZE_MAX

struct request {
	uint64_t due, took;    /* nanoseconds; it took none when nobody answered */
	size_t sent, answered; /* the marks */
};

struct run {
	struct pollfd tenants[MOST];
	size_t count;
	struct request *requests;
	size_t total, sent, answered, marks;
	uint64_t begun, late, wrong;
};

static void meet(struct run *run, char *addresses, char *port)
{
	for (char *address; (address = strsep(&addresses, ","));) {
		char *args[] = {address, port};

		errno = E2BIG;
		if (run->count == MOST)
			fail("tenants");
		run->tenants[run->count++] =
			(struct pollfd){.fd = connected(args, SOCK_DGRAM), .events = POLLIN};
	}
}

/* @period is each tenant's; they come after each other within it. */
static void plan(struct run *run, size_t each, uint64_t period)
{
	run->total = each * run->count;
	run->requests = calloc(run->total ? run->total : 1, sizeof(*run->requests));
	if (!run->requests)
		fail("memory");
	for (size_t i = 0; i < run->total; i++)
		run->requests[i] = (struct request){
			.due = run->begun + (i + 1) * period / run->count, .answered = NONE};
}

static void ask(struct run *run)
{
	struct request *request = &run->requests[run->sent];
	const struct tenant_message message = {.run = run->begun, .number = (uint32_t)run->sent};
	const uint64_t late = now_ns() - request->due;

	run->late = late > run->late ? late : run->late;
	request->sent = run->marks++;
	LAB_MARK(MARK_STEP);
	/* What cannot be sent is not answered. */
	send(run->tenants[run->sent++ % run->count].fd, &message, sizeof(message), MSG_DONTWAIT);
}

static void hear(struct run *run, int fd)
{
	struct tenant_message message;
	struct request *request;

	if (recv(fd, &message, sizeof(message), MSG_DONTWAIT) != sizeof(message) ||
		message.run != run->begun || message.number >= run->sent)
		return;
	request = &run->requests[message.number];
	if (request->answered != NONE)
		return;
	request->took = now_ns() - request->due;
	request->answered = run->marks++;
	LAB_MARK(MARK_STEP);
	run->wrong += message.wrong;
	run->answered++;
}

/* Until something came or it is time for the next request. False when no more is waited for. */
static bool await(struct run *run)
{
	const uint64_t until = run->sent < run->total
				       ? run->requests[run->sent].due
				       : run->requests[run->total - 1].due + PATIENCE_NS;
	const uint64_t now = now_ns(), left = until > now ? until - now : 0;
	const struct timespec wait = {
		.tv_sec = (time_t)(left / 1000000000U), .tv_nsec = (long)(left % 1000000000U)};

	if (ppoll(run->tenants, run->count, &wait, NULL) < 0)
		fail("poll");
	return run->sent < run->total || now < until;
}

static void go(struct run *run)
{
	while (run->answered < run->total && await(run)) {
		for (size_t i = 0; i < run->count; i++)
			if (run->tenants[i].revents)
				hear(run, run->tenants[i].fd);
		if (run->sent < run->total && now_ns() >= run->requests[run->sent].due)
			ask(run);
	}
}

/* Of each request its tenant, its two marks and its nanoseconds; -1 for an answer that did not
 * come. */
static void tell(const struct run *run)
{
	printf("{\"late_ns\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"marks\": %zu, \"requests\": [",
		run->late, run->wrong, run->marks);
	for (size_t i = 0; i < run->total; i++) {
		const struct request *request = &run->requests[i];
		const bool lost = request->answered == NONE;

		printf("%s[%zu, %zu, %zd, %" PRId64 "]", i ? ", " : "", i % run->count,
			request->sent, lost ? -1 : (ssize_t)request->answered,
			lost ? -1 : (int64_t)request->took);
	}
	puts("]}");
}

int arrivals(char **args)
{
	struct run run = {.begun = now_ns()};

	meet(&run, args[0], args[1]);
	plan(&run, number(args[2]), number(args[3]) * 1000U);
	go(&run);
	tell(&run);
	free(run.requests);
	return 0;
}
