/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies: pure functions from a view (duetd/view.h) to a plan. No clock, no files, no memory of
 * their own between calls: what they must know of the past (a target and its age, rates) stands in
 * the view. So one runs alike on a host, on a recorded trace (duetd simulate) and in a test. Any
 * thread.
 *
 * A mechanism has one policy at a time:
 *   memory   how much of its memory each guest may hold (M8)
 *   cpu      weights of VMs and slices of vCPUs (M10)
 *   numa     nodes of vCPUs and of memory (M11)
 *   sharing  which pages of equal content are merged (M9)
 */
#ifndef DUET_DUETD_POLICY_H
#define DUET_DUETD_POLICY_H

#include "base/error.h"
#include "duetd/view.h"

/* Why a VM has what it has; words for it by reason_words(). Each policy sets one for a VM. */
enum reason {
	REASON_NONE, /* the policy has not looked at it */
	/* memory */
	REASON_ENOUGH,       /* there is enough for all: it may hold what it was given */
	REASON_WORKING_SET,  /* its working set and a reserve, with a share of what is left over */
	REASON_CUT_TO_SHARE, /* it wants more than its share, and others need theirs */
	REASON_GROWS,        /* its guest is short now: given back at once */
	REASON_STEP,         /* on its way, one step at a time */
	REASON_STILL,        /* the difference is too small to act upon */
	REASON_UNKNOWN,      /* nothing is known of its memory: left alone */
	REASON_PINNED,       /* passed-through devices hold its memory */
	REASON_NO_BALLOON,   /* no balloon: by reclaim alone, or not at all */
	REASON_STATIC,       /* an equal split by share */
	REASON_TAXED,        /* idle memory taxed */
	REASON_PRESSURE,     /* the host is under pressure: a step of reclaim */
	/* cpu */
	REASON_RUNNABLE, /* its weight follows the threads that can run */
	REASON_CAPPED,   /* it says more threads than its vCPUs and share count for */
	REASON_IDLE,     /* nothing can run: its configured weight */
	REASON_NO_HINTS, /* by how busy its vCPUs are, its guest saying nothing */
	REASON_SHARE,    /* its configured weight, whatever it does */
	/* numa */
	REASON_FOLLOWS_MEMORY, /* vCPUs go to where what they use is */
	REASON_MEMORY_FOLLOWS, /* what they use goes to where vCPUs are */
	REASON_NO_MAP,         /* its guest gives no map, or the host has one node */
	/* sharing */
	REASON_NAMED,        /* it offers what its guest names */
	REASON_NAMES_NONE,   /* its guest has no kit, so it names nothing */
	REASON_ALL_OFFERED,  /* it offers all it has */
	REASON_NOT_MERGED,   /* passed-through devices hold its memory */
	REASON_CANNOT_SHARE, /* an older duet, which cannot be told */
	REASON_NO_KSM,       /* the host has none that could be set */
	REASON_COUNT
};

struct vcpu_plan {
	uint64_t slice; /* ns; 0: the host's own */
	int8_t node;    /* -1: any */
};

enum sharing {
	SHARING_HINTED, /* what its guest names */
	SHARING_BLIND,  /* all of it */
};

struct vm_plan {
	enum reason memory_why, cpu_why, numa_why, sharing_why;
	bool set_memory;
	uint64_t allowed; /* what the guest may hold: balloon target is memory - allowed */
	uint64_t reclaim; /* bytes to be taken from its cgroup now (memory.reclaim); 0: none */
	bool set_cpu;
	uint32_t weight; /* cpu.weight, 1 to 10,000 */
	bool set_numa;
	bool memory_follows; /* what each vCPU uses comes to its node */
	bool wants_map;      /* its guest is to say now and then what its vCPUs use */
	struct vcpu_plan vcpu[VIEW_VCPUS_MAX];
	bool set_sharing; /* else it offers nothing of ours */
	enum sharing sharing;
};

struct ksm_plan {
	bool runs;                /* else it is left, or put back, as it was */
	unsigned pages, sleep_ms; /* looked at at once, and between; 0: by the kernel's own rate */
};

struct plan {
	struct vm_plan *vms; /* as many as the view has, in its order */
	struct ksm_plan ksm;
};

enum mechanism {
	MECHANISM_MEMORY,
	MECHANISM_CPU,
	MECHANISM_NUMA,
	MECHANISM_SHARING,
	MECHANISMS
};

struct policy {
	const char *name; /* "working-set" */
	enum mechanism mechanism;
	const char *help; /* one line */
	/* Fills in its own members of the plan and of each VM's, which came zeroed. Never fails:
	 * with less known it does less. */
	void (*decide)(const struct view *view, struct plan *plan);
};

/* Those of @mechanism, the first being the usual; ended by null. */
const struct policy *const *policies_of(enum mechanism mechanism);
/* Null: there is none; @err names those there are. "off" is one of each. */
const struct policy *policy_by_name(enum mechanism mechanism, const char *name, struct error *err);
const char *mechanism_name(enum mechanism mechanism);
enum reason plan_reason(const struct vm_plan *plan, enum mechanism mechanism);

/* One sentence with the figures, for people: at most @room bytes with its null. */
void reason_words(enum reason reason, const struct view *view, const struct plan *plan, unsigned vm,
	char *words, size_t room);

#endif
