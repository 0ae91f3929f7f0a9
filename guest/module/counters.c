// SPDX-License-Identifier: GPL-2.0-only
/*
 * Performance counters: a PMU named "duet" whose events the host counts, each vCPU's apart.
 *
 * For each kind of event that is in use a CPU keeps one counter of the host's open; all perf events
 * of the kind take their counts from it, as differences between two reads. A read is a fast call:
 *
 * - an event of a CPU (perf stat -a) is read when somebody asks for it, and the guest's context
 *   switches cost nothing;
 * - an event of a thread is also read where the thread comes and goes. One read serves two threads
 *   that take turns, so a switch costs one call for each kind, and only where such threads are;
 * - but a thread's task clock needs no call where KVM tells steal time: the vCPU does not block while
 *   it runs a thread, so the guest's clock less what was stolen is what the host would have counted,
 *   but for the time in which the host brings back memory that it had taken.
 *
 * Threads are worth it: perf stat COMMAND is what people type. Nothing is sampled, because the
 * host has no way to interrupt for an overflow here, and nothing can be left out by privilege,
 * because software events know none.
 */
#define pr_fmt(fmt) "duet: counters: " fmt

#include "stolen.h"

#include <linux/delay.h>
#include <linux/device.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/perf_event.h>
#include <linux/sched/clock.h>
#include <linux/slab.h>
#include <linux/smp.h>

/* What a thread left behind is what the next one begins with, if that comes at once. */
#define SWITCH_NS 10000

struct sample {
	u64 count;
	u64 wanted, counted; /* ns; the host's events may take turns */
};

/* A counter of the host's on one CPU. Interrupts off, on that CPU. */
struct source {
	u64 name; /* 0: not open */
	struct sample last;
	const void *last_task; /* compared alone */
	u64 last_ns;
};

/* An event's own. */
struct counting {
	struct sample from;
	bool here; /* by the guest's clock: */
	struct duet_stolen stolen;
	u64 since;
};

static struct {
	struct duet *duet;
	struct source __percpu *sources; /* DUET_COOP_COUNTERS of them on each CPU */
	unsigned long there;             /* bits: what the host lets us count */
	struct mutex lock;               /* of users */
	unsigned int users[DUET_COOP_COUNTERS]; /* perf events */
} counters = {
	.lock = __MUTEX_INITIALIZER(counters.lock),
};

static struct pmu counters_pmu;

static struct source *source_of(u64 kind)
{
	return this_cpu_ptr(counters.sources) + kind;
}

static void close_source(struct source *source)
{
	if (source->name)
		duet_call(counters.duet, DUET_COOP_COUNTER_CLOSE, &source->name, 1, NULL);
	source->name = 0;
	source->last_task = NULL;
}

static int open_source(struct source *source, u64 kind)
{
	u64 values[4] = {};
	int ret = duet_call(counters.duet, DUET_COOP_COUNTER_OPEN, &kind, 1, values);

	if (!ret && !values[0])
		ret = -EPROTO;
	source->name = ret ? 0 : values[0];
	source->last_task = NULL;
	return ret;
}

static int read_source(struct source *source, struct sample *sample)
{
	u64 values[4] = {};
	int ret;

	if (!source->name)
		return -ENOENT;
	ret = duet_call(counters.duet, DUET_COOP_COUNTER_READ, &source->name, 1, values);
	if (ret) {
		/* A device that was reset meanwhile knows the name no more. */
		close_source(source);
		return ret;
	}
	*sample = (struct sample){
		.count = values[0], .wanted = values[1], .counted = values[2]};
	return 0;
}

/* What a thread begins to count from. */
static int first_sample(struct source *source, u64 kind, struct sample *sample)
{
	int ret;

	if (source->last_task && source->last_task != current &&
	    local_clock() - source->last_ns < SWITCH_NS) {
		*sample = source->last;
		return 0;
	}
	if (!read_source(source, sample))
		return 0;
	ret = open_source(source, kind);
	return ret ? ret : read_source(source, sample);
}

/* The count between two reads, as if the host had counted all the time. A host that goes backwards
 * has counted nothing. */
