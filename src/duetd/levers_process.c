/* SPDX-License-Identifier: Apache-2.0 */
/* Processes and threads, told from later ones of the same number by when they started. */
#include "base/checked.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELD_PARENT 4 /* of proc(5)'s stat, counted from 1 */
#define FIELD_START  22
#define FIELD_CPU    39

/* sched_setattr(2), which the C library of Debian 12 has not. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

#define RESET_ON_FORK 1U

/* The fields after the command, which may hold anything. */
static uint64_t stat_field(const char *stat, unsigned field)
{
	const char *at = strrchr(stat, ')');

	for (unsigned i = 2; at && i < field; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static uint64_t read_stat(const struct levers *levers, pid_t pid, pid_t tid, unsigned field)
{
	char stat[1024];
	ssize_t got;

	if (pid)
		got = lever_read(
			levers, stat, sizeof(stat), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	else
		got = lever_read(levers, stat, sizeof(stat), "/proc/%d/stat", (int)tid);
	return got > 0 ? stat_field(stat, field) : 0;
}

uint64_t lever_start_time(const struct levers *levers, pid_t pid, pid_t tid)
{
	return read_stat(levers, pid, tid, FIELD_START);
}

uint64_t lever_last_cpu(const struct levers *levers, pid_t pid, pid_t tid)
{
	return read_stat(levers, pid, tid, FIELD_CPU);
}

pid_t lever_parent(const struct levers *levers, pid_t pid)
{
	return (pid_t)read_stat(levers, 0, pid, FIELD_PARENT);
}

const char *lever_id(pid_t tid, uint64_t start, char id[LEVER_ID_SIZE])
{
	snprintf(id, LEVER_ID_SIZE, "%d:%" PRIu64, (int)tid, start);
	return id;
}

bool lever_id_alive(const struct levers *levers, const char *id, pid_t *tid)
{
	char *end;
	long number = strtol(id, &end, 10);
	uint64_t start = *end == ':' ? strtoull(end + 1, NULL, 10) : 0;

	*tid = (pid_t)number;
	return number > 0 && start && lever_start_time(levers, 0, *tid) == start;
}

static bool get_attributes(pid_t tid, struct attributes *attributes)
{
	memset(attributes, 0, sizeof(*attributes));
	return syscall(SYS_sched_getattr, tid, attributes, sizeof(*attributes), 0) == 0 &&
	       (attributes->policy == SCHED_OTHER || attributes->policy == SCHED_BATCH);
}

uint64_t lever_slice_get(pid_t tid)
{
	struct attributes attributes;

	return get_attributes(tid, &attributes) ? attributes.runtime : 0;
}

/* All else stays as it is: policy and nice are what was read. */
int lever_slice_set(pid_t tid, uint64_t slice)
{
	struct attributes attributes;

	if (!get_attributes(tid, &attributes))
		return -EINVAL;
	attributes.size = sizeof(attributes);
	attributes.flags &= RESET_ON_FORK;
	attributes.runtime = slice;
	return syscall(SYS_sched_setattr, tid, &attributes, 0) < 0 ? -errno : 0;
}
