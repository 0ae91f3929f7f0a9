/* SPDX-License-Identifier: Apache-2.0 */
/* System calls: perf_event_open, read, close. */
#include "machine/counters.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "state/state.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * #syscalls vcpu: perf_event_open(1 = 0) read
 * #syscalls main: close
 */

enum value {
	COUNT,
	WANTED,  /* ns */
	COUNTED, /* ns */
	VALUES
};

struct counter {
	uint64_t name; /* 0: the place is free */
	enum duet_coop_counter kind;
	int fd;                /* -1: not in this process, or not yet */
	uint64_t base[VALUES]; /* from earlier processes */
};

struct vcpu_counters {
	/* The last name that was given; only grows, so that a stale one finds nothing. It begins
	 * with the time: neither does one of an earlier process, which a guest that hibernated
	 * there remembers. */
	uint64_t named;
	struct counter all[COUNTERS_OPEN_MAX];
};

struct counters {
	unsigned vcpus;
	_Atomic bool told;     /* of a permission that is missing */
	_Atomic unsigned held; /* descriptors, of all vCPUs; at most: */
	unsigned most;
	struct vcpu_counters each[];
};

const char counters_remedy[] =
	"sysctl kernel.perf_event_paranoid=1, or 2 with CAP_PERFMON for duet (as root, or setcap "
	"cap_perfmon+ep)";

