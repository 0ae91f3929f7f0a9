/* SPDX-License-Identifier: Apache-2.0 */
/* A process of the container becomes what it is to be: terminal, limits, user, capabilities. */
#include "oci/agent/box.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum {
	BOUNDING,
	EFFECTIVE,
	INHERITABLE,
	PERMITTED,
	AMBIENT,
};

/* ---- terminal ---- */

static int open_slave(const struct process *process, int master)
{
	const struct winsize size = {.ws_row = (unsigned short)process->rows,
		.ws_col = (unsigned short)process->columns};
	int no = 0;

	if (ioctl(master, TIOCSPTLCK, &no) < 0)
		return -1;
	if (process->rows && process->columns && ioctl(master, TIOCSWINSZ, &size) < 0)
		return -1;
	return ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
}

int box_make_terminal(const struct process *process, int *master, struct error *err)
{
	_cleanup_close_ int slave = -1;

	*master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0)
		return error_errno(err, errno, "/dev/ptmx");
	slave = open_slave(process, *master);
	if (slave < 0 || fchown(slave, process->uid, (gid_t)-1) < 0)
		return error_errno(err, errno, "the terminal");
	if (ioctl(slave, TIOCSCTTY, 0) < 0 || dup2(slave, 0) < 0 || dup2(slave, 1) < 0 ||
		dup2(slave, 2) < 0)
		return error_errno(err, errno, "the terminal");
	/* One of the three itself stays open. */
	if (slave <= 2)
		steal_fd(&slave);
	return 0;
}

/* ---- user and capabilities ---- */

static int set_limits(const struct process *process, struct error *err)
{
	for (uint32_t i = 0; i < process->limit_count; i++) {
		const struct limit *limit = &process->limits[i];

		if (setrlimit((int)limit->resource, &(struct rlimit){limit->soft, limit->hard}) < 0)
			return error_errno(err, errno, "limit %u", limit->resource);
	}
	return 0;
}

static int drop_bounding(uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep & 1ULL << cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	return 0;
}

static int set_capabilities(const uint64_t *caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	for (unsigned i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){
			.effective = (uint32_t)(caps[EFFECTIVE] >> 32 * i),
			.permitted = (uint32_t)(caps[PERMITTED] >> 32 * i),
			.inheritable = (uint32_t)(caps[INHERITABLE] >> 32 * i)};
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	for (unsigned long cap = 0; cap < 64; cap++)
		if (caps[AMBIENT] & 1ULL << cap &&
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -errno;
	return 0;
}

static int become(const struct process *process, struct error *err)
{
	int ret = drop_bounding(process->capabilities[BOUNDING]);

	if (ret < 0)
		return error_errno(err, -ret, "capabilities");
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ||
		setgroups(process->group_count, process->groups) < 0 ||
		setresgid(process->gid, process->gid, process->gid) < 0 ||
		setresuid(process->uid, process->uid, process->uid) < 0)
		return error_errno(err, errno, "user %u:%u", process->uid, process->gid);
	if (chdir(process->cwd) < 0)
		return error_errno(err, errno, "the directory %s", process->cwd);
	ret = set_capabilities(process->capabilities);
	if (ret < 0)
		return error_errno(err, -ret, "capabilities");
	umask(process->mask);
	if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "no new privileges");
	return 0;
}

/* ---- the program ---- */

static const char *find_variable(const struct texts *env, const char *name)
{
	const size_t length = strlen(name);

	for (uint32_t i = 0; i < env->count; i++)
		if (strncmp(env->items[i], name, length) == 0 && env->items[i][length] == '=')
			return env->items[i] + length + 1;
	return NULL;
}

/* In the words of other runtimes, by which engines tell 126 from 127. */
static int refuse(const char *name, int code, struct error *err)
{
	if (code == ENOENT && !strchr(name, '/'))
		return error_set(
			err, code, "exec: \"%s\": executable file not found in $PATH", name);
	return error_set(err, code, "exec %s: %s", name,
		code == ENOENT   ? "no such file or directory"
		: code == EACCES ? "permission denied"
				 : strerror(code));
}

/* What is tried at one place; @code: 0 when it is there, and one that may not be run is told of
 * rather than that there is no other. */
typedef void (*attempt)(const struct process *process, const char *path, int *code);

static void run_at(const struct process *process, const char *path, int *code)
{
	execve(path, process->args.items, process->env.items);
	if (errno != ENOENT && errno != ENOTDIR)
		*code = errno;
}

static void look_at(const struct process *process, const char *path, int *code)
{
	if (access(path, X_OK) == 0)
		*code = 0;
	else if (errno != ENOENT && errno != ENOTDIR)
		*code = errno;
}

static int try_places(const struct process *process, const char *places, attempt try)
{
	char full[PATH_MAX];
	int code = ENOENT;
	size_t length;

	for (; *places && code; places += length + (places[length] == ':')) {
		length = strcspn(places, ":");
		if (length && snprintf(full, sizeof(full), "%.*s/%s", (int)length, places,
				      process->args.items[0]) < (int)sizeof(full))
			try(process, full, &code);
	}
	return code;
}

static int try_program(const struct process *process, attempt try)
{
	const char *places = find_variable(&process->env, "PATH");
	int code = ENOENT;

	if (!strchr(process->args.items[0], '/'))
		return try_places(process, places ? places : "/bin:/usr/bin", try);
	try(process, process->args.items[0], &code);
	return code;
}

int box_find(const struct process *process, struct error *err)
{
	const char *name = process->args.items[0];
	/* Where it begins is another place than here. */
	const int code = *name != '/' && strchr(name, '/') ? 0 : try_program(process, look_at);

	return code ? refuse(name, code, err) : 0;
}

int box_run(const struct process *process, struct error *err)
{
	int ret = set_limits(process, err) ?: become(process, err);

	return ret ?: refuse(process->args.items[0], try_program(process, run_at), err);
}
