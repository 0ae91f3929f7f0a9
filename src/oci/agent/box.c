/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's side of the container's processes, and the table that the server calls. */
#include "oci/agent/box_private.h"

#include "base/cleanup.h"
#include "oci/agent/share.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/vm_sockets.h>

#define PATIENCE_S 120

/* ---- ends of a process ---- */

struct ends {
	int mine[3], its[3];
	int line, its_line;
};

static void close_ends(struct ends *ends)
{
	for (unsigned i = 0; i < 3; i++) {
		cleanup_close(&ends->mine[i]);
		cleanup_close(&ends->its[i]);
	}
	cleanup_close(&ends->line);
	cleanup_close(&ends->its_line);
}

static int open_pipes(struct ends *ends)
{
	for (unsigned i = 0; i < 3; i++) {
		int pair[2];

		if (pipe2(pair, O_CLOEXEC) < 0)
			return -errno;
		ends->mine[i] = pair[i == 0];
		ends->its[i] = pair[i != 0];
		if (fcntl(ends->mine[i], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
	}
	return 0;
}

static int open_ends(struct ends *ends, const struct process *process, struct error *err)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int pair[2], ret = 0;

	*ends = (struct ends){{-1, -1, -1}, {-1, -1, -1}, -1, -1};
	if (!process->terminal)
		ret = open_pipes(ends);
	if (ret == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		ret = -errno;
	if (ret == 0) {
		ends->line = pair[0];
		ends->its_line = pair[1];
		/* A process of the container may stop one that enters it. */
		setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	} else {
		error_errno(err, -ret, "a process's ends");
		close_ends(ends);
	}
	return ret;
}

static int take_terminal(struct child *child, int fd)
{
	child->in = fd;
	child->out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return child->out < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* What the process's ends are to the server. */
static int hand_over(
	struct ends *ends, const struct line_message *message, pid_t pid, struct child *child)
{
	*child = (struct child){
		pid, steal_fd(&ends->mine[0]), steal_fd(&ends->mine[1]), steal_fd(&ends->mine[2])};
	return message->fd < 0 ? 0 : take_terminal(child, message->fd);
}

/* ---- the first process ---- */

static pid_t clone_into(unsigned long flags)
{
	return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* The process is there and waits: into its cgroup, then on. */
static int let_in(pid_t pid, const struct process *process, int line, struct error *err)
{
	char path[64], number[16];
	int ret;

	snprintf(number, sizeof(number), "%d", (int)pid);
	ret = write_file(BOX_CGROUP "/cgroup.procs", number, strlen(number));
	if (ret == 0 && process->has_oom_score) {
		snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
		snprintf(number, sizeof(number), "%d", (int)process->oom_score);
		ret = write_file(path, number, strlen(number));
	}
	if (ret < 0)
		return error_errno(err, -ret, "the container's cgroup");
	return line_tell(line, LINE_GO, NULL, 0, -1);
}

static int make_first(struct box *box, struct setup *setup, struct ends *ends, struct child *child,
	struct error *err)
{
	struct line_message message = {.fd = -1};
	const pid_t pid = clone_into(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC);
	int ret;

	if (pid == 0)
		box_first(setup, ends->its, ends->its_line);
	if (pid < 0)
		return error_errno(err, errno, "the container's first process");
	box->init = pid;
	box->init_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	cleanup_close(&ends->its_line);
	ends->its_line = -1;
	ret = let_in(pid, &setup->process, ends->line, err) ?: line_hear(ends->line, &message, err);
	if (ret == 0 && message.type != LINE_READY)
		ret = error_set(err, EPROTO, "the container's first process said something else");
	if (ret < 0)
		return ret;
	box->line = steal_fd(&ends->line);
	ret = hand_over(ends, &message, pid, child);
	return ret < 0 ? error_errno(err, -ret, "the container's terminal") : 0;
}

static int setup_box(void *opaque, struct setup *setup, struct child *child, struct error *err)
{
	struct box *box = opaque;
	struct ends ends;
	int ret = box_make_cgroup(setup, err) ?: box_configure_links(setup, err)
			  ?: shares_open(setup, err);

	if (ret == 0)
		ret = open_ends(&ends, &setup->process, err);
	if (ret == 0) {
		ret = make_first(box, setup, &ends, child, err);
		close_ends(&ends);
	}
	shares_close(setup);
	return ret;
}

static int start_box(void *opaque, struct error *err)
{
	struct box *box = opaque;
	struct line_message message = {.fd = -1};
	int ret;

	if (box->line < 0)
		return error_set(err, EINVAL, "there is no container that waits to be started");
	ret = line_tell(box->line, LINE_GO, NULL, 0, -1);
	if (ret == 0)
		ret = line_hear(box->line, &message, err);
	else
		error_set(err, ESRCH, "the container has ended");
	cleanup_close(&box->line);
	box->line = -1;
	/* The end of the line is that of what ran there before. */
	if (ret == 0 && message.type != LINE_END)
		ret = error_set(err, EPROTO, "the container's first process said something else");
	return ret;
}

/* ---- others ---- */

static int hear_second(struct ends *ends, const struct process *process, struct line_message *pid,
	struct line_message *terminal, struct error *err)
{
	struct line_message end = {.fd = -1};
	int ret = line_hear(ends->line, pid, err);

	if (ret == 0 && pid->type != LINE_PID)
		ret = error_set(err, ESRCH, "the container has ended");
	ret = ret ?: line_tell(ends->line, LINE_GO, NULL, 0, -1);
	if (ret == 0 && process->terminal)
		ret = line_hear(ends->line, terminal, err);
	return ret ?: line_hear(ends->line, &end, err);
}

static int make_second(struct box *box, struct process *process, struct ends *ends,
	struct child *child, struct error *err)
{
	struct line_message pid = {.fd = -1}, terminal = {.fd = -1};
	const pid_t helper = clone_into(0);
	int ret;

	if (helper == 0)
		box_second(box->init_fd, process, ends->its, ends->its_line);
	if (helper < 0)
		return error_errno(err, errno, "a process");
	cleanup_close(&ends->its_line);
	ends->its_line = -1;
	ret = let_in(helper, process, ends->line, err)
		      ?: hear_second(ends, process, &pid, &terminal, err);
	if (ret < 0)
		kill(helper, SIGKILL);
	waitpid(helper, NULL, 0);
	if (ret == 0)
		ret = hand_over(ends, &terminal, (pid_t)pid.number, child);
	else
		cleanup_close(&terminal.fd);
	return ret;
}

static int exec_box(void *opaque, struct process *process, struct child *child, struct error *err)
{
	struct box *box = opaque;
	struct ends ends;
	int ret;

	if (box->init_fd < 0 || box->line >= 0 || kill(box->init, 0) < 0)
		return error_set(err, EINVAL, "the container does not run");
	ret = open_ends(&ends, process, err);
	if (ret < 0)
		return ret;
	ret = make_second(box, process, &ends, child, err);
	close_ends(&ends);
	return ret;
}

static int kill_box(void *opaque, int number, bool all, struct error *err)
{
	const struct box *box = opaque;

	if (box->init_fd < 0)
		return error_set(err, EINVAL, "there is no container");
	if (all && number)
		box_signal_all(number);
	/* Gone already: its end is under way to who waits for it. */
	if (syscall(SYS_pidfd_send_signal, box->init_fd, number, NULL, 0) < 0 && errno != ESRCH)
		return error_errno(err, errno, "signal %d", number);
	return 0;
}

static int list_box(void *opaque, struct listing *listing, struct error *err)
{
	return box_list(listing, err);
}

static int usage_of_box(void *opaque, struct usage *usage, struct error *err)
{
	return box_usage(usage, err);
}

/* The host, and nobody who runs in this guest. */
static bool trusts(void *opaque, int fd)
{
	struct sockaddr_vm peer = {0};
	socklen_t length = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &length) == 0 &&
	       peer.svm_family == AF_VSOCK && peer.svm_cid == VMADDR_CID_HOST;
}

const struct server_ops box_ops = {
	.setup = setup_box,
	.start = start_box,
	.exec = exec_box,
	.kill = kill_box,
	.list = list_box,
	.usage = usage_of_box,
	.trusts = trusts,
};
