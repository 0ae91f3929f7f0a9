/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle_private.h"

#include "base/checked.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* By number, as linux/capability.h has them. */
static const char *const capabilities[] = {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER",
	"FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE",
	"NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
	"SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
	"AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
	"BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"};

static const struct {
	const char *name;
	uint32_t resource;
} limits[] = {
	{"RLIMIT_AS", RLIMIT_AS},
	{"RLIMIT_CORE", RLIMIT_CORE},
	{"RLIMIT_CPU", RLIMIT_CPU},
	{"RLIMIT_DATA", RLIMIT_DATA},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE},
	{"RLIMIT_LOCKS", RLIMIT_LOCKS},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
	{"RLIMIT_NICE", RLIMIT_NICE},
	{"RLIMIT_NOFILE", RLIMIT_NOFILE},
	{"RLIMIT_NPROC", RLIMIT_NPROC},
	{"RLIMIT_RSS", RLIMIT_RSS},
	{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", RLIMIT_RTTIME},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
	{"RLIMIT_STACK", RLIMIT_STACK},
};

static int take_capability(void *opaque, const struct node *node)
{
	const char *name = node_word(node);
	uint64_t *set = opaque;

	for (unsigned i = 0; name && strncmp(name, "CAP_", 4) == 0 && i < ARRAY_SIZE(capabilities);
		i++)
		if (strcmp(name + 4, capabilities[i]) == 0) {
			*set |= 1ULL << i;
			return 0;
		}
	return node_bad(node, "is no capability that this duet-oci knows");
}

static int take_capabilities(struct process *process, const struct node *all)
{
	/* In the order of struct process. */
	static const char *const names[SETUP_CAP_SETS] = {
		"bounding", "effective", "inheritable", "permitted", "ambient"};
	int ret = node_object(all);

	for (unsigned i = 0; i < SETUP_CAP_SETS && ret == 0; i++) {
		const struct node set = node_member(all, names[i]);

		ret = node_each(&set, take_capability, &process->capabilities[i]);
	}
	return ret;
}

static int take_limit_number(const struct node *node, uint64_t *number)
{
	int ret = node_must(node) ?: node_u64(node, 0, UINT64_MAX, number);

	/* See node_parse(). */
	if (*number == INT64_MAX)
		*number = RLIM_INFINITY;
	return ret;
}

/* ARRAY_SIZE(limits): there is none of the name. */
static unsigned find_limit(const char *name)
{
	unsigned i = 0;

	while (name && i < ARRAY_SIZE(limits) && strcmp(name, limits[i].name) != 0)
		i++;
	return name ? i : ARRAY_SIZE(limits);
}

static bool has_limit(const struct process *process, uint32_t resource)
{
	for (uint32_t i = 0; i < process->limit_count; i++)
		if (process->limits[i].resource == resource)
			return true;
	return false;
}

static int take_limit(void *opaque, const struct node *node)
{
	struct process *process = opaque;
	const struct node type = node_member(node, "type"), soft = node_member(node, "soft"),
			  hard = node_member(node, "hard");
	const unsigned i = find_limit(node_word(&type));
	struct limit *limit = &process->limits[process->limit_count];

	if (i == ARRAY_SIZE(limits))
		return node_bad(&type, "is no limit that Linux has");
	if (has_limit(process, limits[i].resource))
		return node_bad(&type, "%s is limited twice", limits[i].name);
	limit->resource = limits[i].resource;
	process->limit_count++;
	return take_limit_number(&soft, &limit->soft) ?: take_limit_number(&hard, &limit->hard);
}

static int take_group(void *opaque, const struct node *node)
{
	struct process *process = opaque;

	return node_u32(node, &process->groups[process->group_count++]);
}

static int take_groups(struct process *process, const struct node *all)
{
	if (node_count(all) > WIRE_TEXTS_MAX)
		return node_bad(all, "has more than %d elements", WIRE_TEXTS_MAX);
	process->groups = calloc(node_count(all) + 1, sizeof(*process->groups));
	return process->groups ? node_each(all, take_group, process) : node_no_memory(all);
}

static int take_user(struct process *process, const struct node *user)
{
	const struct node uid = node_member(user, "uid"), gid = node_member(user, "gid"),
			  mask = node_member(user, "umask"),
			  groups = node_member(user, "additionalGids");
	uint64_t bits = 0022;
	int ret = node_object(user) ?: node_u32(&uid, &process->uid) ?: node_u32(&gid, &process->gid)
			  ?: node_u64(&mask, 0, 0777, &bits) ?: take_groups(process, &groups);

	process->mask = (uint32_t)bits;
	return ret;
}

static int take_oom_score(struct process *process, const struct node *node)
{
	int64_t score = 0;
	int ret = node_i64(node, &score);

	if (ret == 0 && (score < -1000 || score > 1000))
		return node_bad(node, "is not in [-1000, 1000]");
	process->has_oom_score = node_is(node);
	process->oom_score = (uint32_t)score;
	return ret;
}

static int take_console(struct process *process, const struct node *node)
{
	const struct node terminal = node_member(node, "terminal"),
			  size = node_member(node, "consoleSize"),
			  height = node_member(&size, "height"),
			  width = node_member(&size, "width");
	uint64_t rows = 0, columns = 0;
	int ret = node_bool(&terminal, &process->terminal) ?: node_object(&size)
			  ?: node_u64(&height, 0, UINT16_MAX, &rows)
			  ?: node_u64(&width, 0, UINT16_MAX, &columns);

	process->rows = (uint32_t)rows;
	process->columns = (uint32_t)columns;
	return ret;
}

int bundle_take_process(struct process *process, const struct node *node)
{
	const struct node args = node_member(node, "args"), env = node_member(node, "env"),
			  cwd = node_member(node, "cwd"), user = node_member(node, "user"),
			  caps = node_member(node, "capabilities"),
			  all = node_member(node, "rlimits"),
			  none_new = node_member(node, "noNewPrivileges"),
			  score = node_member(node, "oomScoreAdj");
	int ret = node_object(node) ?: node_must(&args) ?: node_texts(&args, &process->args)
			  ?: node_texts(&env, &process->env) ?: node_must(&cwd)
			  ?: node_text(&cwd, &process->cwd) ?: take_user(process, &user)
			  ?: take_capabilities(process, &caps) ?: node_each(&all, take_limit, process)
			  ?: node_bool(&none_new, &process->no_new_privileges)
			  ?: take_oom_score(process, &score) ?: take_console(process, node);

	if (ret < 0)
		return ret;
	if (!process->args.count || !*process->args.items[0])
		return node_bad(&args, "names no program");
	if (*process->cwd != '/')
		return node_bad(&cwd, "is no absolute path");
	return 0;
}
