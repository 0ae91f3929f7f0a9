/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "oci/cgroup.h"
#include "oci/commands.h"
#include "oci/keeper.h"
#include "oci/net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

/* A process that was killed by us. */
#define PATIENCE_MS 30000

static void await_end(const struct identity *identity)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, identity->pid, 0);
	struct pollfd item = {.fd = fd, .events = POLLIN};

	if (fd >= 0 && identity_is_alive(identity))
		poll(&item, 1, PATIENCE_MS);
}

/* What the keeper puts right itself unless it was killed. */
static void part_network(const struct container *container)
{
	_cleanup_close_ int own = -1, fd = -1;

	if (!container->network ||
		faccessat(container->dir, KEEPER_JOINED, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fd = open(container->network, O_RDONLY | O_CLOEXEC);
	/* The engine may have taken it away, and all in it. */
	if (own < 0 || fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return;
	net_part();
	if (setns(own, CLONE_NEWNET) < 0)
		errno = 0; /* nothing after this needs it */
}

int container_destroy(struct container *container, const struct bundle *bundle, struct error *err)
{
	const bool stopped = container->keeper.pid > 0;

	identity_signal(&container->keeper, SIGKILL);
	await_end(&container->keeper);
	await_end(&container->machine);
	part_network(container);
	cgroup_remove(container->cgroup);
	if (bundle && stopped) {
		/* Its folder goes all the same: what failed is told of, as the specification has
		 * it. */
		container->status = CONTAINER_STOPPED;
		hooks_run(bundle, HOOK_POSTSTOP, container, true, &(struct error){0});
	}
	return container_remove(container, err);
}
