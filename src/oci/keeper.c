/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/keeper.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "oci/cgroup.h"
#include "oci/console.h"
#include "oci/guest.h"
#include "oci/net.h"
#include "oci/pump.h"
#include "oci/shares.h"
#include "oci/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* A guest's start takes a second; minutes on a host that is an emulator. */
#define BOOT_PATIENCE_MS 600000

struct state {
	struct keeper *keeper;
	struct vm machine;
	struct frame_input input;
	struct shares *shares;
	int agent;
	bool joined;
};

/* ---- before the machine ---- */

static int tell(const struct keeper *keeper, const char *text)
{
	return send(keeper->line, text, strlen(text), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Hooks run meanwhile, which may give the namespace its cards. */
static int wait_for_hooks(const struct keeper *keeper, struct error *err)
{
	char any;
	const int ret = tell(keeper, "namespaces");

	if (ret < 0 || recv(keeper->line, &any, 1, 0) != 1)
		return error_set(err, EPIPE, "whoever makes the container is gone");
	return 0;
}

static int join_network(struct state *state, struct error *err)
{
	struct keeper *keeper = state->keeper;
	int ret = net_join(&keeper->bundle->setup, err);

	state->joined = ret == 0;
	/* A namespace of ours goes with us; another's is put right by who deletes the container. */
	if (ret == 0 && keeper->bundle->network)
		ret = container_write(keeper->container, KEEPER_JOINED, "", 0, err);
	return ret;
}

static int write_machine(const struct keeper *keeper, struct error *err)
{
	struct vm_parts parts = {.kernel = keeper->settings->kernel,
		.initrd = keeper->kit,
		.image = keeper->image,
		.cache = keeper->settings->cache,
		.setup = &keeper->bundle->setup};
	_cleanup_free_ char *text = NULL;

	vm_size(keeper->bundle, (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &parts.memory,
		&parts.cpus);
	text = vm_config(&parts);
	if (!text)
		return error_set(err, ENOMEM, "there is no memory");
	return container_write(keeper->container, VM_CONFIG, text, strlen(text), err);
}

/* ---- the machine ---- */

static int machine_failed(struct state *state, const char *what, struct error *err)
{
	struct pollfd item = {.fd = state->machine.console, .events = POLLIN};

	while (poll(&item, 1, 0) > 0 && vm_hear(&state->machine))
		;
	return error_set(
		err, EIO, "the container's machine %s: %s", what, vm_last_words(&state->machine));
}

/* 0: somebody connects. */
static int await_agent(struct state *state, int listener, struct error *err)
{
	struct pollfd items[2] = {{.fd = listener, .events = POLLIN},
		{.fd = state->machine.console, .events = POLLIN}};
	const uint64_t until = clock_ns() + BOOT_PATIENCE_MS * MS_NS;
	uint64_t now;

	while (!items[0].revents) {
		now = clock_ns();
		if (now >= until)
			return machine_failed(state, "did not start in time", err);
		if (poll(items, 2, (int)((until - now) / MS_NS) + 1) < 0 && errno != EINTR)
			return error_errno(err, errno, "waiting for the machine");
		if (items[1].revents && !vm_hear(&state->machine))
			return machine_failed(state, "ended before its agent came", err);
	}
	return 0;
}

static int meet_agent(struct state *state, struct error *err)
{
	const int dir = state->keeper->container->dir;
	char name[32];
	_cleanup_close_ int listener = -1;
	int ret;

	snprintf(name, sizeof(name), GUEST_SOCKET "_%d", AGENT_CALLS_PORT);
	listener = guest_socket(dir, name, true);
	if (listener < 0)
		return error_errno(err, -listener, "a socket for the container's agent");
	ret = vm_start(&state->machine, state->keeper->settings, dir, err)
		      ?: await_agent(state, listener, err);
	if (ret == 0) {
		state->agent = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (state->agent < 0)
			ret = error_errno(err, errno, "the container's agent");
	}
	/* The agent is the first in the guest to connect; nobody else there may take its place. */
	unlinkat(dir, name, 0);
	return ret;
}

static int send_setup(struct state *state, struct error *err)
{
	struct wire wire;
	int ret;

	wire_write(&wire);
	wire_setup(&wire, &state->keeper->bundle->setup);
	ret = wire_end(&wire);
	if (ret == 0 && wire.length > FRAME_SETUP_MAX)
		ret = -EFBIG;
	if (ret == 0)
		ret = frame_send(state->agent, FRAME_SETUP, wire.bytes, (uint32_t)wire.length);
	free(wire.bytes);
	return ret < 0 ? error_errno(err, -ret, "what the container's agent is told") : 0;
}

/* Its console is heard too, so that it need not wait for us. */
static int await_setup(struct state *state, struct error *err)
{
	struct pollfd items[2] = {{.fd = state->agent, .events = POLLIN},
		{.fd = state->machine.console, .events = POLLIN}};
	struct frame frame;

	while (!items[0].revents) {
		if (poll(items, 2, BOOT_PATIENCE_MS) <= 0 && errno != EINTR)
			return machine_failed(state, "did not make the container in time", err);
		if (items[1].revents && !vm_hear(&state->machine))
			return machine_failed(state, "ended", err);
	}
	return guest_answer(state->agent, &state->input, BOOT_PATIENCE_MS, &frame, err);
}

static int make(struct state *state, struct error *err)
{
	struct keeper *keeper = state->keeper;
	struct setup *setup = &keeper->bundle->setup;

	if (keeper->terminal >= 0 && console_make(keeper->terminal, &setup->process, err) < 0)
		return -EIO;
	cleanup_close(&keeper->terminal);
	return cgroup_enter(keeper->container->cgroup, &keeper->bundle->resources, err)
		?: net_enter(keeper->bundle->network, err) ?: wait_for_hooks(keeper, err)
		?: join_network(state, err) ?: write_machine(keeper, err)
		?: share_servers_begin(&state->shares, setup, keeper->container->dir, err)
		?: meet_agent(state, err) ?: send_setup(state, err) ?: await_setup(state, err);
}

/* ---- with it ---- */

static bool hear(void *opaque)
{
	return vm_hear(opaque);
}

static uint32_t keep(struct state *state, struct pump *pump)
{
	uint32_t status = 0;
	int ret;

	pump->fd = state->agent;
	pump->input = &state->input;
	pump->out = STDOUT_FILENO;
	pump->err = STDERR_FILENO;
	pump->terminal = state->keeper->bundle->setup.process.terminal;
	pump->side = state->machine.console;
	pump->take_side = hear;
	pump->opaque = &state->machine;
	ret = pump_run(pump, &status);
	/* What was written to the host's folders has been since it was written. */
	vm_end(&state->machine, NULL);
	/* A machine that ends before it has said how takes its processes along as a kill does. */
	return ret < 0 ? 128 + SIGKILL : status;
}

/* A session of its own, and the folder without the lock of who makes the container, which would be
 * ours too as long as we have a copy. */
static int leave_engine(struct keeper *keeper, struct error *err)
{
	const int dir = openat(keeper->container->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	close(keeper->container->dir);
	keeper->container->dir = dir;
	setsid();
	prctl(PR_SET_NAME, "duet-oci keeper");
	return dir < 0 || chdir("/") < 0 ? error_errno(err, errno, "the container's folder") : 0;
}

void keeper_run(struct keeper *keeper)
{
	struct state state = {.keeper = keeper,
		.machine = {.console = -1},
		.input = {.limit = frame_host_takes},
		.agent = -1};
	struct pump pump = {.side = -1};
	struct error err = {0};
	char text[sizeof(err.text) + 1];
	int ret, status;

	ret = pump_prepare(&pump);
	if (ret < 0)
		error_errno(&err, -ret, "signals");
	ret = ret ?: leave_engine(keeper, &err) ?: make(&state, &err);
	if (ret == 0)
		snprintf(text, sizeof(text), "+%d", (int)state.machine.pid);
	else
		snprintf(text, sizeof(text), "-%s", err.text);
	if (tell(keeper, text) < 0)
		ret = -EPIPE;
	status = ret == 0 ? (int)keep(&state, &pump) : 1;
	vm_end(&state.machine, NULL);
	share_servers_end(state.shares);
	if (state.joined) {
		net_part();
		unlinkat(keeper->container->dir, KEEPER_JOINED, 0);
	}
	_exit(status);
}
