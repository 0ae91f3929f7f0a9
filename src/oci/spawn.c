/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/spawn.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

pid_t spawn_fork(void)
{
	const pid_t parent = getpid();
	const pid_t pid = fork();
	sigset_t none;

	if (pid != 0)
		return pid;
	sigemptyset(&none);
	for (int number = 1; number < SIGRTMIN; number++)
		signal(number, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	return 0;
}

void spawn_exec(const char *path, const char *const *argv, const char *const *env, int report)
{
	int code;

	if (env)
		environ = (char **)(uintptr_t)env;
	execvp(path, (char *const *)(uintptr_t)argv);
	code = errno;
	if (write(report, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

static void begin(const struct spawn *spawn, int input, int output, int report)
{
	if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		_exit(127);
	spawn_exec(spawn->path, spawn->argv, spawn->env, report);
}

/* What it reads, all of it at once, so that nobody waits for anybody. */
static int make_input(const char *text)
{
	int fd;

	if (!text)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	fd = memfd_create("input", MFD_CLOEXEC);
	if (fd >= 0 && (write(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The end of what comes is kept. False: the end. */
static bool take_output(const struct spawn *spawn, int fd)
{
	char some[4096];
	const ssize_t got = read(fd, some, sizeof(some));
	size_t held = spawn->output_room ? strlen(spawn->output) : 0, more, drop;

	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	if (spawn->output_room < 2)
		return true;
	more = (size_t)got < spawn->output_room - 1 ? (size_t)got : spawn->output_room - 1;
	drop = held + more > spawn->output_room - 1 ? held + more - (spawn->output_room - 1) : 0;
	memmove(spawn->output, spawn->output + drop, held - drop);
	held -= drop;
	memcpy(spawn->output + held, some + got - more, more);
	spawn->output[held + more] = 0;
	return true;
}

/* Blanks for what would break a line. */
static void make_line(char *text)
{
	size_t length = strlen(text);

	while (length && (unsigned char)text[length - 1] <= ' ')
		text[--length] = 0;
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = ' ';
}

/* Until it has ended: 0, or -ETIMEDOUT. */
static int attend(const struct spawn *spawn, int pidfd, int output)
{
	const uint64_t until = clock_ns() + spawn->timeout * SECOND_NS;
	struct pollfd items[2] = {{pidfd, POLLIN, 0}, {output, POLLIN, 0}};
	uint64_t now;

	while (!(items[0].revents & POLLIN)) {
		now = clock_ns();
		if (spawn->timeout && now >= until)
			return -ETIMEDOUT;
		if (poll(items, 2, spawn->timeout ? (int)((until - now) / MS_NS) + 1 : -1) < 0 &&
			errno != EINTR)
			return -errno;
		if (items[1].revents && !take_output(spawn, output))
			items[1].fd = -1;
	}
	/* Somebody whom it started may hold the pipe: what is there, and no more. */
	while (items[1].fd >= 0 && poll(&items[1], 1, 0) > 0 && take_output(spawn, output))
		;
	return 0;
}

static int judge(const struct spawn *spawn, int ret, int code, int status, struct error *err)
{
	if (spawn->output_room)
		make_line(spawn->output);
	if (code)
		return error_errno(err, code, "%s", spawn->path);
	if (ret == -ETIMEDOUT)
		return error_set(
			err, ETIMEDOUT, "%s did not end in %u s", spawn->path, spawn->timeout);
	if (ret < 0)
		return error_errno(err, -ret, "%s", spawn->path);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, EIO, "%s %s %d: %s", spawn->path,
		WIFEXITED(status) ? "ended with status" : "was killed by signal",
		WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
		spawn->output_room && *spawn->output ? spawn->output : "it said nothing");
}

int spawn_run(const struct spawn *spawn, struct error *err)
{
	_cleanup_close_ int input = make_input(spawn->input), pidfd = -1, out = -1, in = -1;
	_cleanup_close_ int report = -1, told = -1;
	int pipes[2], code = 0, status = 0, ret;
	pid_t pid;

	if (spawn->output_room)
		*spawn->output = 0;
	if (input < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "%s", spawn->path);
	in = pipes[0];
	out = pipes[1];
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "%s", spawn->path);
	told = pipes[0];
	report = pipes[1];
	pid = spawn_fork();
	if (pid == 0)
		begin(spawn, input, out, report);
	if (pid < 0)
		return error_errno(err, errno, "%s: a process", spawn->path);
	close(steal_fd(&out));
	close(steal_fd(&report));
	if (read(told, &code, sizeof(code)) != (ssize_t)sizeof(code))
		code = 0;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ret = pidfd < 0 ? -errno : attend(spawn, pidfd, in);
	if (ret < 0)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return judge(spawn, ret, code, status, err);
}
