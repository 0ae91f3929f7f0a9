/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/child.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct child {
	struct child_options options;
	struct loop_watch ended, said;
	struct loop_timer patience;
	unsigned watches; /* those that the loop has not let go of */
	pid_t pid;
	int pidfd, pipe;
	char *output;
	size_t length, room;
};

static void unwatched(struct child *child)
{
	if (--child->watches)
		return;
	free(child->output);
	free(child);
}

static void ended_removed(struct loop_watch *watch)
{
	unwatched(container_of(watch, struct child, ended));
}

static void said_removed(struct loop_watch *watch)
{
	unwatched(container_of(watch, struct child, said));
}

/* The one who calls this uses it no more. */
static void let_go(struct child *child)
{
	/* Neither may free it yet. */
	child->watches++;
	loop_timer_stop(&child->patience);
	loop_unwatch(&child->ended, ended_removed);
	loop_unwatch(&child->said, said_removed);
	close(child->pidfd);
	close(child->pipe);
	unwatched(child);
}

static bool make_room(struct child *child, size_t more)
{
	const size_t room = (child->length + more + 1) * 2;
	char *output;

	if (child->length + more < child->room)
		return true;
	output = realloc(child->output, room);
	if (!output)
		return false;
	child->output = output;
	child->room = room;
	return true;
}

/* What there is; a program of its own that outlives it may hold the pipe open. */
static void read_some(struct child *child)
{
	char text[4096];
	ssize_t count;

	while ((count = read(child->pipe, text, sizeof(text))) > 0) {
		size_t kept = min_u64((uint64_t)count, child->options.output_max - child->length);

		if (!kept || !make_room(child, kept))
			continue;
		memcpy(child->output + child->length, text, kept);
		child->length += kept;
		child->output[child->length] = 0;
	}
}

static void said(struct loop_watch *watch, uint32_t events)
{
	struct child *child = container_of(watch, struct child, said);

	if (child->pid)
		read_some(child);
}

static void ended(struct loop_watch *watch, uint32_t events)
{
	struct child *child = container_of(watch, struct child, ended);
	int status = -1;
	pid_t pid;

	if (!child->pid)
		return;
	pid = waitpid(child->pid, &status, WNOHANG);
	if (pid == 0)
		return;
	child->pid = 0;
	read_some(child);
	child->options.done(
		child->options.opaque, pid < 0 ? -1 : status, child->output ? child->output : "");
	let_go(child);
}

static void patience_over(struct loop_timer *timer)
{
	struct child *child = container_of(timer, struct child, patience);

	if (child->pid)
		kill(child->pid, SIGKILL);
}

void child_drop(struct child *child)
{
	kill(child->pid, SIGKILL);
	/* It dies at once, unless the kernel holds it; then it is init's when duetd has ended. */
	waitpid(child->pid, NULL, WNOHANG);
	child->pid = 0;
	let_go(child);
}

/* ---- the start ---- */

static int set_attributes(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *files, int fd)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setsigdefault(attributes, &all);
	posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0) ||
		posix_spawn_file_actions_adddup2(files, fd, STDOUT_FILENO) ||
		posix_spawn_file_actions_adddup2(files, fd, STDERR_FILENO))
		return -ENOMEM;
	return 0;
}

/* All other descriptors of duetd are closed by exec. */
static int spawn(pid_t *pid, const char *const *argv, int fd)
{
	const char *path = getenv("PATH");
	char of_path[4096];
	char *const environment[] = {of_path, (char *)"LC_ALL=C", (char *)"SYSTEMD_COLORS=0", NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	int ret;

	snprintf(of_path, sizeof(of_path), "PATH=%s", path && *path ? path : DEFAULT_PATH);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	ret = set_attributes(&attributes, &files, fd);
	if (ret == 0)
		ret = -posix_spawnp(pid, argv[0], &files, &attributes,
			(char *const *)(uintptr_t)argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return ret;
}

static int open_child(struct child *child, struct error *err)
{
	const char *program = child->options.argv[0];
	int ends[2], ret;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_errno(err, errno, "%s: a pipe", program);
	/* Its end is its own to block at. */
	fcntl(ends[1], F_SETFL, 0);
	ret = spawn(&child->pid, child->options.argv, ends[1]);
	close(ends[1]);
	child->pipe = ends[0];
	if (ret == 0) {
		child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
		if (child->pidfd < 0) {
			ret = -errno;
			kill(child->pid, SIGKILL);
			waitpid(child->pid, NULL, 0);
		}
	}
	if (ret < 0)
		close(child->pipe);
	return ret < 0 ? error_errno(err, -ret, "%s: cannot be run", program) : 0;
}

int child_start(struct child **out, struct loop *loop, const struct child_options *options,
	struct error *err)
{
	struct child *child = calloc(1, sizeof(*child));
	int ret;

	if (!child)
		return error_errno(err, ENOMEM, "%s", options->argv[0]);
	child->options = *options;
	ret = open_child(child, err);
	if (ret < 0) {
		free(child);
		return ret;
	}
	child->watches = 2;
	loop_watch(loop, &child->ended, child->pidfd, POLLIN, ended);
	loop_watch(loop, &child->said, child->pipe, POLLIN, said);
	child->patience.expired = patience_over;
	loop_timer_after(loop, &child->patience, options->patience_ms * MS_NS);
	*out = child;
	return 0;
}
