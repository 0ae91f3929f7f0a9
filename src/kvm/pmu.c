/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's vPMU: none, as the host has it, or with a filter that lets nothing but these events count:
 * instructions, cycles, branches, cache accesses, and what of the latter two failed. They tell a
 * guest of its own work; events of buses and of shared caches' owners would tell of its neighbours.
 */
#include "kvm/internal.h"

#include "base/checked.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define GENUINE_INTEL_EBX 0x756e6547U

/* KVM_SET_PMU_EVENT_FILTER: event in bits 0-7, unit mask in 8-15. */
static const uint64_t intel_events[] = {
	0x003c, /* core cycles: the architectural events, Intel SDM vol. 3, 20.2.1.2 */
	0x013c, /* reference cycles */
	0x00c0, /* instructions retired */
	0x4f2e, /* last-level cache references */
	0x412e, /* ... and misses */
	0x00c4, /* branches retired */
	0x00c5, /* ... and mispredicted */
};
static const uint64_t amd_events[] = {
	0x0076, /* cycles not in halt: AMD PPR, performance monitor counters */
	0x00c0, /* instructions retired */
	0x00c2, /* branches retired */
	0x00c3, /* ... and mispredicted */
	0xff60, /* L2 requests, family 17h on */
	0x0964, /* ... and misses of data and code */
	0x077d, /* L2 requests before */
	0x077e, /* ... and misses */
};
#define FIXED_COUNTERS 0x7U /* Intel's: instructions, cycles, reference cycles */
#define EVENTS_MAX     8

union filter {
	struct kvm_pmu_event_filter header;
	uint8_t room[sizeof(struct kvm_pmu_event_filter) + EVENTS_MAX * sizeof(uint64_t)];
};

_Static_assert(ARRAY_SIZE(intel_events) <= EVENTS_MAX && ARRAY_SIZE(amd_events) <= EVENTS_MAX,
	"each has its place");

static bool is_intel(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && b == GENUINE_INTEL_EBX;
}

static int set_filter(struct kvm_vm *vm, struct error *err)
{
	union filter filter = {.room = {0}};
	const uint64_t *events = is_intel() ? intel_events : amd_events;
	int ret;

	filter.header.action = KVM_PMU_EVENT_ALLOW;
	filter.header.fixed_counter_bitmap = FIXED_COUNTERS;
	filter.header.nevents = is_intel() ? ARRAY_SIZE(intel_events) : ARRAY_SIZE(amd_events);
	memcpy(filter.room + sizeof(filter.header), events,
		filter.header.nevents * sizeof(*events));
	ret = kvm_ioctl(vm->fd, KVM_SET_PMU_EVENT_FILTER, &filter);
	return ret < 0 ? error_errno(err, -ret, "--pmu filter: KVM_SET_PMU_EVENT_FILTER") : 0;
}

/* A KVM that cannot take its vPMU away (before Linux 5.18) has it; CPUID says that there is none.
 */
static int take_away(struct kvm_vm *vm, struct error *err)
{
	int ret = 0;

	if (vm->host.vpmu)
		ret = kvm_enable_cap(vm->fd, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE);
	return ret < 0 ? error_errno(err, -ret, "--pmu: KVM_CAP_PMU_CAPABILITY") : 0;
}

int pmu_set_up(struct kvm_vm *vm, struct error *err)
{
	const bool filter = vm->options.pmu == KVM_VM_PMU_FILTER;
	const char *word = filter ? "filter" : "pass";

	if (vm->options.pmu == KVM_VM_PMU_NONE)
		return take_away(vm, err);
	if (!vm->host.vpmu)
		return error_set(err, ENOTSUP,
			"--pmu %s: this host's KVM has no PMU for guests: its CPU shows no "
			"performance counters, the module kvm was loaded with enable_pmu=0, or it "
			"is older than Linux 5.18; use --pmu pv, or off",
			word);
	if (filter && !vm->host.pmu_filter)
		return error_set(err, ENOTSUP,
			"--pmu filter: this host's KVM filters no events (Linux 5.3 or later "
			"does); use --pmu pv, or off");
	return filter ? set_filter(vm, err) : 0;
}
