// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest tells of itself: threads that wait for each CPU, how long they run until they
 * block, and once a second memory and pressure. Written into the shared pages, without an exit.
 *
 * The scheduler's tracepoints come under the lock of the run queue that they are about, so what
 * they count needs no lock of its own. The page does: the heartbeat writes it too.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>
#include <trace/events/sched.h>

#include "core.h"
#include "pressure.h"
#include "runqueues.h"

#define BURST_WEIGHT 8 /* the newest counts an eighth */
#define WRITES       8 /* of a page at once, after a while without */

struct vcpu {
	struct duet_coop_guest_part *part; /* null: the CPU is offline */
	atomic_t writing;                  /* somebody writes @part */
	u32 sequence;                      /* of @part, ours: the host's copy is not asked */
	/* Under the run queue's lock. */
	long runnable;
	u32 shown; /* of it, in @part */
	u64 burst; /* nanoseconds, weighted */
	u64 ran;   /* nanoseconds of threads since one last blocked */
	u64 since; /* the one on the CPU runs */
	u64 switches;
	u64 refilled; /* when @credit was last counted, nanoseconds */
	u32 credit;   /* writes that are left; one more each millisecond */
} ____cacheline_aligned;

static struct {
	struct vcpu *vcpus; /* by APIC id */
	u32 count;
	struct duet_coop_page *pages;
	u64 refaults; /* at the last heartbeat */
	u64 heartbeat;
	struct delayed_work beat;
	int hotplug; /* its state */
	struct tracepoint *switched;
} hints;

static DEFINE_PER_CPU(struct vcpu *, mine);

/* Writing */

static void begin(struct vcpu *vcpu, struct duet_coop_guest_part *part)
{
	WRITE_ONCE(part->sequence, ++vcpu->sequence);
	smp_wmb();
}

static void end(struct vcpu *vcpu, struct duet_coop_guest_part *part)
{
	smp_wmb();
	WRITE_ONCE(part->sequence, ++vcpu->sequence);
	atomic_set_release(&vcpu->writing, 0);
}

static void fill(struct vcpu *vcpu, struct duet_coop_guest_part *part, u64 now)
{
	vcpu->shown = clamp_t(long, READ_ONCE(vcpu->runnable), 0, U32_MAX);
	WRITE_ONCE(part->runnable, vcpu->shown);
	WRITE_ONCE(part->burst_ns, READ_ONCE(vcpu->burst));
	WRITE_ONCE(part->switches, READ_ONCE(vcpu->switches));
	WRITE_ONCE(part->updated_ns, now);
}

/* Interrupts are off. Whoever is at it already writes what is new nearly as well. */
static void show(struct vcpu *vcpu, u64 now)
{
	struct duet_coop_guest_part *part = READ_ONCE(vcpu->part);

	if (!part || atomic_cmpxchg_acquire(&vcpu->writing, 0, 1))
		return;
	begin(vcpu, part);
	fill(vcpu, part, now);
	end(vcpu, part);
}

static bool may_write(struct vcpu *vcpu, u64 now)
{
	u64 due = now > vcpu->refilled ? (now - vcpu->refilled) / NSEC_PER_MSEC : 0;

	if (due) {
		vcpu->credit = min_t(u64, vcpu->credit + due, WRITES);
		vcpu->refilled = due > WRITES ? now : vcpu->refilled + due * NSEC_PER_MSEC;
	}
	if (!vcpu->credit)
		return false;
	vcpu->credit--;
	return true;
}

/* The scheduler's events, under the run queue's lock */

static void on_running(void *data, struct rq *rq, int change)
{
	int cpu = duet_runqueue_cpu(rq);
	struct vcpu *vcpu = cpu < 0 ? NULL : READ_ONCE(per_cpu(mine, cpu));
	u64 now;

	if (!vcpu)
		return;
	WRITE_ONCE(vcpu->runnable, vcpu->runnable + change);
	/* A thread that blocks is followed by a switch, which writes. */
	if (change < 0)
		return;
	now = ktime_get_mono_fast_ns();
	if (may_write(vcpu, now))
		show(vcpu, now);
}

