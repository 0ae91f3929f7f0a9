/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The passt process: user-mode networking of one network device.
 *
 * It gets one end of a socket pair (--fd), so there is no socket file to be left behind, and it
 * ends by itself when the other end is closed, however this process ends. Until then it lives: a
 * service manager that stops the unit signals it too, while the guest still needs its network to
 * shut down.
 */
#include "backend/passt_private.h"
#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * #syscalls main: sendto poll read ioctl(SIOCOUTQ) pidfd_send_signal wait4
 * #syscalls io: read
 */

#define READY_MS 30000

struct passt_launch {
	char *argv[16];
	int stream;  /* passt's end */
	int words;   /* its standard output and error */
	int failure; /* the errno of a failed exec is written here; closed by a successful one */
};

static void run_child(const struct passt_launch *launch)
{
	static const int defaults[] = {SIGPIPE, SIGXFSZ, SIGUSR1};
	/* Blocked, since it has handlers of its own for some of them; exec keeps the mask. */
	static const int deaf[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t blocked;
	int code;

	/* Out of reach of the terminal's Ctrl-C: the monitor decides when it ends. */
	setpgid(0, 0);
	sigemptyset(&blocked);
	for (unsigned i = 0; i < ARRAY_SIZE(defaults); i++)
		signal(defaults[i], SIG_DFL);
	for (unsigned i = 0; i < ARRAY_SIZE(deaf); i++)
		sigaddset(&blocked, deaf[i]);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	dup2(launch->words, STDOUT_FILENO);
	dup2(launch->words, STDERR_FILENO);
	fcntl(launch->stream, F_SETFD, 0);
	execvp(launch->argv[0], launch->argv);
	code = errno;
	if (write(launch->failure, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

static int exec_failed(const char *program, int code, struct error *err)
{
	if (code == ENOENT)
		return error_set(err, code,
			"--net user: %s is not installed; install it with `apt-get install passt`",
			program);
	if (code == EACCES)
		return error_set(err, code,
			"--net user: %s may not be executed; check it with `ls -l`", program);
	return error_errno(err, code, "--net user: %s", program);
}

/* It would end by itself, but not one that hangs. In a confined process it has a pid_fd. */
static void end_leftover(struct leftover *leftover)
{
	const struct passt *passt = container_of(leftover, struct passt, leftover);

	if (passt->pid_fd >= 0)
		syscall(SYS_pidfd_send_signal, passt->pid_fd, SIGKILL, NULL, 0);
	else if (passt->pid > 0)
		kill(passt->pid, SIGKILL);
}

/* Its number may be another's from here on. */
static void wait_for_end(struct passt *passt)
{
	leftover_forget(&passt->leftover);
	while (waitpid(passt->pid, NULL, 0) < 0 && errno == EINTR)
		;
	passt->pid = -1;
}

/* A process that could not be ended later is ended now. */
static int open_pid(struct passt *passt, struct error *err)
{
	int code;

	passt->pid_fd = (int)syscall(SYS_pidfd_open, passt->pid, 0);
	if (passt->pid_fd >= 0)
		return 0;
	code = errno;
	kill(passt->pid, SIGKILL);
	wait_for_end(passt);
	return error_errno(err, code, "--net user: pidfd");
}

static int launch(struct passt *passt, struct passt_launch *launch, struct error *err)
{
	_cleanup_close_ int failed = -1;
	int pipe_ends[2], code;
	ssize_t got;

	if (pipe2(pipe_ends, O_CLOEXEC) < 0)
		return error_errno(err, errno, "--net user: pipe");
	failed = pipe_ends[0];
	launch->failure = pipe_ends[1];
	passt->pid = fork();
	if (passt->pid == 0)
		run_child(launch);
	code = errno;
	close(launch->failure);
	if (passt->pid < 0)
		return error_errno(err, code, "--net user: fork");
	leftover_add(&passt->leftover, end_leftover);
	do {
		got = read(failed, &code, sizeof(code));
	} while (got < 0 && errno == EINTR);
	if (got == sizeof(code))
		return exec_failed(launch->argv[0], code, err);
	return open_pid(passt, err);
}

static int start(struct passt *passt, const struct net_options *options, struct error *err)
{
	_cleanup_close_ int stream = -1, words = -1;
	struct passt_launch how = {0};
	unsigned count = 0;
	char number[16];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "--net user: socketpair");
	passt->net.queues[0].fd = pair[0];
	stream = pair[1];
	/* Nobody reads along: what does not fit is dropped, it must not block passt. */
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_errno(err, errno, "--net user: pipe");
	passt->words_fd = pair[0];
	words = pair[1];
	snprintf(number, sizeof(number), "%d", stream);
	how.argv[count++] = (char *)(options->passt ? options->passt : "passt");
	how.argv[count++] = "--foreground";
	how.argv[count++] = "--quiet";
	how.argv[count++] = "--fd";
	how.argv[count++] = number;
	if (options->forward) {
		how.argv[count++] = "--tcp-ports";
		how.argv[count++] = (char *)options->forward;
	}
	how.stream = stream;
	how.words = words;
	return launch(passt, &how, err);
}

int passt_open(struct net **out, const struct net_options *options, struct error *err)
{
	struct passt *passt;
	int ret;

	if (options->queues > 1)
		return error_set(err, EINVAL, "--net user: has one queue; use a tap for more");
	ret = passt_new(&passt, err);
	if (ret < 0)
		return ret;
	ret = start(passt, options, err);
	if (ret < 0) {
		net_close(&passt->net);
		return ret;
	}
	*out = &passt->net;
	return 0;
}

void passt_end(struct passt *passt)
{
	if (passt->pid > 0) {
		syscall(SYS_pidfd_send_signal, passt->pid_fd, SIGKILL, NULL, 0);
		wait_for_end(passt);
	}
	if (passt->pid_fd >= 0)
		close(passt->pid_fd);
	passt->pid_fd = -1;
	if (passt->words_fd >= 0)
		close(passt->words_fd);
	passt->words_fd = -1;
}

/* What it says at each start, and about a missing system log. */
static bool chatter(const char *line)
{
	static const char *const starts[] = {"Failed to send ", "Don't run as root"};

	if (!line[0])
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(starts); i++)
		if (strncmp(line, starts[i], strlen(starts[i])) == 0)
			return true;
	return false;
}

/* Its last line that says something. */
static const char *last_line(char *text)
{
	const char *last = "";
	char *rest = text;

	for (char *line; (line = strsep(&rest, "\n"));)
		if (!chatter(line))
			last = line;
	return last;
}

void passt_last_words(struct passt *passt, char *line, size_t size)
{
	char text[8192];
	ssize_t got = 0;

	if (passt->words_fd >= 0)
		got = read(passt->words_fd, text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = '\0';
	snprintf(line, size, "passt has ended: %.200s", last_line(text));
	if (strlen(line) == strlen("passt has ended: "))
		line[strlen("passt has ended")] = '\0';
}

/* A frame of an Ethernet type for local experiments: passt reads it and does nothing. */
static int send_probe(int fd)
{
	static const uint8_t probe[4 + 60] = {0, 0, 0, 60, [4 + 12] = 0x88, [4 + 13] = 0xb5};

	return send(fd, probe, sizeof(probe), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Waits up to @milliseconds for passt's end of the stream to be closed. */
static bool closed(int fd, int milliseconds)
{
	struct pollfd end = {.fd = fd, .events = POLLRDHUP};

	return poll(&end, 1, milliseconds) > 0;
}

/* True when the probe was read, or thrown away by the end of passt. */
static bool probe_gone(int fd)
{
	int unread = 0;

	if (send_probe(fd) < 0)
		return true;
	for (int waited = 0, step = 1; waited < READY_MS; waited += step) {
		if (ioctl(fd, SIOCOUTQ, &unread) < 0 || unread == 0)
			return true;
		step = step < 16 ? step * 2 : step;
		if (closed(fd, step))
			return true;
	}
	return false;
}

/* passt tells nobody when it is ready, but it reads the stream only then. */
int passt_ready(struct net *net, struct error *err)
{
	int fd = net->queues[0].fd;
	bool gone = probe_gone(fd);
	char words[256];

	if (closed(fd, 0)) {
		passt_last_words(container_of(net, struct passt, net), words, sizeof(words));
		return error_set(err, EIO, "--net user: %s; run `passt -f` to see why", words);
	}
	if (gone)
		return 0;
	return error_set(err, ETIMEDOUT,
		"--net user: passt did not start within %d seconds; run `passt -f` to see why",
		READY_MS / 1000);
}
