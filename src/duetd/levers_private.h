/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the levers share. Paths begin with "/" and are below the root. Main thread. */
#ifndef DUET_DUETD_LEVERS_PRIVATE_H
#define DUET_DUETD_LEVERS_PRIVATE_H

#include "duetd/journal.h"
#include "duetd/levers.h"

#include <sched.h>

#define CGROUPS "/sys/fs/cgroup"

struct lever_thread {
	pid_t tid;            /* 0: none */
	uint64_t start;       /* tells it from a later one of the same number */
	uint64_t ran, waited; /* ns, at the last view */
	uint64_t slice;       /* ns; 0: the host's own */
	int8_t node;          /* where it may run; -1: anywhere */
	bool placed;          /* @on is known */
	uint8_t on;           /* the node on which it ran last, when it was looked at */
	cpu_set_t *before;    /* where it could at first; null: that was not changed */
};

struct lever_vm {
	struct lever_vm *next;
	char name[VIEW_NAME_MAX];
	pid_t pid;
	uint64_t start;
	bool leaving;  /* removed, but its process is still there */
	uint32_t told; /* stands for the fault that was told of last */
	bool moved;    /* into a cgroup of ours, which does not count what it took before */
	char *cgroup;  /* "/sys/fs/cgroup/..."; null: it has none of its own */
	uint32_t weight, weight_before; /* 0: it was not changed */
	uint64_t viewed;                /* when, ns; 0: never */
	uint64_t refaults, swapped;     /* pages, at the last view */
	uint64_t looked, walked;    /* when what costs more was looked at, and what costs most */
	bool ran;                   /* since that: its vCPUs did more than idle */
	uint64_t held, merged_then; /* bytes, at that time, of what costs little to know */
	uint64_t resident, merged, nodes_hold[VIEW_NODES_MAX];
	struct lever_thread *threads;
	unsigned count;
};

enum lever_ksm_knob {
	KSM_PAGES,
	KSM_SLEEP,
	KSM_SMART,
	KSM_ADVISOR,
	KSM_RUN,
	LEVER_KSM_KNOBS
};
#define LEVER_KSM_TEXT 64

struct lever_knob {
	bool there; /* and noted; an older kernel has fewer */
	char before[LEVER_KSM_TEXT], now[LEVER_KSM_TEXT];
};

struct lever_ksm {
	bool ours;   /* taken over: what was there is in the journal */
	bool others; /* it ran when it was wanted */
	struct lever_knob knobs[LEVER_KSM_KNOBS];
};

struct levers {
	char *root, *ours; /* ours: "/sys/fs/cgroup/duet" */
	struct journal *journal;
	struct lever_state states[LEVERS];
	struct lever_vm *vms;
	struct lever_ksm ksm;
	bool prepared;
	unsigned nodes;
	cpu_set_t node_cpus[VIEW_NODES_MAX];
	uint64_t own_slice; /* ns: of a thread whose slice nobody set */
	uint64_t paged;     /* pages that the host has read in again, of all who have memory */
	bool calm;          /* none since the view before; false where that is not known */
};

/* levers_file.c */
/* Null-terminated, cut at @room; its length or a negative errno. */
ssize_t lever_read(const struct levers *levers, char *text, size_t room, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* All of it, to be freed; null: there is none. */
char *lever_read_all(const struct levers *levers, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int lever_write(const struct levers *levers, const char *text, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
bool lever_may_write(const struct levers *levers, const char *path);
int lever_mkdir(const struct levers *levers, const char *path);
int lever_rmdir(const struct levers *levers, const char *path);
/* The number after the word @name, 0 when there is none. */
uint64_t lever_field(const char *text, const char *name);
/* The same of kibibytes, in bytes. */
uint64_t lever_kib(const char *text, const char *name);
bool lever_has_word(const char *text, const char *word);
/* "0-3,8"; what makes no sense ends it. */
void lever_cpus_parse(const char *text, cpu_set_t *cpus);
char *lever_cpus_text(const cpu_set_t *cpus);

/* levers_process.c */
/* 0: there is no such process or thread. @pid 0: @tid by itself. */
uint64_t lever_start_time(const struct levers *levers, pid_t pid, pid_t tid);
/* The CPU that it ran on last; false: the thread that began at @start is not there any more. */
bool lever_last_cpu(
	const struct levers *levers, pid_t pid, pid_t tid, uint64_t start, uint64_t *cpu);
pid_t lever_parent(const struct levers *levers, pid_t pid);
/* "PID:STARTTIME", for the journal. */
#define LEVER_ID_SIZE 40
const char *lever_id(pid_t tid, uint64_t start, char id[LEVER_ID_SIZE]);
/* What lever_id() wrote, when it is still that one. */
bool lever_id_alive(const struct levers *levers, const char *id, pid_t *tid);
/* Of a thread that the scheduler shares time out to; 0: it is none, or has no slice of its own. */
uint64_t lever_slice_get(pid_t tid);
/* -EAGAIN: what it has now is lent (base/schedule.h), for some milliseconds. */
int lever_slice_set(pid_t tid, uint64_t slice);

/* levers_cgroup.c */
/* Finds or makes the VM's own. */
int lever_cgroup_own(struct levers *levers, struct lever_vm *vm, struct error *err);
/* Of a process that has ended; whether it is gone. */
bool lever_cgroup_remove(struct levers *levers, const struct lever_vm *vm);

/* levers_ksm.c */
void lever_ksm_view(const struct levers *levers, struct host_view *host);
/* Bytes of a process that are merged; 0 from a kernel that does not tell. */
uint64_t lever_ksm_merged(const struct levers *levers, pid_t pid);

/* levers_look.c */
/* Now and then: what is merged, and where that takes a walk, what it takes and on which nodes. */
bool lever_look_due(const struct lever_vm *vm, uint64_t now);
void lever_look(const struct levers *levers, struct lever_vm *vm, uint64_t now);

/* levers_undo.c */
void lever_put_back(void *levers, const struct undo *undo);

/* levers.c */
struct lever_vm *lever_find(const struct levers *levers, const char *name);
/* Forgets those that have left and ended. */
void lever_sweep(struct levers *levers);

#endif
