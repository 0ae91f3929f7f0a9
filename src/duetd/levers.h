/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's levers: cgroup v2, the scheduler's slices, memory.reclaim, node masks, KSM. Each thing
 * changed is first written, with what it was, into a journal on disk (duetd/journal.h), so that it
 * can be put back by this process, by the next duetd or by `duetd --undo`, whatever ends this one.
 * All files are below @root, which is "" on a host and a made-up tree in a test. Main thread.
 */
#ifndef DUET_DUETD_LEVERS_H
#define DUET_DUETD_LEVERS_H

#include "base/error.h"
#include "duetd/policy.h"

#include <sys/types.h>

struct levers;

struct levers_options {
	const char *root;    /* "" on a host */
	const char *journal; /* "/run/duetd/journal" */
	const char *cgroup;  /* below the cgroup file system, made for the VMs: "duet" */
};

/* What works on this host, and why not what does not: for `duetctl policy`. */
enum lever {
	LEVER_CPU_WEIGHT,
	LEVER_SLICE,
	LEVER_RECLAIM,
	LEVER_NODES,
	LEVER_PSI,
	LEVER_KSM,
	LEVERS
};

struct lever_state {
	bool works;
	char why[160]; /* when it does not: what is missing and what to do */
};

/* Puts back what a journal there is says first. Never fails for a lever that the host has not:
 * see levers_state(). */
int levers_open(struct levers **levers, const struct levers_options *options, struct error *err);
/* Puts everything back. Null is allowed. */
void levers_close(struct levers *levers);
/* Only puts back what the journal says: for a duetd that has ended. */
int levers_undo(const struct levers_options *options, struct error *err);
void levers_state(const struct levers *levers, enum lever lever, struct lever_state *state);
const char *lever_name(enum lever lever);

/* The host's side of a view: /proc/meminfo, PSI, nodes. */
int levers_view(struct levers *levers, struct host_view *host, struct error *err);

/* A VM's process gets a cgroup of its own below ours; one that has one already (its unit's) keeps
 * it. -EEXIST: it is known. It is forgotten, with nothing to be put back, when it has ended. */
int levers_add(struct levers *levers, const char *name, pid_t pid, struct error *err);
void levers_remove(struct levers *levers, const char *name);
/* Whether one of them at least is a thread of process @pid. */
bool levers_has_thread(
	const struct levers *levers, pid_t pid, const pid_t *threads, unsigned count);
/* Threads of its vCPUs, for slices, nodes and what they took. */
int levers_threads(struct levers *levers, const char *name, const pid_t *threads, unsigned count,
	struct error *err);
/* The host's part of a VM's view: resident, what its vCPUs took, refaults, nodes. */
int levers_view_vm(struct levers *levers, struct vm_view *vm, struct error *err);
/* Does what of @plan is the host's: weight, slices, CPUs, reclaim. Only what changed is written.
 * The log tells of what fails, once. -ENOENT: no process of it is known. */
int levers_apply(
	struct levers *levers, const char *name, const struct vm_plan *plan, struct error *err);
/* KSM itself: its settings are taken over, or put back, as @plan says. */
int levers_apply_ksm(struct levers *levers, const struct ksm_plan *plan, struct error *err);

#endif