static u64 grown(const struct sample *from, const struct sample *to)
{
	u64 count = to->count - from->count;
	u64 wanted = to->wanted - from->wanted;
	u64 counted = to->counted - from->counted;

	if (to->count < from->count || to->wanted < from->wanted || to->counted < from->counted)
		return 0;
	if (!counted || counted >= wanted)
		return count;
	/* The quotient has to fit: the division traps otherwise. */
	if (mul_u64_u64_shr(count, wanted, 64) >= counted)
		return count;
	return mul_u64_u64_div_u64(count, wanted, counted);
}

static bool is_clock_of_thread(const struct perf_event *event)
{
	return event->attr.config == DUET_COOP_TASK_CLOCK && event->attach_state & PERF_ATTACH_TASK;
}

/* ns since it began, or since the last call */
static u64 ran_here(struct counting *counting)
{
	const u64 now = local_clock(), before = counting->stolen.total;
	const u64 passed = now - counting->since;
	const u64 lost = duet_stolen_update(&counting->stolen) - before;

	counting->since = now;
	return passed > lost ? passed - lost : 0;
}

static int begin(struct perf_event *event)
{
	struct counting *counting = event->pmu_private;
	const u64 kind = event->attr.config;

	counting->here = is_clock_of_thread(event) && duet_steal_is_told();
	if (!counting->here)
		return first_sample(source_of(kind), kind, &counting->from);
	duet_stolen_begin(&counting->stolen);
	counting->since = local_clock();
	return 0;
}

static void take_from_host(struct perf_event *event)
{
	struct source *source = source_of(event->attr.config);
	struct counting *counting = event->pmu_private;
	struct sample now;

	if (!read_source(source, &now)) {
		local64_add(grown(&counting->from, &now), &event->count);
		counting->from = now;
	} else if (first_sample(source, event->attr.config, &counting->from)) {
		event->hw.state = PERF_HES_STOPPED;
	}
}

static void take(struct perf_event *event)
{
	struct counting *counting = event->pmu_private;

	if (counting->here)
		local64_add(ran_here(counting), &event->count);
	else
		take_from_host(event);
}

/* What the next thread may begin with. */
static void leave_behind(const struct counting *counting, struct source *source)
{
	if (counting->here)
		return;
	source->last = counting->from;
	source->last_task = current;
	source->last_ns = local_clock();
}

/* ---- what perf calls: interrupts off, on the event's CPU ---- */

static void counters_start(struct perf_event *event, int flags)
{
	event->hw.state = begin(event) ? PERF_HES_STOPPED : 0;
}

static void counters_read(struct perf_event *event)
{
	/* A fast call may be under way below an NMI; what was read last will do there. */
	if (in_nmi())
		return;
	if (!(event->hw.state & PERF_HES_STOPPED))
		take(event);
	else if (!(event->hw.state & PERF_HES_UPTODATE))
		counters_start(event, 0); /* the device has been away */
}

static void counters_stop(struct perf_event *event, int flags)
{
	if (event->hw.state & PERF_HES_STOPPED)
		return;
	take(event);
	if (!(event->hw.state & PERF_HES_STOPPED))
		leave_behind(event->pmu_private, source_of(event->attr.config));
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
}

static int counters_add(struct perf_event *event, int flags)
{
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
	if (!duet_page(counters.duet, smp_processor_id()))
		return -ENODEV;
	if (flags & PERF_EF_START)
		counters_start(event, flags);
	return 0;
}

static void counters_del(struct perf_event *event, int flags)
{
	counters_stop(event, PERF_EF_UPDATE);
}

/* ---- an event's life: may sleep ---- */

static void close_kind(void *kind)
{
	close_source(source_of((unsigned long)kind));
}

static void leave(u64 kind)
{
	mutex_lock(&counters.lock);
	if (!--counters.users[kind])
		on_each_cpu(close_kind, (void *)(unsigned long)kind, 1);
	mutex_unlock(&counters.lock);
}

static void destroy(struct perf_event *event)
{
	leave(event->attr.config);
	kfree(event->pmu_private);
	duet_put(counters.duet);
}

