/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program relies on in poll() and its kin, whoever implements them: run bare, and under
 * libduet-time.so. With an argument a
 * timer must have been used.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 30
#define LONG_MS    60000

static int ends[2]; /* of a pipe */

#define CHECK(condition) check(condition, #condition, __LINE__)

static void check(bool right, const char *what, int line)
{
	if (right)
		return;
	fprintf(stderr, "test_waits.c:%d: %s (errno: %s)\n", line, what, strerror(errno));
	exit(1);
}

static double ms_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void put(void)
{
	CHECK(write(ends[1], "x", 1) == 1);
}

static void take(void)
{
	char byte;

	CHECK(read(ends[0], &byte, 1) == 1);
}

/* One way to wait for the pipe: how many are ready. */
static int by_poll(int ms)
{
	struct pollfd file = {.fd = ends[0], .events = POLLIN, .revents = 77};
	int ready = poll(&file, 1, ms);

	CHECK(ready < 0 || file.revents == (ready ? POLLIN : 0));
	return ready;
}

static int by_many(int ms)
{
	struct pollfd files[200];
	int ready;

	for (int i = 0; i < 200; i++)
		files[i] = (struct pollfd){.fd = i == 150 ? ends[0] : -1, .events = POLLIN};
	ready = poll(files, 200, ms);
	CHECK(ready < 0 || files[150].revents == (ready ? POLLIN : 0));
	return ready;
}

static int by_ppoll(int ms)
{
	struct pollfd file = {.fd = ends[0], .events = POLLIN};
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	return ppoll(&file, 1, &time, NULL);
}

static int by_select(int ms)
{
	struct timeval time = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L};
	fd_set read;
	int ready;

	FD_ZERO(&read);
	FD_SET(ends[0], &read);
	ready = select(ends[0] + 1, &read, NULL, NULL, &time);
	CHECK(ready < 0 || !!FD_ISSET(ends[0], &read) == ready);
	for (int fd = ends[0] + 1; ready >= 0 && fd < FD_SETSIZE; fd++)
		CHECK(!FD_ISSET(fd, &read));
	CHECK(ready ? time.tv_sec > 0 || ms < 1000 || ready < 0 : time.tv_sec + time.tv_usec == 0);
	return ready;
}

static int by_pselect(int ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	fd_set read;

	FD_ZERO(&read);
	FD_SET(ends[0], &read);
	return pselect(ends[0] + 1, &read, NULL, NULL, &time, NULL);
}

static int by_epoll(int ms)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = 9}, found = {0};
	int set = epoll_create1(0), ready;

	CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event) == 0);
	ready = epoll_wait(set, &found, 1, ms);
	CHECK(ready <= 0 || found.data.u32 == 9);
	close(set);
	return ready;
}

static int (*const ways[])(int ms) = {by_poll, by_many, by_ppoll, by_select, by_pselect, by_epoll};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void check_way(int (*way)(int ms))
{
	double start = ms_now();

	CHECK(way(TIMEOUT_MS) == 0);
	CHECK(ms_now() - start >= TIMEOUT_MS - 0.01);
	start = ms_now();
	CHECK(way(0) == 0);
	put();
	CHECK(way(TIMEOUT_MS) == 1);
	CHECK(way(LONG_MS) == 1);
	CHECK(ms_now() - start < LONG_MS / 2);
	take();
}

static void nothing(int number)
{
	(void)number;
}

static void *check_all(void *unused)
{
	for (size_t i = 0; i < WAYS; i++)
		check_way(ways[i]);
	return unused;
}

/* A signal ends a wait, in time and with its error. */
static void check_signals(void)
{
	const struct sigaction action = {.sa_handler = nothing};
	const struct itimerval soon = {.it_value = {.tv_usec = 20000}};

	sigaction(SIGALRM, &action, NULL);
	for (size_t i = 0; i < WAYS; i++) {
		CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
		errno = 0;
		CHECK(ways[i](LONG_MS) == -1 && errno == EINTR);
	}
}