static const struct {
	uint32_t type;
	uint64_t config;
} events[DUET_COOP_COUNTERS] = {
	[DUET_COOP_TASK_CLOCK] = {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK},
	[DUET_COOP_CONTEXT_SWITCHES] = {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES},
	[DUET_COOP_MIGRATIONS] = {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_MIGRATIONS},
	[DUET_COOP_PAGE_FAULTS] = {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS},
	[DUET_COOP_CYCLES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
	[DUET_COOP_INSTRUCTIONS] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
	[DUET_COOP_CACHE_REFERENCES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES},
	[DUET_COOP_CACHE_MISSES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
	[DUET_COOP_BRANCHES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_INSTRUCTIONS},
	[DUET_COOP_BRANCH_MISSES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES},
};

/* What the guest gets to know of the host's errno. */
static int told_as(int code)
{
	switch (code) {
	case EACCES:
	case EPERM:
		return -EPERM;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EBUSY:
		return -EAGAIN;
	default:
		return -ENOTSUP;
	}
}

/* Of the thread that calls. */
static int open_event(enum duet_coop_counter kind)
{
	struct perf_event_attr attr = {
		.type = events[kind].type,
		.size = sizeof(attr),
		.config = events[kind].config,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
		/* In the guest alone: neither KVM's work for it nor duet's. Software events are
		 * all of the host. */
		.exclude_host = events[kind].type == PERF_TYPE_HARDWARE,
	};
	long fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? told_as(errno) : (int)fd;
}

/* Descriptors that are left to duet itself, for disks, saved states and its owner's connections:
 * the guest decides how many it opens. */
static unsigned share_of_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	return (unsigned)min_u64(limit.rlim_cur / 2, UINT32_MAX);
}

static int open_in_share(struct counters *counters, enum duet_coop_counter kind)
{
	int fd = -EAGAIN;

	if (atomic_fetch_add(&counters->held, 1) < counters->most)
		fd = open_event(kind);
	if (fd < 0)
		atomic_fetch_sub(&counters->held, 1);
	return fd;
}

int counters_probe(enum duet_coop_counter counter)
{
	int fd = counter < DUET_COOP_COUNTERS ? open_event(counter) : -ENOTSUP;

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static uint64_t first_name(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

int counters_new(struct counters **out, unsigned vcpus, struct error *err)
{
	struct counters *counters =
		calloc(1, sizeof(*counters) + vcpus * sizeof(counters->each[0]));

	if (!counters)
		return error_errno(err, ENOMEM, "--pmu: counters");
	for (unsigned vcpu = 0; vcpu < vcpus; vcpu++)
		counters->each[vcpu].named = first_name();
	counters->vcpus = vcpus;
	counters->most = share_of_descriptors();
	*out = counters;
	return 0;
}

void counters_free(struct counters *counters)
{
	if (!counters)
		return;
	counters_reset(counters);
	free(counters);
}

static void take_away(struct counters *counters, struct counter *counter)
{
	if (counter->name && counter->fd >= 0) {
		close(counter->fd);
		atomic_fetch_sub(&counters->held, 1);
	}
	*counter = (struct counter){.fd = -1};
}

void counters_reset(struct counters *counters)
{
	for (unsigned vcpu = 0; vcpu < counters->vcpus; vcpu++)
		for (unsigned i = 0; i < COUNTERS_OPEN_MAX; i++)
			take_away(counters, &counters->each[vcpu].all[i]);
}

/* The one of the name; with name 0 a free place. Null: there is none. */
static struct counter *find(struct counters *counters, unsigned vcpu, uint64_t name)
{
	for (unsigned i = 0; vcpu < counters->vcpus && i < COUNTERS_OPEN_MAX; i++)
		if (counters->each[vcpu].all[i].name == name)
			return &counters->each[vcpu].all[i];
	return NULL;
}

static void tell(struct counters *counters)
{
	if (!atomic_exchange(&counters->told, true))
		log_warning(
			"--pmu pv: the host lets duet open no perf events, so the guest gets no "
			"counters: %s",
			counters_remedy);
}

int counters_open(
	struct counters *counters, unsigned vcpu, enum duet_coop_counter counter, uint64_t *name)
{
	struct counter *place;
	int fd;

	if (vcpu >= counters->vcpus || (unsigned)counter >= DUET_COOP_COUNTERS)
		return -EINVAL;
	place = find(counters, vcpu, 0);
	if (!place)
		return -ENOSPC;
	fd = open_in_share(counters, counter);
	if (fd == -EPERM)
		tell(counters);
	if (fd < 0)
		return fd;
	*place = (struct counter){.name = ++counters->each[vcpu].named, .kind = counter, .fd = fd};
	*name = place->name;
	return 0;
}

static int read_values(const struct counter *counter, uint64_t values[VALUES])
{
	uint64_t now[VALUES] = {0};

	if (counter->fd >= 0 && read(counter->fd, now, sizeof(now)) != (ssize_t)sizeof(now))
		return -EIO;
	for (unsigned i = 0; i < VALUES; i++)
		values[i] = counter->base[i] + now[i];
	return 0;
}

int counters_read(
	struct counters *counters, unsigned vcpu, uint64_t name, uint64_t values[static 3])
{
	const struct counter *counter = name ? find(counters, vcpu, name) : NULL;

	return counter ? read_values(counter, values) : -EINVAL;
}

int counters_close(struct counters *counters, unsigned vcpu, uint64_t name)
{
	struct counter *counter = name ? find(counters, vcpu, name) : NULL;

	if (!counter)
		return -EINVAL;
	take_away(counters, counter);
	return 0;
}

void counters_begin(struct counters *counters, unsigned vcpu)
{
	for (unsigned i = 0; vcpu < counters->vcpus && i < COUNTERS_OPEN_MAX; i++) {
		struct counter *counter = &counters->each[vcpu].all[i];
		int fd;

		if (!counter->name || counter->fd >= 0)
			continue;
		fd = open_in_share(counters, counter->kind);
		if (fd == -EPERM)
			tell(counters);
		else if (fd < 0)
			log_warning("--pmu pv: vCPU %u: a counter of the restored guest does not "
				    "count on: %s",
				vcpu, strerror(-fd));
		counter->fd = fd < 0 ? -1 : fd;
	}
}

/* ---- saved state ---- */

static void save_one(const struct counter *counter, struct state_writer *writer)
{
	uint64_t values[VALUES];

	/* What the host does not tell now has counted as far as was known. */
	if (read_values(counter, values) < 0)
		memcpy(values, counter->base, sizeof(values));
	state_put_u64(writer, counter->name);
	state_put_u32(writer, counter->kind);
	for (unsigned i = 0; i < VALUES; i++)
		state_put_u64(writer, values[i]);
}

void counters_save(struct counters *counters, struct state_writer *writer)
{
	state_put_u32(writer, counters->vcpus);
	for (unsigned vcpu = 0; vcpu < counters->vcpus; vcpu++) {
		state_put_u64(writer, counters->each[vcpu].named);
		for (unsigned i = 0; i < COUNTERS_OPEN_MAX; i++)
			if (counters->each[vcpu].all[i].name)
				save_one(&counters->each[vcpu].all[i], writer);
		state_put_u64(writer, 0);
	}
}

static int restore_one(struct counters *counters, unsigned vcpu, uint64_t name,
	struct state_reader *reader, struct error *err)
{
	struct counter *place = find(counters, vcpu, 0);
	struct counter counter = {.name = name, .fd = -1};
	uint32_t kind = state_get_u32(reader);

	for (unsigned i = 0; i < VALUES; i++)
		counter.base[i] = state_get_u64(reader);
	if (reader->failed || !place || kind >= DUET_COOP_COUNTERS ||
		name > counters->each[vcpu].named || find(counters, vcpu, name))
		return error_set(
			err, EINVAL, "saved state: the counters of vCPU %u are damaged", vcpu);
	counter.kind = (enum duet_coop_counter)kind;
	*place = counter;
	return 0;
}

static int restore_vcpu(
	struct counters *counters, unsigned vcpu, struct state_reader *reader, struct error *err)
{
	uint64_t name;

	counters->each[vcpu].named = state_get_u64(reader);
	while ((name = state_get_u64(reader)) != 0) {
		int ret = restore_one(counters, vcpu, name, reader, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int counters_restore(struct counters *counters, struct state_reader *reader, struct error *err)
{
	uint32_t vcpus = state_get_u32(reader);
	int ret = 0;

	if (!reader->failed && vcpus != counters->vcpus)
		return error_set(err, EINVAL,
			"saved state: counters of %u vCPUs, and this machine has %u", vcpus,
			counters->vcpus);
	counters_reset(counters);
	for (unsigned vcpu = 0; ret == 0 && vcpu < counters->vcpus; vcpu++)
		ret = restore_vcpu(counters, vcpu, reader, err);
	return ret;
}