static int attach(struct perf_event *event)
{
	event->pmu_private = kzalloc(sizeof(struct counting), GFP_KERNEL);
	if (!event->pmu_private)
		return -ENOMEM;
	/* The device stays as long as there is an event: a PMU with events cannot go. */
	if (!duet_get()) {
		kfree(event->pmu_private);
		return -ENODEV;
	}
	mutex_lock(&counters.lock);
	counters.users[event->attr.config]++;
	mutex_unlock(&counters.lock);
	event->destroy = destroy;
	return 0;
}

static int counters_event_init(struct perf_event *event)
{
	const struct perf_event_attr *attr = &event->attr;

	if (attr->type != counters_pmu.type)
		return -ENOENT;
	if (attr->config >= DUET_COOP_COUNTERS || attr->config1 || attr->config2)
		return -EINVAL;
	if (is_sampling_event(event) || has_branch_stack(event))
		return -EOPNOTSUPP;
	if (!(counters.there & BIT(attr->config)))
		return -EOPNOTSUPP;
	if (event->cpu >= 0 && !duet_page(counters.duet, event->cpu))
		return -ENODEV;
	return attach(event);
}

/* ---- sysfs: what perf knows of us ---- */

#define EVENT(name_, kind, text)                                                                   \
	{                                                                                          \
		.attr = __ATTR(name_, 0444, perf_event_sysfs_show, NULL), .id = (kind),            \
		.event_str = (text)                                                                \
	}

/* clang-format off: names of files, no differences */
static struct perf_pmu_events_attr files[] = {
	EVENT(task-clock, DUET_COOP_TASK_CLOCK, "event=0x00"),
	EVENT(task-clock.unit, DUET_COOP_TASK_CLOCK, "msec"),
	EVENT(task-clock.scale, DUET_COOP_TASK_CLOCK, "1e-6"),
	EVENT(context-switches, DUET_COOP_CONTEXT_SWITCHES, "event=0x01"),
	EVENT(cpu-migrations, DUET_COOP_MIGRATIONS, "event=0x02"),
	EVENT(page-faults, DUET_COOP_PAGE_FAULTS, "event=0x03"),
	EVENT(cycles, DUET_COOP_CYCLES, "event=0x04"),
	EVENT(instructions, DUET_COOP_INSTRUCTIONS, "event=0x05"),
	EVENT(cache-references, DUET_COOP_CACHE_REFERENCES, "event=0x06"),
	EVENT(cache-misses, DUET_COOP_CACHE_MISSES, "event=0x07"),
	EVENT(branches, DUET_COOP_BRANCHES, "event=0x08"),
	EVENT(branch-misses, DUET_COOP_BRANCH_MISSES, "event=0x09"),
};
/* clang-format on */

static struct attribute *event_attributes[ARRAY_SIZE(files) + 1];

static umode_t event_visible(struct kobject *kobj, struct attribute *attribute, int n)
{
	return counters.there & BIT(files[n].id) ? attribute->mode : 0;
}

static const struct attribute_group events_group = {
	.name = "events",
	.attrs = event_attributes,
	.is_visible = event_visible,
};

PMU_FORMAT_ATTR(event, "config:0-7");

static struct attribute *format_attributes[] = {
	&format_attr_event.attr,
	NULL,
};

static const struct attribute_group format_group = {
	.name = "format",
	.attrs = format_attributes,
};

static const struct attribute_group *groups[] = {
	&events_group,
	&format_group,
	NULL,
};

/* ---- the part's life ---- */

/* Asks for each kind of event once, on whatever CPU this is. */
static int find_events(struct duet *duet)
{
	int refused = 0;

	counters.there = 0;
	get_cpu();
	for (u64 kind = 0; kind < DUET_COOP_COUNTERS; kind++) {
		u64 values[4] = {};
		int ret = duet_call(duet, DUET_COOP_COUNTER_OPEN, &kind, 1, values);

		if (ret) {
			refused = ret;
			continue;
		}
		counters.there |= BIT(kind);
		duet_call(duet, DUET_COOP_COUNTER_CLOSE, values, 1, NULL);
	}
	put_cpu();
	return counters.there ? 0 : refused;
}

