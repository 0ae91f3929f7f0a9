/* SPDX-License-Identifier: Apache-2.0 */
/* exec: another process in a container, whose status is this program's own; with --detach that of a
 * process that stays, whose id the engine is told. */
#include "base/cleanup.h"
#include "base/numbers.h"
#include "oci/commands.h"
#include "oci/console.h"
#include "oci/guest.h"
#include "oci/pump.h"
#include "oci/store.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#define START_PATIENCE_MS 300000

struct exec {
	const char *process_file, *pid_file, *console_socket, *id;
	bool detach;
	/* Said one by one, where no file says all. */
	struct process said;
	struct process process;
	struct container container;
	struct frame_input input;
	struct pump pump;
	int fd, terminal;
};

static const struct option options[] = {
	{"process", required_argument, NULL, 'p'},
	{"pid-file", required_argument, NULL, 'f'},
	{"console-socket", required_argument, NULL, 'c'},
	{"detach", no_argument, NULL, 'd'},
	{"tty", no_argument, NULL, 't'},
	{"env", required_argument, NULL, 'e'},
	{"cwd", required_argument, NULL, 'w'},
	{"user", required_argument, NULL, 'u'},
	{"no-new-privs", no_argument, NULL, 'n'},
	{"preserve-fds", required_argument, NULL, 'r'},
	{NULL, 0, NULL, 0},
};

/* "UID" or "UID:GID". */
static int take_user(struct process *process, char *text, struct error *err)
{
	char *gid = strchr(text, ':');
	uint64_t uid = 0, number = 0;

	if (gid)
		*gid++ = 0;
	if (parse_number(text, 0, UINT32_MAX - 1, &uid) < 0 ||
		(gid && parse_number(gid, 0, UINT32_MAX - 1, &number) < 0))
		return error_set(err, EINVAL, "--user %s: name a number, or two: 1000:1000", text);
	process->uid = (uint32_t)uid;
	process->gid = (uint32_t)number;
	return 0;
}

static int take_option(struct exec *exec, int option, struct error *err)
{
	uint64_t number;

	switch (option) {
	case 'p':
		exec->process_file = optarg;
		return 0;
	case 'f':
		exec->pid_file = optarg;
		return 0;
	case 'c':
		exec->console_socket = optarg;
		return 0;
	case 'd':
		exec->detach = true;
		return 0;
	case 't':
		exec->said.terminal = true;
		return 0;
	case 'n':
		exec->said.no_new_privileges = true;
		return 0;
	case 'e':
		return texts_add(&exec->said.env, optarg);
	case 'w':
		free(exec->said.cwd);
		exec->said.cwd = strdup(optarg);
		return exec->said.cwd ? 0 : -ENOMEM;
	case 'u':
		return take_user(&exec->said, optarg, err);
	case 'r':
		if (parse_number(optarg, 0, 0, &number) == 0)
			return 0;
		return error_set(err, EINVAL,
			"--preserve-fds %s: descriptors cannot be handed into a VM", optarg);
	default:
		return -EINVAL;
	}
}

static int take_options(struct exec *exec, int argc, char **argv, struct error *err)
{
	int option, ret = 0;

	while (ret == 0 && (option = next_option(argc, argv, "+dte:u:p:", options, err)) != -1)
		ret = take_option(exec, option, err);
	if (ret < 0)
		return ret;
	exec->id = take_id(argc, argv, INT32_MAX, err);
	for (int i = optind + 1; exec->id && i < argc && ret == 0; i++)
		ret = texts_add(&exec->said.args, argv[i]);
	if (!exec->id || ret < 0)
		return exec->id ? ret : -EINVAL;
	if (!exec->process_file && !exec->said.args.count)
		return error_set(err, EINVAL, "exec: name a program, or a file by --process");
	return 0;
}

/* ---- the process ---- */

/* What is not said is as the container's first process has it. */
static int complete(struct exec *exec, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	struct bundle bundle = {0};
	size_t length = 0;
	int ret = container_read(
			  &exec->container, "config.json", BUNDLE_CONFIG_MAX, &text, &length, err)
			  ?: bundle_parse(&bundle, text, length, err);
	struct process *first = &bundle.setup.process, *process = &exec->process;

	if (ret == 0) {
		*process = exec->said;
		exec->said = (struct process){0};
		for (uint32_t i = 0; i < first->env.count && ret == 0; i++)
			ret = texts_add(&process->env, first->env.items[i]);
		if (!process->cwd) {
			process->cwd = first->cwd;
			first->cwd = NULL;
		}
		process->mask = first->mask;
		process->no_new_privileges |= first->no_new_privileges;
		memcpy(process->capabilities, first->capabilities, sizeof(process->capabilities));
	}
	bundle_free(&bundle);
	return ret;
}

static int read_process(struct exec *exec, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;

	if (!exec->process_file)
		return complete(exec, err);
	return read_whole(exec->process_file, BUNDLE_CONFIG_MAX, &text, &length, err)
		       ?: process_parse(&exec->process, text, length, err);
}

