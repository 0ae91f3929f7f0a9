/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What duetd knows at one moment: plain data, made of a host and its VMs (duetd/fleet.h), of a
 * trace or by a test. Policies (duetd/policy.h) read it and nothing else. What a guest says of
 * itself is among it as it was said, and need not be true. Sizes are in bytes, times in
 * nanoseconds, rates in events a second; pressures are shares of time in hundredths of a percent
 * (10,000: always), as a mean over 10 s.
 */
#ifndef DUET_DUETD_VIEW_H
#define DUET_DUETD_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIEW_NODES_MAX 8
#define VIEW_VCPUS_MAX 64 /* more of a VM are there, but not looked at one by one */
#define VIEW_NAME_MAX  64

struct vcpu_view {
	bool says;         /* the guest gives hints of it; the next two are theirs */
	uint32_t runnable; /* threads that run or could, r_i */
	uint64_t burst;    /* mean time on a CPU until a thread blocks, b_i; 0: not known */
	double busy;       /* share of a CPU that its thread took since the last view, 0 to 1 */
	double waits;      /* share of time in which it was runnable on the host without a CPU */
	uint8_t node;      /* where its thread ran last */
	/* Bytes that its threads use on each node, from the locality map; all 0: not known. */
	uint64_t uses[VIEW_NODES_MAX];
};

struct vm_view {
	char name[VIEW_NAME_MAX];
	uint64_t memory;   /* what the guest was given at its start */
	uint64_t resident; /* host memory that it takes now (of its cgroup, or PSS) */
	uint64_t age;      /* since it was first seen */
	bool passthrough;  /* its memory is pinned: neither balloon nor reclaim nor sharing */

	bool has_balloon;        /* with a driver */
	uint64_t balloon;        /* what is in it now */
	uint64_t balloon_target; /* what it was last told to hold */
	uint64_t balloon_since;  /* since when it was told so, ns ago */

	bool says_memory;     /* balloon statistics: the next are there */
	uint64_t guest_total; /* what the guest's kernel manages now */
	uint64_t guest_free, guest_available;
	double swap_in, swap_out, major_faults; /* pages or faults a second */

	bool says_hints; /* of the kit: the next are there */
	uint64_t working_set;
	double refaults;                   /* pages a second */
	uint32_t memory_some, memory_full; /* pressure within the guest */

	double host_refaults, host_swap_in; /* of its cgroup: pages a second read in again */

	bool can_share;   /* it can be told what to offer to KSM */
	uint64_t offered; /* what it offers now, as it says */
	uint64_t merged;  /* what of it is merged now */

	uint32_t share; /* configured weight against other VMs, 1 to 10,000; usual: 100 */
	unsigned vcpus;
	struct vcpu_view vcpu[VIEW_VCPUS_MAX];
	uint64_t nodes_hold[VIEW_NODES_MAX]; /* its memory by node */
};

struct host_view {
	uint64_t memory, available, free;
	uint64_t swap_total, swap_free;
	uint32_t memory_some, memory_full, cpu_some;
	unsigned cpus, nodes;
	uint64_t node_memory[VIEW_NODES_MAX];
	unsigned node_cpus[VIEW_NODES_MAX];
	bool slices;     /* the scheduler takes one for each thread (Linux 6.12) */
	bool reclaim;    /* cgroups have memory.reclaim */
	bool ksm;        /* it can be set */
	bool ksm_others; /* it ran before duetd wanted it, and is left as it is */
};

struct view {
	uint64_t now; /* of a monotonic clock */
	struct host_view host;
	struct vm_view *vms;
	unsigned count;
};

#endif