static int register_pmu(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(files); i++)
		event_attributes[i] = &files[i].attr.attr;
	counters_pmu = (struct pmu){
		.module = THIS_MODULE,
		/* Beside other software events, of which any number may run at once. */
		.task_ctx_nr = perf_sw_context,
		.capabilities = PERF_PMU_CAP_NO_INTERRUPT | PERF_PMU_CAP_NO_EXCLUDE,
		.attr_groups = groups,
		.event_init = counters_event_init,
		.add = counters_add,
		.del = counters_del,
		.start = counters_start,
		.stop = counters_stop,
		.read = counters_read,
	};
	return perf_pmu_register(&counters_pmu, "duet", -1);
}

static int start(struct duet *duet)
{
	int ret = find_events(duet);

	if (ret) {
		pr_notice("the host lets us count nothing (error %d), so there is no PMU%s\n", ret,
			  ret == -EPERM ? ": its kernel.perf_event_paranoid has to be 1 or less" : "");
		return -EOPNOTSUPP;
	}
	counters.duet = duet;
	counters.sources = __alloc_percpu(DUET_COOP_COUNTERS * sizeof(struct source),
					  __alignof__(struct source));
	ret = counters.sources ? register_pmu() : -ENOMEM;
	if (ret) {
		free_percpu(counters.sources);
		counters.sources = NULL;
		counters.duet = NULL;
	}
	return ret;
}

static void stop(struct duet *duet)
{
	perf_pmu_unregister(&counters_pmu);
	free_percpu(counters.sources);
	counters.sources = NULL;
	counters.duet = NULL;
}

/* ---- selftest ---- */

static int test_grown(void)
{
	static const struct {
		struct sample from, to;
		u64 want;
	} cases[] = {
		{{0, 0, 0}, {5, 10, 10}, 5},
		{{1, 10, 10}, {6, 30, 20}, 10},
		{{5, 10, 10}, {4, 20, 20}, 0},
		{{5, 10, 10}, {6, 9, 20}, 0},
		{{0, 0, 0}, {7, 10, 0}, 7},
		{{0, 0, 0}, {U64_MAX, U64_MAX, 1}, U64_MAX},
		{{0, 0, 0}, {1ULL << 40, 1ULL << 40, 1ULL << 39}, 1ULL << 41},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 got = grown(&cases[i].from, &cases[i].to);

		if (got != cases[i].want) {
			pr_err("selftest: case %u grew by %llu, not by %llu\n", i, got,
			       cases[i].want);
			return -EIO;
		}
	}
	return 0;
}

/* Ten milliseconds of work: some of them are on the task clock, and no more than passed, by a clock
 * that may go a thousandth slower. */
static int test_clock(struct perf_event *event)
{
	const u64 start = ktime_get_ns();
	u64 enabled, running, before, counted, passed;

	before = perf_event_read_value(event, &enabled, &running);
	mdelay(10);
	counted = perf_event_read_value(event, &enabled, &running) - before;
	passed = ktime_get_ns() - start;
	if (counted && counted <= passed + passed / 1000)
		return 0;
	pr_err("selftest: %llu ns on the task clock in %llu ns\n", counted, passed);
	return -EIO;
}

static int selftest(struct duet *duet)
{
	struct perf_event_attr attr = {
		.type = counters_pmu.type,
		.size = sizeof(attr),
		.config = DUET_COOP_TASK_CLOCK,
	};
	struct perf_event *event;
	int ret = test_grown();

	if (ret || !(counters.there & BIT(DUET_COOP_TASK_CLOCK)))
		return ret;
	event = perf_event_create_kernel_counter(&attr, -1, current, NULL, NULL);
	if (IS_ERR(event)) {
		pr_err("selftest: no event: %ld\n", PTR_ERR(event));
		return PTR_ERR(event);
	}
	ret = test_clock(event);
	perf_event_release_kernel(event);
	return ret;
}

const struct duet_part duet_counters = {
	.name = "counters",
	.feature = DUET_COOP_F_COUNTERS,
	.start = start,
	.stop = stop,
	.selftest = selftest,
};
