/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine from its configuration: devices, vCPU threads, life cycle.
 *
 *    machine_new()     machine_build(), or        machine_start()
 *                      build_bare and restore
 *   ------------> CONFIGURED ---------> BUILT ----------------------> RUNNING --+ reset
 *                                         |     resume  ^     | pause    ^      | in place
 *                                         |             |     v          +------+
 *                                         |             PAUSED
 *                                         |               |        the guest, the owner,
 *                                         +---------------+------- or a fault ------------> ENDED
 *
 * Threads: all functions are for the thread that runs the owner's loop, the control thread, unless
 * they say otherwise; none of them waits for a guest or for storage. vCPU threads only dispatch
 * exits; devices' queues belong to the I/O thread. Nothing here is process-wide: several machines
 * fit in one process.
 */
#ifndef DUET_MACHINE_MACHINE_H
#define DUET_MACHINE_MACHINE_H

#include "base/loop.h"
#include "machine/config.h"

struct machine;
struct device;
struct json_t;
struct memory;
struct state_reader;
struct state_writer;

enum machine_state {
	MACHINE_CONFIGURED,
	MACHINE_BUILT,
	MACHINE_RUNNING,
	MACHINE_PAUSED, /* no vCPU runs, every device is at rest */
	MACHINE_ENDED,  /* likewise, unless machine_is_stuck() */
};

/* How a machine ended. */
enum machine_end {
	MACHINE_POWERED_OFF,  /* the guest's wish, or one of the owner's that it followed */
	MACHINE_RESET,        /* the guest reset itself, and was configured to end then */
	MACHINE_PANICKED,     /* the guest kernel panicked */
	MACHINE_TRIPLE_FAULT, /* a vCPU shut down */
	MACHINE_KILLED,       /* by the owner */
	MACHINE_FAILED,       /* KVM or the host failed */
	MACHINE_MOVED,        /* it goes on elsewhere */
};

/* Whose machine it is. Outlives the machine; the functions are called on the loop. */
struct machine_owner {
	struct loop *loop; /* the control thread's */
	int output;        /* where the guest's console goes; stays the owner's */
	/* May be null. In MACHINE_ENDED it may not free the machine, but end the loop. */
	void (*changed)(void *opaque, enum machine_state state);
	/* machine_type() took less than it was given; there is room again. May be null. */
	void (*room)(void *opaque);
	/* The loop's thread is about to wait for storage (@begins), which may hang, or to go
	 * through all of a guest's memory; or has done so. Signals are to be answered meanwhile all
	 * the same. Never one in the other. May be null.
	 */
	void (*waits)(void *opaque, bool begins);
	void *opaque;
};

/* @config is copied. */
int machine_new(struct machine **machine, const struct machine_config *config,
	const struct machine_owner *owner, struct error *err);
/* Up to the first instruction: memory, kernel, devices, vCPUs. After a failure it can only be
 * freed.
 */
int machine_build(struct machine *machine, struct error *err);
/* All but kernel and first instruction, which machine_restore() brings. That the kernel's file is
 * not here is told at once, and matters when the guest resets. */
int machine_build_bare(struct machine *machine, struct error *err);
/* The same, and memory begins as what file @fd has, region after region from its start on, until it
 * is written to. The file is as long as memory at least, and must not shrink; @fd stays the
 * caller's, who may close it afterwards. */
int machine_build_over(struct machine *machine, int fd, struct error *err);
/* Optional, of one that is built or bare: its threads are made and confined, so that
 * machine_start() need not. Nothing of it moves. */
int machine_ready(struct machine *machine, struct error *err);
int machine_start(struct machine *machine, struct error *err);
/* Ended, or never started: no thread of it runs. One that is stuck is left to the end of the
 * process. Null is allowed. */
void machine_free(struct machine *machine);

enum machine_state machine_state(const struct machine *machine);
/* In MACHINE_PAUSED, and not about to leave it. */
bool machine_is_paused(const struct machine *machine);

