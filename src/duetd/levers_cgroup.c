/* SPDX-License-Identifier: Apache-2.0 */
/* Each VM's cgroup: its unit's, or one below ours. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define SUBTREE CGROUPS "/cgroup.subtree_control"

static const char *const wanted[] = {"cpu", "memory"};

/* Each of @wanted that @there has and @enabled has not, with @sign before it. */
static void list(char text[32], char sign, const char *there, const char *enabled)
{
	size_t used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
		if (lever_has_word(there, wanted[i]) && !lever_has_word(enabled, wanted[i]))
			used += (size_t)snprintf(
				text + used, 32 - used, "%s%c%s", used ? " " : "", sign, wanted[i]);
}

/* Those that the root did not give to its children are to be taken back from them. */
static int enable(struct levers *levers, char ours[32], struct error *err)
{
	char there[256], enabled[256], undo[32], enabling[32];
	const struct undo noted = {.kind = UNDO_FILE, .where = SUBTREE, .value = undo};
	int ret = 0;

	if (lever_read(levers, there, sizeof(there), CGROUPS "/cgroup.controllers") < 0 ||
		lever_read(levers, enabled, sizeof(enabled), SUBTREE) < 0)
		return error_set(err, ENOTSUP, "%s", levers->states[LEVER_CPU_WEIGHT].why);
	list(ours, '+', there, "");
	list(enabling, '+', there, enabled);
	list(undo, '-', there, enabled);
	if (undo[0])
		ret = journal_note(levers->journal, &noted, err);
	if (ret == 0 && undo[0]) {
		ret = lever_write(levers, enabling, SUBTREE);
		if (ret < 0)
			error_errno(err, -ret, "%s: \"%s\"", SUBTREE, enabling);
	}
	return ret;
}

static int make_folder(struct levers *levers, const char *path, struct error *err)
{
	const struct undo noted = {.kind = UNDO_RMDIR, .where = path};
	int ret = journal_note(levers->journal, &noted, err);

	if (ret == 0) {
		ret = lever_mkdir(levers, path);
		if (ret < 0)
			error_errno(err, -ret, "%s", path);
	}
	return ret;
}

/* The folder that VMs' are in; what its children get goes with it. */
static int prepare(struct levers *levers, struct error *err)
{
	char controllers[32];
	int ret = levers->prepared ? 0 : enable(levers, controllers, err);

	if (ret < 0 || levers->prepared)
		return ret;
	ret = make_folder(levers, levers->ours, err);
	if (ret == 0 && controllers[0]) {
		ret = lever_write(levers, controllers, "%s/cgroup.subtree_control", levers->ours);
		if (ret < 0)
			error_errno(err, -ret, "%s/cgroup.subtree_control", levers->ours);
	}
	levers->prepared = ret == 0;
	return ret;
}

/* "0::/user.slice/..." of /proc/PID/cgroup. */
static bool present_cgroup(const struct levers *levers, pid_t pid, char path[PATH_MAX])
{
	char *line;

	if (lever_read(levers, path, PATH_MAX, "/proc/%d/cgroup", (int)pid) < 0)
		return false;
	line = strncmp(path, "0::/", 4) == 0 ? path : strstr(path, "\n0::/");
	if (!line)
		return false;
	line += *line == '\n' ? 4 : 3;
	memmove(path, line, strlen(line) + 1);
	path[strcspn(path, "\n")] = 0;
	return true;
}

/* Whether nobody is in it but the process and its children (passt). */
static bool is_alone(const struct levers *levers, pid_t pid, const char *cgroup)
{
	_cleanup_free_ char *processes = lever_read_all(levers, CGROUPS "%s/cgroup.procs", cgroup);
	bool found = false;

	for (char *at = processes, *end; at && *at; at = end + strspn(end, "\n")) {
		pid_t there = (pid_t)strtol(at, &end, 10);

		if (end == at || (there != pid && lever_parent(levers, there) != pid))
			return false;
		found |= there == pid;
	}
	return found;
}

static int move(struct levers *levers, struct lever_vm *vm, const char *from, struct error *err)
{
	char id[LEVER_ID_SIZE], number[16];
	const struct undo noted = {
		.kind = UNDO_MOVE, .where = lever_id(vm->pid, vm->start, id), .value = from};
	int ret = make_folder(levers, vm->cgroup, err);

	if (ret == 0)
		ret = journal_note(levers->journal, &noted, err);
	if (ret < 0)
		return ret;
	snprintf(number, sizeof(number), "%d", (int)vm->pid);
	ret = lever_write(levers, number, "%s/cgroup.procs", vm->cgroup);
	vm->moved = true;
	return ret < 0 ? error_errno(err, -ret, "%s/cgroup.procs", vm->cgroup) : 0;
}

int lever_cgroup_own(struct levers *levers, struct lever_vm *vm, struct error *err)
{
	char present[PATH_MAX];
	bool alone;
	int ret;

	if (!present_cgroup(levers, vm->pid, present))
		return error_set(err, ENOTSUP, "process %d is in no cgroup of version 2; %s",
			(int)vm->pid, levers->states[LEVER_CPU_WEIGHT].why);
	alone = strcmp(present, "/") != 0 && is_alone(levers, vm->pid, present);
	ret = alone ? 0 : prepare(levers, err);
	if (ret < 0)
		return ret;
	if (alone)
		ret = asprintf(&vm->cgroup, "%s%s", CGROUPS, present);
	else
		ret = asprintf(&vm->cgroup, "%s/%s", levers->ours, vm->name);
	if (ret < 0) {
		vm->cgroup = NULL;
		return error_errno(err, ENOMEM, "%s", vm->name);
	}
	return alone ? 0 : move(levers, vm, present, err);
}

bool lever_cgroup_remove(struct levers *levers, const struct lever_vm *vm)
{
	_cleanup_free_ char *weight = NULL;

	if (!vm->cgroup)
		return true;
	if (vm->moved && lever_rmdir(levers, vm->cgroup) < 0)
		return false;
	journal_forget(levers->journal, vm->cgroup);
	if (asprintf(&weight, "%s/cpu.weight", vm->cgroup) < 0)
		weight = NULL;
	if (weight)
		journal_forget(levers->journal, weight);
	return true;
}