static void check_errors(void)
{
	struct epoll_event event;
	struct timeval bad = {.tv_sec = -1};

	CHECK(epoll_wait(-1, &event, 1, TIMEOUT_MS) == -1 && errno == EBADF);
	CHECK(select(0, NULL, NULL, NULL, &bad) == -1 && errno == EINVAL);
}

/* A child waits by a timer of its own. */
static void check_fork(void)
{
	pid_t child = fork();
	int status = -1;

	CHECK(child >= 0);
	if (child == 0) {
		check_all(NULL);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	check_all(NULL);
}

/* How many files of the kind that is preloaded are open. */
static unsigned timers_open(void)
{
	char path[64], name[64];
	unsigned count = 0;

	for (int fd = 3; fd < 64; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, name, sizeof(name) - 1);
		name[length > 0 ? length : 0] = '\0';
		count += strstr(name, "timerfd") || strstr(name, "duet-timer");
	}
	return count;
}

/* A program that closes what it does not know, and takes the number for itself. */
static void check_closed(void)
{
	int other;

	for (int fd = 3; fd < 64; fd++)
		if (fd != ends[0] && fd != ends[1])
			close(fd);
	other = dup(ends[0]);
	check_all(NULL);
	put();
	CHECK(read(other, &(char){0}, 1) == 1);
	close(other);
}

/* As a daemon begins: what the parent had open is closed, and its numbers are the child's files. */
static void check_daemon(void)
{
	pid_t child = fork();
	int status = -1;

	CHECK(child >= 0);
	if (child == 0) {
		check_closed();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* The same of a thread that ends. */
static int thread_files[8];

static void *close_and_open(void *opaque)
{
	check_all(NULL);
	for (int fd = 3; fd < 64; fd++)
		if (fd != ends[0] && fd != ends[1])
			close(fd);
	for (unsigned i = 0; i < 8; i++)
		thread_files[i] = dup(ends[0]);
	return opaque;
}

static void check_thread_end(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, close_and_open, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	for (unsigned i = 0; i < 8; i++) {
		put();
		CHECK(read(thread_files[i], &(char){0}, 1) == 1);
		close(thread_files[i]);
	}
}

/* A set that is no longer than its files need, and a timer of a higher number. */
static void *check_short_sets(void *opaque)
{
	struct timeval time = {.tv_usec = TIMEOUT_MS * 1000L};
	unsigned long *words = calloc(2, sizeof(*words));

	CHECK(words != NULL);
	/* What is behind the last file is nobody's. */
	words[0] = 1UL << ends[0] | 1UL << 63;
	words[1] = ~0UL;
	CHECK(select(ends[0] + 1, (fd_set *)words, NULL, NULL, &time) == 0);
	CHECK(words[0] == 0 && words[1] == ~0UL);
	put();
	words[0] = 1UL << ends[0];
	time = (struct timeval){.tv_sec = 1};
	CHECK(select(ends[0] + 1, (fd_set *)words, NULL, NULL, &time) == 1);
	CHECK(words[0] == 1UL << ends[0] && words[1] == ~0UL);
	take();
	free(words);
	return opaque;
}

static void check_short_sets_with_many_files(void)
{
	pthread_t thread;
	int files[100];

	for (unsigned i = 0; i < 100; i++)
		CHECK((files[i] = dup(ends[0])) >= 0);
	CHECK(pthread_create(&thread, NULL, check_short_sets, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	for (unsigned i = 0; i < 100; i++)
		close(files[i]);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	(void)argv;
	CHECK(pipe(ends) == 0);
	check_all(NULL);
	CHECK(argc == 1 || timers_open() == 1);
	CHECK(pthread_create(&thread, NULL, check_all, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(argc == 1 || timers_open() == 1);
	check_short_sets_with_many_files();
	check_signals();
	check_errors();
	check_fork();
	check_daemon();
	check_thread_end();
	check_closed();
	CHECK(argc == 1 || timers_open() == 1);
	printf("waits: ok%s\n", argc > 1 ? ", by timers" : "");
	return 0;
}
