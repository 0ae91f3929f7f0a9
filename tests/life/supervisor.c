/* SPDX-License-Identifier: Apache-2.0 */
/* The process that the test knows: sorts what is typed, passes signals on, waits for the last
 * worker.
 */
#include "life.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	int typed;   /* to the worker's standard input */
	int control; /* to its CONTROL_FD */
	int signals;
	pid_t worker;
	bool command; /* what is typed now is one */
} self;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void put(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t put = write(fd, bytes, length);

		if (put < 0)
			return; /* the worker is gone: its end is seen below */
		bytes += put;
		length -= (size_t)put;
	}
}

static void sort_typed(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		bool escape = bytes[i] == ESCAPE;

		if (!escape)
			put(self.command ? self.control : self.typed, bytes + i, 1);
		self.command = escape || (self.command && bytes[i] != '\n');
	}
}

/* A command goes as one piece. */
static void take_typed(struct pollfd *input)
{
	char bytes[4096];
	ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));
	char *escape;

	if (got <= 0) {
		input->fd = -1;
		return;
	}
	escape = memchr(bytes, ESCAPE, (size_t)got);
	if (escape) {
		sort_typed(bytes, (size_t)(escape - bytes));
		put(self.control, escape + 1, (size_t)(bytes + got - escape - 1));
		return;
	}
	put(self.typed, bytes, (size_t)got);
}

static void take_signal(void)
{
	struct signalfd_siginfo info;

	if (read(self.signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGCHLD && self.worker > 0)
		kill(self.worker, (int)info.ssi_signo);
}

/* The exit status of the worker that did not move its machine; -1: there is one yet. */
static int wait_for_workers(void)
{
	int status;

	while (waitpid(-1, &status, WNOHANG) > 0) {
		if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_MOVED)
			continue;
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	return -1;
}

static int supervise(void)
{
	struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = self.control, .events = POLLIN}, {.fd = self.signals, .events = POLLIN}};
	int status = -1;

	while (status < 0) {
		char line[32];
		ssize_t got;

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[0].revents)
			take_typed(&fds[0]);
		if (fds[1].revents) {
			got = read(self.control, line, sizeof(line) - 1);
			line[got > 0 ? got : 0] = 0;
			self.worker = got > 0 ? atoi(line) : self.worker;
			fds[1].fd = got > 0 ? self.control : -1;
		}
		if (fds[2].revents)
			take_signal();
		status = wait_for_workers();
	}
	return status;
}

static void start_worker(int typed, int control, unsigned count, const char *const *args)
{
	self.worker = fork();
	if (self.worker < 0)
		die("fork");
	if (self.worker > 0)
		return;
	dup2(typed, STDIN_FILENO);
	dup2(control, CONTROL_FD);
	for (int fd = CONTROL_FD + 1; fd < 20; fd++)
		close(fd);
	exit(worker_run(count, args, false));
}

/* Of the heap that measure.c counts, nothing is kept per thread. Read when a program starts. */
static void tune(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0", 1);
	execv("/proc/self/exe", argv);
	die("/proc/self/exe");
}

int main(int argc, char **argv)
{
	/* Behind the names of the program and of the command, and of a program that is not meant.
	 */
	int typed[2], control[2];
	sigset_t set;
	int first = 1;

	tune(argv);
	if (argc == 2 && strcmp(argv[1], "incoming") == 0)
		return worker_run(0, NULL, true);
	while (first < argc && strcmp(argv[first], "run") != 0)
		first++;
	if (first == argc)
		return 2;
	if (pipe(typed) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, control) < 0)
		die("pipe");
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	start_worker(typed[0], control[1], (unsigned)(argc - first - 1),
		(const char *const *)(void *)(argv + first + 1));
	close(typed[0]);
	close(control[1]);
	self.typed = typed[1];
	self.control = control[0];
	self.signals = signalfd(-1, &set, SFD_CLOEXEC);
	return supervise();
}