/* Asked for a pause, which comes later or not at all. Embedded, until @done was called. */
struct machine_pause {
	/* 0: paused. -ETIMEDOUT: something did not come to rest, @why says what, and the machine
	 * goes on; -ECANCELED: it was resumed or has ended before. */
	void (*done)(struct machine_pause *pause, int result, const char *why);
};
/* @limit: nanoseconds for everything to come to rest; 0: as long as it takes. One at a time.
 * -EINVAL when it neither runs nor is about to, -EALREADY when a pause is on its way. */
int machine_pause(struct machine *machine, struct machine_pause *pause, uint64_t limit);
/* Also takes back a pause that is on its way. Nothing happens to a machine that runs. */
void machine_resume(struct machine *machine);

/* Presses the power button. False: the guest does not listen to it (yet). */
bool machine_press_power(struct machine *machine);
/* Presses Ctrl-Alt-Del. -ENOTSUP: there is no keyboard; -EAGAIN: the guest does not listen to it
 * (yet), or does not run. */
int machine_press_ctrl_alt_del(struct machine *machine);
/* As the reset button. Any thread. */
void machine_ask_reset(struct machine *machine);
/* Ends it within a second, whatever storage does; what the guest was not told of need not be done.
 */
void machine_kill(struct machine *machine, const char *why);
/* Likewise, and it failed: pages of its memory will never come (memory/late.h). */
void machine_starve(struct machine *machine, const char *why);
/* How it ended and why; after MACHINE_ENDED. */
enum machine_end machine_outcome(const struct machine *machine, const char **why);
/* It has ended while the kernel does not let go of something: the process had better end too. */
bool machine_is_stuck(const struct machine *machine);
/* Somebody still reads its memory who cannot be waited for: it is stuck from now on. */
void machine_leave(struct machine *machine);

/* The process was stopped and goes on: the guest is told that it did not run. */
void machine_continued(struct machine *machine);

/* The guest's console: bytes typed, returns how many were taken; the size of the terminal. */
size_t machine_type(struct machine *machine, const void *bytes, size_t length);
void machine_resize_console(struct machine *machine, uint16_t columns, uint16_t rows);

/*
 * Saved state. save: paused; all but memory, into a writer whose closing section is the caller's.
 * -EBUSY with a reason when a device cannot be moved. restore: after machine_build_bare(), of a
 * configuration as machine_config_write() gave it, and with the guest's memory filled in (or served
 * on demand); the machine can be started then, or after a failure only be freed.
 */
/* What machine_save() would refuse now; at any time. */
int machine_check_movable(const struct machine *machine, struct error *err);
int machine_save(struct machine *machine, struct state_writer *writer, struct error *err);
int machine_restore(struct machine *machine, struct state_reader *reader, struct error *err);
/* After machine_restore(), where the machine that was saved may go on too, or be restored again:
 * the guest gets another VM generation ID, and is told so when it starts. */
int machine_renew_generation(struct machine *machine, struct error *err);
struct memory *machine_memory(struct machine *machine);
/*
 * A log of the pages that are written to, by whomever: the guest, duet, or the host's kernel on its
 * behalf (vhost hands its rings back meanwhile). start and stop: paused. take: any thread, one at a
 * time, also while it runs: one bit for each page of memory_region(memory, @region) that was
 * written since the log began or was last taken; a write that is under way is in the next one.
 */
int machine_log_start(struct machine *machine, struct error *err);
void machine_log_stop(struct machine *machine);
int machine_log_take(struct machine *machine, unsigned region, uint64_t *bitmap, struct error *err);
/* With --dirty ring: how many pages each vCPU has written to, each time as the first since the page
 * was taken or gathered; of those that machine_log_take() has seen. False: nobody knows who writes.
 * Any thread. */