/* Run time over blockings is the mean burst, whoever has run: nothing is kept for each thread. */
static void count_burst(struct vcpu *vcpu, bool blocks, u64 now)
{
	vcpu->ran += now > vcpu->since ? now - vcpu->since : 0;
	if (!blocks)
		return;
	WRITE_ONCE(vcpu->burst,
		   vcpu->burst - vcpu->burst / BURST_WEIGHT + vcpu->ran / BURST_WEIGHT);
	vcpu->ran = 0;
}

static void on_switch(void *data, bool preempt, struct task_struct *prev, struct task_struct *next,
		      unsigned int prev_state)
{
	struct vcpu *vcpu = __this_cpu_read(mine);
	u64 now;

	if (!vcpu)
		return;
	now = ktime_get_mono_fast_ns();
	if (!is_idle_task(prev))
		count_burst(vcpu, prev_state && !preempt, now);
	vcpu->since = now;
	WRITE_ONCE(vcpu->switches, vcpu->switches + 1);
	/* What the sum of changes was before the first of them is not known; here it is. */
	if (is_idle_task(next))
		WRITE_ONCE(vcpu->runnable, 0);
	else if (vcpu->runnable < 1)
		WRITE_ONCE(vcpu->runnable, 1);
	/* An idle CPU exits: the write is nothing beside that, and what it says stays for long. */
	if (may_write(vcpu, now) || (is_idle_task(next) && vcpu->shown))
		show(vcpu, now);
}

/* The heartbeat */

/* What is in use, and what came back in the last second after it had been given up: pages that the
 * kernel would not miss are on neither list. */
static u64 working_set(u64 refaults)
{
	u64 pages = global_node_page_state(NR_ACTIVE_ANON) + global_node_page_state(NR_ACTIVE_FILE) +
		    global_node_page_state(NR_UNEVICTABLE) + global_node_page_state(NR_PAGETABLE) +
		    global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);

	pages += refaults - min(hints.refaults, refaults);
	return (pages << PAGE_SHIFT) + ((u64)global_node_page_state(NR_KERNEL_STACK_KB) << 10);
}

static u64 refaulted(void)
{
	return global_node_page_state(WORKINGSET_REFAULT_ANON) +
	       global_node_page_state(WORKINGSET_REFAULT_FILE);
}

static void show_machine(u64 bytes, u64 refaults, const u32 *pressure)
{
	struct duet_coop_guest_part *part = &hints.pages[0].guest; /* of vCPU 0: of all */
	struct vcpu *vcpu = &hints.vcpus[0];
	unsigned long flags;
	unsigned int i;

	local_irq_save(flags);
	while (atomic_cmpxchg_acquire(&vcpu->writing, 0, 1))
		cpu_relax();
	begin(vcpu, part);
	WRITE_ONCE(part->working_set, bytes);
	WRITE_ONCE(part->refaults, refaults);
	for (i = 0; i < DUET_PRESSURES; i++)
		WRITE_ONCE(part->pressure[i], pressure[i]);
	WRITE_ONCE(part->heartbeat, ++hints.heartbeat);
	WRITE_ONCE(part->updated_ns, ktime_get_mono_fast_ns());
	end(vcpu, part);
	local_irq_restore(flags);
}

/* Of those whose last change found no write left. */
static void show_late(void)
{
	struct vcpu *vcpu;
	unsigned long flags;

	for (vcpu = hints.vcpus; vcpu < hints.vcpus + hints.count; vcpu++) {
		if (READ_ONCE(vcpu->shown) == READ_ONCE(vcpu->runnable))
			continue;
		local_irq_save(flags);
		show(vcpu, ktime_get_mono_fast_ns());
		local_irq_restore(flags);
	}
}

static void beat(struct work_struct *work)
{
	u64 refaults = refaulted();
	u32 pressure[DUET_PRESSURES];

	duet_pressure_read(pressure);
	show_late();
	show_machine(working_set(refaults), refaults, pressure);
	hints.refaults = refaults;
	queue_delayed_work(system_freezable_wq, &hints.beat, round_jiffies_relative(HZ));
}

/* CPUs that come and go */

static int cpu_comes(unsigned int cpu)
{
	u32 number = duet_vcpu(cpu);
	struct vcpu *vcpu;

	if (number >= hints.count)
		return 0;
	vcpu = &hints.vcpus[number];
	vcpu->runnable = 0;
	vcpu->ran = 0;
	vcpu->since = ktime_get_mono_fast_ns();
	vcpu->refilled = vcpu->since;
	WRITE_ONCE(vcpu->part, &hints.pages[number].guest);
	smp_store_release(per_cpu_ptr(&mine, cpu), vcpu);
	return 0;
}