static int check_terminal(struct exec *exec, struct error *err)
{
	if (exec->console_socket && !exec->process.terminal)
		return error_set(err, EINVAL, "--console-socket needs a process with a terminal");
	if (exec->detach && exec->process.terminal && !exec->console_socket)
		return error_set(err, EINVAL, "exec: a terminal that stays needs --console-socket");
	if (exec->console_socket)
		exec->terminal = console_connect(exec->console_socket, err);
	return exec->console_socket && exec->terminal < 0 ? -EIO : 0;
}

static int ask(struct exec *exec, struct error *err)
{
	struct frame frame;
	struct wire wire;
	int ret;

	exec->fd = guest_connect(&exec->container, err);
	if (exec->fd < 0)
		return exec->fd;
	wire_write(&wire);
	wire_process(&wire, &exec->process);
	ret = wire_end(&wire);
	if (ret == 0 && wire.length > FRAME_LIST_MAX)
		ret = -E2BIG;
	if (ret == 0)
		ret = frame_send(exec->fd, FRAME_EXEC, wire.bytes, (uint32_t)wire.length);
	free(wire.bytes);
	if (ret < 0)
		return error_errno(err, -ret, "exec");
	return guest_answer(exec->fd, &exec->input, START_PATIENCE_MS, &frame, err);
}

/* ---- until it ends ---- */

static void attend(struct exec *exec, uint32_t *status)
{
	struct termios before;
	bool own = false;
	int ret;

	exec->pump.fd = exec->fd;
	exec->pump.input = &exec->input;
	exec->pump.in = STDIN_FILENO;
	exec->pump.out = STDOUT_FILENO;
	exec->pump.err = STDERR_FILENO;
	exec->pump.terminal = exec->process.terminal && isatty(STDIN_FILENO);
	/* Ours, as it was, when the process has ended; a new one nobody else uses. */
	if (exec->pump.terminal && exec->terminal < 0)
		own = terminal_make_raw(STDIN_FILENO, &before) == 0;
	ret = pump_run(&exec->pump, status);
	/* A machine that ends takes its processes along as a kill does. */
	if (ret < 0)
		*status = 128 + SIGKILL;
	if (own)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

static int begin(struct exec *exec, struct error *err)
{
	int ret = pump_prepare(&exec->pump);

	if (ret < 0)
		return error_errno(err, -ret, "signals");
	ret = exec->terminal >= 0 ? console_make(exec->terminal, &exec->process, err) : 0;
	cleanup_close(&exec->terminal);
	return ret ?: ask(exec, err);
}

/* The child tells by a line whether the process runs. */
static void run_detached(struct exec *exec, int line) __attribute__((noreturn));
static void run_detached(struct exec *exec, int line)
{
	struct error err = {0};
	uint32_t status = 255;
	int ret;

	setsid();
	ret = begin(exec, &err);
	if (send(line, err.text, strlen(err.text) + 1, MSG_NOSIGNAL) < 0 || ret < 0)
		_exit(1);
	close(line);
	attend(exec, &status);
	_exit((int)status);
}

static int detach(struct exec *exec, struct error *err)
{
	char text[sizeof(err->text)];
	int pair[2];
	ssize_t got;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "exec");
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		run_detached(exec, pair[1]);
	}
	close(pair[1]);
	got = pid < 0 ? -1 : recv(pair[0], text, sizeof(text) - 1, 0);
	close(pair[0]);
	text[got < 0 ? 0 : got] = 0;
	if (got <= 0 || *text) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		return error_set(err, EIO, "%s", *text ? text : "exec: its process has ended");
	}
	return exec->pid_file ? write_pid(exec->pid_file, pid, err) : 0;
}

static int run(struct exec *exec, struct error *err)
{
	uint32_t status = 255;
	int ret;

	if (exec->detach)
		return detach(exec, err);
	if (exec->pid_file && write_pid(exec->pid_file, getpid(), err) < 0)
		return -EIO;
	/* The new terminal is this process's own only in a session of its own. */
	if (exec->console_socket)
		setsid();
	ret = begin(exec, err);
	if (ret < 0)
		return ret;
	attend(exec, &status);
	return (int)status;
}

static int open_container(struct exec *exec, const struct settings *settings, struct error *err)
{
	int ret = container_open(&exec->container, settings->root, exec->id, false, err);

	if (ret == 0 && container_status(&exec->container) != CONTAINER_RUNNING)
		ret = error_set(err, EINVAL, "container %s is %s: exec needs one that runs",
			exec->id, container_status_name(container_status(&exec->container)));
	return ret;
}

int command_exec(struct settings *settings, int argc, char **argv, struct error *err)
{
	struct exec exec = {.container = {.dir = -1},
		.said = {.mask = 022},
		.input = {.limit = frame_host_takes},
		.pump = {.side = -1},
		.fd = -1,
		.terminal = -1};
	int ret = take_options(&exec, argc, argv, err) ?: open_container(&exec, settings, err)
			  ?: read_process(&exec, err) ?: check_terminal(&exec, err) ?: run(&exec, err);

	cleanup_close(&exec.fd);
	frame_input_free(&exec.input);
	process_free(&exec.said);
	process_free(&exec.process);
	container_close(&exec.container);
	return ret;
}