bool machine_log_tells(const struct machine *machine, uint64_t written[MACHINE_CPUS_MAX]);
/* Keeps vCPU i out of the guest for @percent[i] of each 10 ms; null: none any longer. */
#define MACHINE_THROTTLE_MAX 99
void machine_throttle(struct machine *machine, const uint8_t percent[MACHINE_CPUS_MAX]);

/*
 * A machine that goes on in another process (migrate/migrate.h). hold: it stays at rest, whoever
 * resumes it; a wish to resume is remembered. leave_disks: before it is built: it opens its disks
 * without claiming them. claim and release: its disks, as block_claim() has it, all or none; at
 * rest, any thread. moved: it ends here, @why says where it went; @known: that it runs there.
 */
void machine_hold(struct machine *machine, bool held);
void machine_leave_disks(struct machine *machine);
int machine_claim_disks(struct machine *machine, struct error *err);
int machine_release_disks(struct machine *machine, struct error *err);
void machine_moved(struct machine *machine, bool known, const char *why);
/* It runs elsewhere, and what it has not written yet is written there: however it ends here, which
 * it does not yet. */
void machine_give_away(struct machine *machine);
/* It runs, and was elsewhere before: its networks are told where its addresses are now, by the host
 * (RARP, five times in a second) and by drivers that can (VIRTIO_NET_F_GUEST_ANNOUNCE). */
void machine_announce(struct machine *machine);

/*
 * What may change while the guest runs: limits of disks (iops, bw), the policies of networks. They
 * are taken from @wanted, whose id and type name the device, and are the configuration's from now
 * on; they come into force within the I/O thread's next round. Nothing else of @wanted is looked
 * at. Messages begin with the device's id.
 */
int machine_change_device(
	struct machine *machine, const struct device_config *wanted, struct error *err);
/*
 * The size of disk @id's file is looked at anew, or the file at @path (not null) takes its place
 * and is the configuration's from now on; the guest is told (virtio). See block_refresh(): requests
 * under way end at the old file. -ENOENT: no such disk; -ENOTSUP: an IDE disk; -EBUSY: the change
 * before is not through; others as for --disk path. Messages begin with the id.
 */
int machine_refresh_disk(
	struct machine *machine, const char *id, const char *path, struct error *err);
/*
 * Asks the guest to let go of function @id, which is passed through. When it has, some time later
 * or never, the machine is paused for a moment and the function taken off; its record is gone from
 * the configuration then. -ENOENT: no such device; -ENOTSUP: one of another kind; -EINVAL: the
 * machine does not run. Messages begin with the id.
 */
int machine_unplug(struct machine *machine, const char *id, struct error *err);
/* As it is configured now, with what was decided at its first start (addresses, slots, features).
 */
const struct machine_config *machine_config(const struct machine *machine);

/* The balloon, for the functions of virtio/devices.h; null: the machine has none. */
struct device *machine_balloon(const struct machine *machine);
/* The cooperation device, for the functions of virtio/devices.h; null: the machine has none. */
struct device *machine_coop(const struct machine *machine);
/*
 * All memory that is free in the guest, taken from it by a round of free page hints: the machine is
 * paused for a moment before and after it, and writes are logged meanwhile. Embedded, until @done
 * was called.
 */
struct machine_hints {
	/* 0: @bytes went back to the host. -ETIMEDOUT: the guest did not come to an end;
	 * -ECANCELED: the machine has ended; others, with @why, as pause and log have them. */
	void (*done)(struct machine_hints *hints, int result, uint64_t bytes, const char *why);
	struct machine *machine; /* private, as all that follows */
	struct machine_pause pause;
	struct loop_timer timer;
	uint64_t until;
	bool asked;
};
/* @limit: nanoseconds for the guest's round. -ENOTSUP: there is no balloon, or its driver gives no
 * hints; -EINVAL in another state than running, -EALREADY when a pause is on its way, -EBUSY when
 * writes are logged already. */
int machine_take_hints(
	struct machine *machine, struct machine_hints *hints, uint64_t limit, struct error *err);
