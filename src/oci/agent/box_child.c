/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes a process of the container, from where it was forked off the agent. */
#include "oci/agent/box_private.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

static void fail(int line, const struct error *err) __attribute__((noreturn));
static void fail(int line, const struct error *err)
{
	line_tell(line, LINE_FAILED, err->text, strlen(err->text), -1);
	_exit(127);
}

static void wait_to_go(int line)
{
	struct line_message message;

	if (line_hear(line, &message, NULL) < 0 || message.type != LINE_GO)
		_exit(127);
}

/* Signals as programs expect them. */
static void forget_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Of the agent's descriptors none goes on with the program. */
static int take_ends(const int ends[3])
{
	for (int i = 0; i < 3; i++)
		if (ends[i] >= 0 && dup2(ends[i], i) < 0)
			return -errno;
	return syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

/* Where the container's programs look for its terminal; without a file of the name it has none. */
static void bind_console(int master)
{
	char path[32];
	int number;
	const int fd = open("/dev/console", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	if (ioctl(master, TIOCGPTN, &number) < 0)
		return;
	snprintf(path, sizeof(path), "/dev/pts/%d", number);
	if (fd >= 0 && mount(path, "/dev/console", NULL, MS_BIND, NULL) < 0)
		unlink("/dev/console");
}

static int set_names(const struct setup *setup, struct error *err)
{
	if (setup->hostname && sethostname(setup->hostname, strlen(setup->hostname)) < 0)
		return error_errno(err, errno, "the host name");
	if (setup->domainname && setdomainname(setup->domainname, strlen(setup->domainname)) < 0)
		return error_errno(err, errno, "the domain name");
	return 0;
}

void box_first(const struct setup *setup, const int ends[3], int line)
{
	struct error err = {0};
	int master = -1, ret;

	wait_to_go(line);
	forget_signals();
	setsid();
	if (unshare(CLONE_NEWCGROUP) < 0)
		error_errno(&err, errno, "the container's namespaces");
	else if (box_make_root(setup, &err) == 0 && set_names(setup, &err) == 0)
		box_find(&setup->process, &err);
	if (!err.code && setup->process.terminal &&
		box_make_terminal(&setup->process, &master, &err) == 0)
		bind_console(master);
	if (!err.code) {
		ret = take_ends(ends);
		if (ret < 0)
			error_errno(&err, -ret, "the process's descriptors");
	}
	if (err.code)
		fail(line, &err);
	line_tell(line, LINE_READY, NULL, 0, master);
	cleanup_close(&master);
	wait_to_go(line);
	box_run(&setup->process, &err);
	fail(line, &err);
}

static void run_second(const struct process *process, const int ends[3], int line)
	__attribute__((noreturn));
static void run_second(const struct process *process, const int ends[3], int line)
{
	struct error err = {0};
	int master = -1, ret;

	setsid();
	if (process->terminal && box_make_terminal(process, &master, &err) < 0)
		fail(line, &err);
	ret = take_ends(ends);
	if (ret < 0)
		error_errno(&err, -ret, "the process's descriptors");
	if (err.code)
		fail(line, &err);
	if (process->terminal)
		line_tell(line, LINE_READY, NULL, 0, master);
	cleanup_close(&master);
	box_run(process, &err);
	fail(line, &err);
}

void box_second(int init_fd, const struct process *process, const int ends[3], int line)
{
	struct error err = {0};
	uint8_t number[4];
	pid_t pid;

	wait_to_go(line);
	forget_signals();
	if (setns(init_fd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
				   CLONE_NEWCGROUP) < 0) {
		error_set(&err, ESRCH, "the container has ended");
		fail(line, &err);
	}
	/* Only a child of ours is in the container's namespace of processes; the agent waits for
	 * it. */
	pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0) {
		error_errno(&err, errno, "a process in the container");
		fail(line, &err);
	}
	if (pid > 0) {
		store_le32(number, (uint32_t)pid);
		line_tell(line, LINE_PID, number, sizeof(number), -1);
		_exit(0);
	}
	/* Its number comes first on the line, whoever is faster. */
	wait_to_go(line);
	run_second(process, ends, line);
}
