/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libduet-time.so: LD_PRELOAD it, and the time-outs of an unchanged program's poll(), ppoll(),
 * select(), pselect(), epoll_wait(), epoll_pwait() and epoll_pwait2() are in effective time. Each
 * thread has a timer of its own, which stands among the files that are waited for. What has no
 * time-out, or one of 0, goes straight to the C library; so does all of it, said once on standard
 * error, where the timer is not to be had.
 *
 * Not its business: waits inside the C library itself (name service), sleeps, and time-outs of
 * locks.
 */
#include "duet/timer.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND 1000000ULL
#define SECOND      1000000000ULL
/* Longer ones are not worth it: nobody notices. Also within what the device takes. */
#define LONGEST (24 * 3600 * SECOND)
/* What the program is to find first. */
#define EXPORT __attribute__((visibility("default")))
/* Files of one poll() that need no memory of the heap. */
#define FEW 64

/* What the C library would have done. */
static struct {
	int (*ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
	int (*pselect)(
		int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *);
	int (*select)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
	int (*poll)(struct pollfd *, nfds_t, int);
	int (*epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
	int (*epoll_pwait2)(
		int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
} real;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t at_thread_end;
static atomic_bool absent;
static atomic_uint generation = 1; /* of the process: a child does not share its parent's timer */

/* The thread's timer. */
static __thread struct {
	int fd;
	unsigned generation; /* 0: never opened */
} own;

/* A program may close what it does not know, and its number be another file's by now. */
static void let_go(void)
{
	struct duet_time now;

	if (own.generation && duet_timer_now(own.fd, &now) == 0)
		close(own.fd);
	own.generation = 0;
}

static void close_own(void *opened)
{
	(void)opened;
	let_go();
}

static void in_child(void)
{
	atomic_fetch_add(&generation, 1);
}

static void *find(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static void begin(void)
{
	/* POSIX has a function's address in a void *; ISO C has not. */
	*(void **)&real.ppoll = find("ppoll");
	*(void **)&real.pselect = find("pselect");
	*(void **)&real.select = find("select");
	*(void **)&real.poll = find("poll");
	*(void **)&real.epoll_pwait = find("epoll_pwait");
	*(void **)&real.epoll_pwait2 = find("epoll_pwait2");
	pthread_key_create(&at_thread_end, close_own);
	pthread_atfork(NULL, NULL, in_child);
}

static void give_up(void)
{
	if (!atomic_exchange(&absent, true))
		fprintf(stderr,
			"libduet-time: /dev/duet-timer: %s: time-outs are on the wall's clock; "
			"modprobe duet in a guest of duet that has --coop\n",
			strerror(errno));
}

static bool open_own(void)
{
	/* A child's copy of its parent's: the file is open twice. */
	let_go();
	own.fd = duet_timer_open(O_NONBLOCK | O_CLOEXEC);
	if (own.fd < 0)
		return false;
	own.generation = atomic_load(&generation);
	pthread_setspecific(at_thread_end, &own);
	return true;
}

/* The thread's timer, set to @ns from now; -1: there is none. errno stays. */
static int timer_for(uint64_t ns)
{
	const int before = errno;
	bool set;

	pthread_once(&once, begin);
	if (atomic_load(&absent) || ns == 0 || ns > LONGEST)
		return -1;
	set = own.generation == atomic_load(&generation) && duet_timer_set(own.fd, ns, 0) == 0;
	/* The first of this thread or process, or the program has closed it. */
	if (!set && open_own())
		set = duet_timer_set(own.fd, ns, 0) == 0;
	if (!set)
		give_up();
	errno = before;
	return set ? own.fd : -1;
}

/* 0 for one that is none. */
static uint64_t ns_of(const struct timespec *time)
{
	if (!time || time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= (long)SECOND ||
		(uint64_t)time->tv_sec > LONGEST / SECOND)
		return 0;
	return (uint64_t)time->tv_sec * SECOND + (uint64_t)time->tv_nsec;
}

static uint64_t ns_of_ms(int ms)
{
	return ms > 0 ? (uint64_t)ms * MILLISECOND : 0;
}

/* poll, ppoll */

static int poll_all(struct pollfd *all, nfds_t count, int timer, const sigset_t *mask)
{
	int ready;

	all[count] = (struct pollfd){.fd = timer, .events = POLLIN};
	ready = real.ppoll(all, count + 1, NULL, mask);
	return ready > 0 && all[count].revents ? ready - 1 : ready;
}

static int poll_until(struct pollfd *files, nfds_t count, int timer, const sigset_t *mask)
{
	struct pollfd few[FEW + 1], *all = few;
	int ready;

	/* A number that the kernel refuses is refused by it. */
	if (count > FEW)
		all = count < 1U << 20 ? malloc((count + 1) * sizeof(*all)) : NULL;
	if (!all) {
		errno = count < 1U << 20 ? ENOMEM : EINVAL;
		return -1;
	}
	if (count)
		memcpy(all, files, count * sizeof(*all));
	ready = poll_all(all, count, timer, mask);
	for (nfds_t i = 0; ready >= 0 && i < count; i++)
		files[i].revents = all[i].revents;
	if (all != few)
		free(all);
	return ready;
}

EXPORT int poll(struct pollfd *files, nfds_t count, int timeout)
{
	int timer = timer_for(ns_of_ms(timeout));

	return timer < 0 ? real.poll(files, count, timeout) : poll_until(files, count, timer, NULL);
}

EXPORT int ppoll(
	struct pollfd *files, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	int timer = timer_for(ns_of(timeout));

	return timer < 0 ? real.ppoll(files, count, timeout, mask)
			 : poll_until(files, count, timer, mask);
}

/* What programs call that were compiled with checks of buffers. */
EXPORT int __poll_chk(struct pollfd *files, nfds_t count, int timeout, size_t room);
EXPORT int __poll_chk(struct pollfd *files, nfds_t count, int timeout, size_t room)
{
	if (room / sizeof(*files) < count)
		abort();
	return poll(files, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *files, nfds_t count, const struct timespec *timeout,
	const sigset_t *mask, size_t room);
EXPORT int __ppoll_chk(struct pollfd *files, nfds_t count, const struct timespec *timeout,
	const sigset_t *mask, size_t room)
{
	if (room / sizeof(*files) < count)
		abort();
	return ppoll(files, count, timeout, mask);
}

/* select, pselect */

/* As the kernel takes a set of @count files: whole words of it, and of these nothing behind @count.
 * A program's set may end there, and the timer's place lie beyond. */
static size_t set_bytes(int count)
{
	return ((size_t)count + NFDBITS - 1) / NFDBITS * sizeof(fd_mask);
}

static void copy_set(fd_set *all, const fd_set *given, int count)
{
	FD_ZERO(all);
	if (!given)
		return;
	memcpy(all, given, set_bytes(count));
	for (int fd = count; fd % (int)NFDBITS; fd++)
		FD_CLR(fd, all);
}

static int select_until(
	int count, fd_set *read, fd_set *write, fd_set *except, int timer, const sigset_t *mask)
{
	fd_set *const given[] = {read, write, except};
	fd_set all[3];
	int ready;

	for (unsigned i = 0; i < 3; i++)
		copy_set(&all[i], given[i], count);
	FD_SET(timer, &all[0]);
	ready = real.pselect(
		count > timer ? count : timer + 1, &all[0], &all[1], &all[2], NULL, mask);
	if (ready < 0)
		return ready;
	if (FD_ISSET(timer, &all[0]))
		ready--;
	FD_CLR(timer, &all[0]);
	for (unsigned i = 0; i < 3; i++)
		if (given[i])
			memcpy(given[i], &all[i], set_bytes(count));
	return ready;
}

/* A set has no place for the timer: the kernel's clock it is. */
static int timer_for_select(int count, uint64_t ns)
{
	int timer = count >= 0 && count <= FD_SETSIZE ? timer_for(ns) : -1;

	return timer < FD_SETSIZE ? timer : -1;
}

EXPORT int pselect(int count, fd_set *read, fd_set *write, fd_set *except,
	const struct timespec *timeout, const sigset_t *mask)
{
	int timer;

	pthread_once(&once, begin);
	timer = timer_for_select(count, ns_of(timeout));
	return timer < 0 ? real.pselect(count, read, write, except, timeout, mask)
			 : select_until(count, read, write, except, timer, mask);
}

/* Linux's select() leaves what is left. */
static void leave_rest(
	struct timeval *timeout, uint64_t ns, const struct duet_time *before, int ready)
{
	struct duet_time now;
	uint64_t left = 0;

	if (ready != 0 && duet_timer_now(own.fd, &now) == 0 &&
		now.effective - before->effective < ns)
		left = ns - (now.effective - before->effective);
	timeout->tv_sec = (time_t)(left / SECOND);
	timeout->tv_usec = (suseconds_t)(left % SECOND / 1000);
}

EXPORT int select(int count, fd_set *read, fd_set *write, fd_set *except, struct timeval *timeout)
{
	struct duet_time before = {0};
	struct timespec time = {0};
	uint64_t ns;
	int timer, ready, error;

	pthread_once(&once, begin);
	if (timeout)
		time = (struct timespec){
			.tv_sec = timeout->tv_sec, .tv_nsec = timeout->tv_usec * 1000};
	ns = timeout ? ns_of(&time) : 0;
	timer = timer_for_select(count, ns);
	if (timer < 0 || duet_timer_now(timer, &before) < 0)
		return real.select(count, read, write, except, timeout);
	ready = select_until(count, read, write, except, timer, NULL);
	error = errno;
	leave_rest(timeout, ns, &before, ready);
	errno = error;
	return ready;
}

/* epoll */

/* The set and the timer are waited for; then the set is asked, which another thread may have
 * emptied: on it goes. */
static int epoll_until(
	int set, struct epoll_event *events, int most, int timer, const sigset_t *mask)
{
	for (;;) {
		struct pollfd both[2] = {{.fd = set, .events = POLLIN}};
		int ready = poll_all(both, 1, timer, mask);

		if (ready < 0)
			return -1;
		ready = real.epoll_pwait(set, events, most, 0, NULL);
		if (ready != 0 || both[1].revents)
			return ready;
	}
}

EXPORT int epoll_pwait(
	int set, struct epoll_event *events, int most, int timeout, const sigset_t *mask)
{
	int timer = timer_for(ns_of_ms(timeout));

	return timer < 0 ? real.epoll_pwait(set, events, most, timeout, mask)
			 : epoll_until(set, events, most, timer, mask);
}

EXPORT int epoll_wait(int set, struct epoll_event *events, int most, int timeout)
{
	return epoll_pwait(set, events, most, timeout, NULL);
}

EXPORT int epoll_pwait2(int set, struct epoll_event *events, int most,
	const struct timespec *timeout, const sigset_t *mask)
{
	int timer = timer_for(ns_of(timeout));

	if (timer >= 0)
		return epoll_until(set, events, most, timer, mask);
	if (real.epoll_pwait2)
		return real.epoll_pwait2(set, events, most, timeout, mask);
	errno = ENOSYS;
	return -1;
}
