// SPDX-License-Identifier: GPL-2.0-only
#include "stolen.h"

#include <linux/cpuhotplug.h>
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/rcupdate.h>
#include <linux/smp.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/msr.h>

/* MSR_KVM_STEAL_TIME: the address is a multiple of 64. */
#define ADDRESS_BITS (~63ULL)
/* A host that is in the middle of an update is done in a moment; one that never ends is hostile. */
#define READ_TRIES   64

static DEFINE_PER_CPU(const struct kvm_steal_time *, steal_times);
static const struct duet_coop_host_part __rcu *host_part;
static enum cpuhp_state online_state;

/* The structure that the kernel registered for the CPU that runs this: memory of the kernel's own,
 * if the host told the truth, which is tried. */
static int find_steal_time(unsigned int cpu)
{
	const struct kvm_steal_time *found = NULL;
	u64 value, tried;

	if (rdmsrl_safe(MSR_KVM_STEAL_TIME, &value) == 0 && value & KVM_MSR_ENABLED &&
	    pfn_valid(PHYS_PFN(value & ADDRESS_BITS)))
		found = phys_to_virt(value & ADDRESS_BITS);
	if (found && copy_from_kernel_nofault(&tried, found, sizeof(tried)))
		found = NULL;
	per_cpu(steal_times, cpu) = found;
	return 0;
}

int duet_stolen_start(struct duet *duet)
{
	bool any = false;
	unsigned int cpu;
	int ret;

	if (duet_has(duet, DUET_COOP_F_TIME))
		rcu_assign_pointer(host_part, &duet->pages[0].host);
	ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "duet/stolen:online", find_steal_time, NULL);
	if (ret < 0) {
		rcu_assign_pointer(host_part, NULL);
		synchronize_rcu();
		return ret;
	}
	online_state = ret;
	for_each_online_cpu(cpu)
		any |= per_cpu(steal_times, cpu) != NULL;
	return any ? 0 : -EOPNOTSUPP;
}

void duet_stolen_stop(void)
{
	if (online_state)
		cpuhp_remove_state_nocalls(online_state);
	online_state = 0;
	rcu_assign_pointer(host_part, NULL);
	/* Who reads the device's page now is done before it goes. */
	synchronize_rcu();
}

/* What CPU @cpu lost since it came; what was seen last when the host does not come to an end. */
static u64 steal_of(unsigned int cpu, u64 last)
{
	const struct kvm_steal_time *time = per_cpu(steal_times, cpu);
	u32 version;
	u64 steal;
	int tries;

	for (tries = 0; time && tries < READ_TRIES; tries++) {
		version = READ_ONCE(time->version);
		smp_rmb(); /* the version before what it covers, and after */
		steal = READ_ONCE(time->steal);
		smp_rmb();
		if (!(version & 1) && version == READ_ONCE(time->version))
			return steal;
		cpu_relax();
	}
	return last;
}

static u64 away_of_machine(u64 last)
{
	const struct duet_coop_host_part *host;
	u64 away = last;

	rcu_read_lock();
	host = rcu_dereference(host_part);
	if (host)
		away = READ_ONCE(host->away_ns);
	rcu_read_unlock();
	return away;
}

/* Neither goes back; a host that makes them do so takes nothing. */
static u64 growth(u64 now, u64 before)
{
	return now > before ? now - before : 0;
}

/* Until @now, of what steal time and the machine's absence are then. A theft ends when its CPU runs
 * again, and the last update was made on a CPU that ran: it is not part of an earlier one. */
static u64 lost_since(const struct duet_stolen *stolen, u64 steal, u64 away, u64 now)
{
	u64 lost;

	if (check_add_overflow(growth(steal, stolen->steal), growth(away, stolen->away), &lost))
		lost = U64_MAX;
	return min(lost, growth(now, stolen->at));
}

void duet_stolen_begin(struct duet_stolen *stolen)
{
	stolen->total = 0;
	stolen->cpu = raw_smp_processor_id();
	stolen->steal = steal_of(stolen->cpu, 0);
	stolen->away = away_of_machine(0);
	stolen->at = ktime_get_mono_fast_ns();
}

u64 duet_stolen_peek(const struct duet_stolen *stolen)
{
	return stolen->total + lost_since(stolen, steal_of(stolen->cpu, stolen->steal),
					  away_of_machine(stolen->away), ktime_get_mono_fast_ns());
}

u64 duet_stolen_update(struct duet_stolen *stolen)
{
	u64 steal = steal_of(stolen->cpu, stolen->steal), away = away_of_machine(stolen->away);
	u64 now = ktime_get_mono_fast_ns();
	unsigned int cpu = raw_smp_processor_id();

	stolen->total += lost_since(stolen, steal, away, now);
	stolen->away = away;
	stolen->steal = cpu == stolen->cpu ? steal : steal_of(cpu, 0);
	stolen->at = now;
	stolen->cpu = cpu;
	return stolen->total;
}

int duet_stolen_selftest(void)
{
	static const struct duet_stolen last = {.steal = 1000, .away = 500, .at = 10000};
	static const struct {
		u64 steal, away, now, lost;
	} cases[] = {
		{1000, 500, 20000, 0},
		{1400, 500, 20000, 400},
		{1400, 1500, 20000, 1400},
		/* Back, or ahead of time. */
		{0, 0, 20000, 0},
		{1000, 1ULL << 62, 20000, 10000},
		{U64_MAX, U64_MAX, 20000, 10000},
		{U64_MAX, 0, 9999, 0},
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 lost = lost_since(&last, cases[i].steal, cases[i].away, cases[i].now);

		if (lost != cases[i].lost) {
			pr_err("duet: stolen time: case %u lost %llu ns, not %llu\n", i, lost,
			       cases[i].lost);
			return -EIO;
		}
	}
	return 0;
}

bool duet_steal_is_told(void)
{
	return raw_cpu_read(steal_times) != NULL;
}

bool duet_cpu_preempted(unsigned int cpu)
{
	const struct kvm_steal_time *time = per_cpu(steal_times, cpu);

	return !time || READ_ONCE(time->preempted) & KVM_VCPU_PREEMPTED;
}
