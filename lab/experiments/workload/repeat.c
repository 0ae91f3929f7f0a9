/* SPDX-License-Identifier: Apache-2.0 */
/* Small things done again and again, each piece of work after a mark of its own. */
#include "workload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOGETHER 20 /* round trips of a step */

/* A file of the kernel's for whom a write is an order. */
int repeat(char **args)
{
	const size_t length = strlen(args[1]);
	const unsigned long count = number(args[2]);
	int fd = open(args[0], O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		fail(args[0]);
	LAB_MARK(MARK_START);
	for (unsigned long i = 0; i < count; i++) {
		LAB_MARK(MARK_STEP);
		if (write(fd, args[1], length) != (ssize_t)length)
			fail(args[1]);
	}
	LAB_MARK(MARK_END);
	puts("{}");
	return 0;
}

static void pass(int from, int to)
{
	char byte = 0;

	if (to >= 0 && write(to, &byte, 1) != 1)
		fail("write");
	if (from >= 0 && read(from, &byte, 1) != 1)
		fail("read");
}

static _Noreturn void echo(int from, int to, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++) {
		pass(from, -1);
		pass(-1, to);
	}
	_exit(0);
}

/* On one CPU each round trip is two switches, and a nap two more, to idle and back. */
int switches(char **args)
{
	const unsigned long steps = number(args[0]), us = number(args[1]);
	const struct timespec nap = {.tv_nsec = (long)us * 1000};
	int there[2], back[2], status;
	pid_t other;

	if (pipe(there) < 0 || pipe(back) < 0)
		fail("pipe");
	other = fork();
	if (other < 0)
		fail("fork");
	if (other == 0)
		echo(there[0], back[1], steps * TOGETHER);
	LAB_MARK(MARK_START);
	for (unsigned long i = 0; i < steps; i++) {
		LAB_MARK(MARK_STEP);
		for (unsigned j = 0; j < TOGETHER; j++) {
			pass(back[0], there[1]);
			if (us)
				nanosleep(&nap, NULL);
		}
	}
	LAB_MARK(MARK_END);
	if (waitpid(other, &status, 0) != other || status)
		fail("the other one");
	printf("{\"switches\": %u}\n", TOGETHER * (us ? 4 : 2)); /* a step */
	return 0;
}