/* Its guest's time is up now: what was hinted at so far goes, and @done is called soon, with
 * -ETIMEDOUT unless the guest was done. */
void machine_cut_hints(struct machine_hints *hints);

/*
 * On which of the host's nodes is what each vCPU uses, by what the guest last said
 * (VIRTIO_COOP_LOCALITY), in bytes: of large maps a sample. Main thread.
 */
#define MACHINE_NODES_MAX 8 /* of the host: those behind are left out */
struct machine_uses {
	uint32_t map;  /* the number of the wish that it answers; 0: there is no map */
	bool complete; /* the guest has no more to say */
	uint64_t bytes[MACHINE_CPUS_MAX][MACHINE_NODES_MAX];
};
/* -ENOENT: no cooperation device; -ENOMEM; or what the host's kernel says to move_pages(2). */
int machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err);
/*
 * What vCPU i uses by that map goes to node nodes[i], or stays when it is -1: a piece at a time, on
 * the main loop, while the guest runs. One that is on its way is replaced. As machine_uses(), and
 * -EBUSY: a passed-through function pins the memory.
 */
int machine_place(struct machine *machine, const int8_t nodes[MACHINE_CPUS_MAX], struct error *err);
/* How the last one went. */
struct machine_placing {
	bool moving;            /* it is on its way */
	uint64_t moved, failed; /* pages; those that were there already are neither */
	int error;              /* an errno by which it ended early; 0: none */
};
void machine_placing(const struct machine *machine, struct machine_placing *placing);

/*
 * Which of its memory is offered to the host's KSM, to be merged with equal pages: none, what its
 * guest names (machine/sharing.h), or all. Off when it begins, and not saved: whoever manages the
 * host says it anew where a machine has moved to.
 */
enum machine_sharing_state {
	MACHINE_SHARING_OFF,
	MACHINE_SHARING_HINTED,
	MACHINE_SHARING_BLIND,
};
struct machine_sharing {
	enum machine_sharing_state state;
	uint64_t offered;         /* bytes, now */
	unsigned runs;            /* that they are in */
	uint64_t wishes, answers; /* of the guest's, since the start */
	uint64_t taken_back;      /* bytes, since the start: all that was, whatever for */
	uint64_t written;         /* bytes among those, in runs that the guest wrote to */
	uint64_t left_out;        /* bytes of the last answer: in more runs than are offered */
	bool sees_writes;         /* the kernel told at the last answer what is merged */
	char why[256];            /* what keeps it from being done; "": nothing */
};
/* Built, paused or running. The same state again changes nothing. -ENOTSUP: no cooperation device,
 * or memory that KSM does not merge; -EBUSY: it is pinned; -EINVAL: the kernel has no KSM. */
int machine_share(struct machine *machine, enum machine_sharing_state state, struct error *err);
void machine_sharing(const struct machine *machine, struct machine_sharing *told);
/* The pages of this process that are merged, as KSM counted when it last looked at them; -ENOTSUP:
 * the kernel does not tell (Linux 5.19 does). */
int machine_merged(const struct machine *machine, uint64_t *pages);

/* The host's id of the thread that runs vCPU @index, for taskset and the like; 0: none does. */
int machine_vcpu_thread(const struct machine *machine, unsigned index);

/* By which a guest that hangs is told from one that is busy: neither grows while its kernel does
 * nothing, but for some exits that the host itself causes, one in some seconds. */
struct machine_progress {
	bool known;        /* false: the kernel does not count (Linux before 5.14) */
	uint64_t events;   /* interrupts delivered, halts, accesses to ports and registers */
	uint64_t exits;    /* for which no interrupt of the host was the reason */
	uint64_t arriving; /* pages that whoever touches them waits for (memory/late.h) */
};
/* Built, paused or running. */
void machine_progress(const struct machine *machine, struct machine_progress *progress);

/* What happened, by vCPU and cause, by device and queue. Null: no memory. The caller's. */
struct json_t *machine_stats(struct machine *machine);

#endif
