/* SPDX-License-Identifier: Apache-2.0 */
/* Processes and threads, told from later ones of the same number by when they started. */
#include "base/checked.h"
#include "base/schedule.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD_PARENT 4 /* of proc(5)'s stat, counted from 1 */
#define FIELD_START  22
#define FIELD_CPU    39

#define RESET_ON_FORK 1U

/* The fields after the command, which may hold anything. */
static uint64_t stat_field(const char *stat, unsigned field)
{
	const char *at = strrchr(stat, ')');

	for (unsigned i = 2; at && i < field; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static bool read_stat(const struct levers *levers, pid_t pid, pid_t tid, char *stat, size_t room)
{
	if (pid)
		return lever_read(levers, stat, room, "/proc/%d/task/%d/stat", (int)pid, (int)tid) >
		       0;
	return lever_read(levers, stat, room, "/proc/%d/stat", (int)tid) > 0;
}

uint64_t lever_start_time(const struct levers *levers, pid_t pid, pid_t tid)
{
	char stat[1024];

	return read_stat(levers, pid, tid, stat, sizeof(stat)) ? stat_field(stat, FIELD_START) : 0;
}

bool lever_last_cpu(
	const struct levers *levers, pid_t pid, pid_t tid, uint64_t start, uint64_t *cpu)
{
	char stat[1024];

	if (!read_stat(levers, pid, tid, stat, sizeof(stat)) ||
		stat_field(stat, FIELD_START) != start)
		return false;
	*cpu = stat_field(stat, FIELD_CPU);
	return true;
}

pid_t lever_parent(const struct levers *levers, pid_t pid)
{
	char stat[1024];

	return read_stat(levers, 0, pid, stat, sizeof(stat)) ? (pid_t)stat_field(stat, FIELD_PARENT)
							     : 0;
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

static bool get_schedule(pid_t tid, struct schedule *schedule)
{
	return schedule_get(tid, schedule) && schedule_is_fair(schedule);
}

uint64_t lever_slice_get(pid_t tid)
{
	struct schedule schedule;

	return get_schedule(tid, &schedule) ? schedule.slice_ns : 0;
}

/* All else stays as it is: policy and nice are what was read. What its guest has lent to it is not
 * its own: written back it would stay, and the next loan come on top. */
int lever_slice_set(pid_t tid, uint64_t slice)
{
	struct schedule schedule;

	if (!get_schedule(tid, &schedule))
		return -EINVAL;
	if (schedule.slice_ns == LENT_SLICE_NS)
		return -EAGAIN;
	schedule.flags &= RESET_ON_FORK;
	schedule.slice_ns = slice;
	return schedule_set(tid, &schedule);
}
