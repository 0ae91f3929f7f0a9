/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities and the network's namespace. */
#include "base/cleanup.h"
#include "sandbox/private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Linux 5.8; Debian 12's headers have it, older ones do not. */
#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#endif

#define BIT(capability) (1ULL << (capability))
/* Files of other users that the configuration names (Landlock has the limit), and ending passt,
 * which has another user when duet is root's. */
#define FILES        BIT(CAP_DAC_OVERRIDE)
#define MAIN_THREADS (FILES | BIT(CAP_KILL))

static int write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

/* As who it was: files are compared with their owners. */
static int map_user(uid_t user, gid_t group)
{
	char text[64];
	int ret;

	snprintf(text, sizeof(text), "%u %u 1", user, user);
	ret = write_file("/proc/self/uid_map", text);
	if (ret == 0)
		ret = write_file("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", group, group);
	return ret == 0 ? write_file("/proc/self/gid_map", text) : ret;
}

/* The kernel gives a name space of users to a process of one thread alone, and a thread that was
 * joined leaves its process a moment later. */
static int unshare_user(void)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	int ret = unshare(CLONE_NEWUSER | CLONE_NEWNET);

	for (unsigned i = 0; i < 100 && ret < 0 && errno == EINVAL; i++) {
		nanosleep(&moment, NULL);
		ret = unshare(CLONE_NEWUSER | CLONE_NEWNET);
	}
	return ret;
}

int privileges_leave_network(void)
{
	const uid_t user = geteuid();
	const gid_t group = getegid();

	if (unshare(CLONE_NEWNET) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	return unshare_user() < 0 ? -errno : map_user(user, group);
}

/* Of those that it has, the calling thread keeps what is in @set. */
static int keep(uint64_t set)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(set >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int privileges_become(const struct sandbox_options *options)
{
	if (!options->other_user)
		return 0;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
		setresgid(options->group, options->group, options->group) < 0 ||
		setresuid(options->user, options->user, options->user) < 0)
		return -errno;
	return 0;
}

int privileges_drop(const struct sandbox_options *options)
{
	uint64_t set = options->other_user ? MAIN_THREADS & ~FILES : MAIN_THREADS;

	if (options->schedules)
		set |= BIT(CAP_SYS_NICE);
	if (options->counts)
		set |= BIT(CAP_PERFMON);
	return keep(set);
}

int privileges_drop_main(void)
{
	return keep(~MAIN_THREADS);
}
