/* SPDX-License-Identifier: Apache-2.0 */
/* Puts back what the journal says, as far as what it concerns is still there. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

/* What is lent to a thread is back after some milliseconds, unless its guest lends for ever. */
#define LENT_TRIES 20

static int put_back_slice(const struct levers *levers, const struct undo *undo)
{
	const struct timespec moment = {.tv_nsec = MS_NS};
	int ret = -EAGAIN;
	pid_t tid;

	if (!lever_id_alive(levers, undo->where, &tid))
		return 0;
	for (unsigned i = 0; i < LENT_TRIES && ret == -EAGAIN; i++) {
		if (i)
			nanosleep(&moment, NULL);
		ret = lever_slice_set(tid, strtoull(undo->value, NULL, 10));
	}
	return ret;
}

static int put_back_affinity(const struct levers *levers, const struct undo *undo)
{
	cpu_set_t cpus;
	pid_t tid;

	if (!lever_id_alive(levers, undo->where, &tid))
		return 0;
	lever_cpus_parse(undo->value, &cpus);
	return sched_setaffinity(tid, sizeof(cpus), &cpus) < 0 ? -errno : 0;
}

/* To where it was, or the nearest above that is still there and takes processes. */
static int put_back_process(const struct levers *levers, const struct undo *undo)
{
	char path[PATH_MAX], number[16];
	pid_t pid;
	int ret;

	if (!lever_id_alive(levers, undo->where, &pid))
		return 0;
	snprintf(path, sizeof(path), "%s", undo->value);
	snprintf(number, sizeof(number), "%d", (int)pid);
	for (;;) {
		char *slash = strrchr(path, '/');

		ret = lever_write(levers, number, CGROUPS "%s/cgroup.procs", path);
		if (ret == 0 || !slash)
			return ret;
		*slash = 0;
	}
}

static int put_back(const struct levers *levers, const struct undo *undo)
{
	switch (undo->kind) {
	case UNDO_FILE:
		return lever_write(levers, undo->value, "%s", undo->where);
	case UNDO_SLICE:
		return put_back_slice(levers, undo);
	case UNDO_AFFINITY:
		return put_back_affinity(levers, undo);
	case UNDO_MOVE:
		return put_back_process(levers, undo);
	case UNDO_RMDIR:
		return lever_rmdir(levers, undo->where);
	}
	return -EINVAL;
}

void lever_put_back(void *opaque, const struct undo *undo)
{
	const struct levers *levers = opaque;
	int ret = put_back(levers, undo);

	/* What is gone needs nothing. */
	if (ret < 0 && ret != -ENOENT && ret != -ESRCH)
		log_warning("%s is not as it was before duetd (%s): %s", undo->where,
			*undo->value ? undo->value : "not there", strerror(-ret));
}