static int cpu_goes(unsigned int cpu)
{
	struct vcpu *vcpu = per_cpu(mine, cpu);
	unsigned long flags;

	if (!vcpu)
		return 0;
	WRITE_ONCE(per_cpu(mine, cpu), NULL);
	/* Tracepoints' callbacks are done with it then. */
	synchronize_rcu();
	local_irq_save(flags);
	WRITE_ONCE(vcpu->runnable, 0);
	show(vcpu, ktime_get_mono_fast_ns());
	local_irq_restore(flags);
	WRITE_ONCE(vcpu->part, NULL);
	return 0;
}

/* The part */

static void find_switch(struct tracepoint *tracepoint, void *found)
{
	if (!strcmp(tracepoint->name, "sched_switch"))
		*(struct tracepoint **)found = tracepoint;
}

static void unfollow_runqueues(void)
{
	unregister_trace_sched_update_nr_running_tp(on_running, NULL);
	tracepoint_synchronize_unregister();
}

static int follow_runqueues(void)
{
	int error = register_trace_sched_update_nr_running_tp(on_running, NULL);

	if (error)
		return error;
	error = duet_runqueues_learn();
	if (error)
		unfollow_runqueues();
	return error;
}

static int follow_cpus(void)
{
	int state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "duet:hints", cpu_comes, cpu_goes);

	hints.hotplug = state;
	return state < 0 ? state : 0;
}

static int follow(void)
{
	int error = follow_runqueues();

	if (error)
		return error;
	error = follow_cpus();
	if (error) {
		unfollow_runqueues();
		return error;
	}
	error = tracepoint_probe_register(hints.switched, on_switch, NULL);
	if (error) {
		cpuhp_remove_state(hints.hotplug);
		unfollow_runqueues();
	}
	return error;
}

static int hints_start(struct duet *duet)
{
	int error;

	for_each_kernel_tracepoint(find_switch, &hints.switched);
	if (!hints.switched) {
		dev_notice(&duet->vdev->dev, "no hints: this kernel has no tracepoint sched_switch\n");
		return -EOPNOTSUPP;
	}
	hints.vcpus = kvcalloc(duet->vcpus, sizeof(*hints.vcpus), GFP_KERNEL);
	if (!hints.vcpus)
		return -ENOMEM;
	hints.count = duet->vcpus;
	hints.pages = duet->pages;
	hints.refaults = refaulted();
	error = follow();
	if (error) {
		kvfree(hints.vcpus);
		dev_notice(&duet->vdev->dev, "no hints: this kernel's scheduler cannot be followed\n");
		return error;
	}
	duet_pressure_open();
	INIT_DELAYED_WORK(&hints.beat, beat);
	queue_delayed_work(system_freezable_wq, &hints.beat, 0);
	return 0;
}

static void hints_stop(struct duet *duet)
{
	cancel_delayed_work_sync(&hints.beat);
	duet_pressure_close();
	tracepoint_probe_unregister(hints.switched, on_switch, NULL);
	unfollow_runqueues();
	cpuhp_remove_state(hints.hotplug);
	kvfree(hints.vcpus);
}

/* A sleep is at least two switches; the first heartbeat came at once. */
static int hints_selftest(struct duet *duet)
{
	struct duet_coop_page *page;
	u64 switches = 0;
	unsigned int cpu;

	msleep(100);
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		page = duet_page(duet, cpu);
		switches += page ? READ_ONCE(page->guest.switches) : 0;
	}
	cpus_read_unlock();
	if (switches && READ_ONCE(duet->pages[0].guest.heartbeat) &&
	    READ_ONCE(duet->pages[0].guest.working_set))
		return 0;
	dev_err(&duet->vdev->dev, "selftest: hints: %llu switches, heartbeat %llu\n", switches,
		READ_ONCE(duet->pages[0].guest.heartbeat));
	return -EIO;
}

const struct duet_part duet_hints = {
	.name = "hints",
	.feature = DUET_COOP_F_HINTS,
	.start = hints_start,
	.stop = hints_stop,
	.selftest = hints_selftest,
};
