/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio device models. Each function makes a struct device (virtio-pci around the model), not
 * yet realized, named @name. Back ends handed in belong to the device, even when it fails. */
#ifndef DUET_VIRTIO_DEVICES_H
#define DUET_VIRTIO_DEVICES_H

#include "backend/block.h"
#include "backend/net.h"
#include "backend/vsock.h"
#include "base/bucket.h"
#include "bus/device.h"

struct virtio_block_options {
	struct block *block;
	unsigned queues; /* 1 to 64 */
	bool packed;     /* offer packed rings */
	bool poll;       /* look at the rings instead of waiting for kicks */
	char serial[21]; /* GET_ID, null-terminated */
};
int virtio_block_new(struct device **device, const char *name,
	const struct virtio_block_options *options, struct error *err);

struct virtio_net_options {
	struct net *net;
	uint8_t mac[6];
	uint16_t mtu; /* 0: not offered */
	unsigned queue_pairs;
	bool packed;
	bool offloads;
	bool standby; /* of another function with the same MAC, by the guest's net_failover */
	bool poll;    /* look at the rings instead of waiting for kicks */
	bool vhost;   /* the host kernel's vhost-net serves the rings (tap, split rings) */
};
int virtio_net_new(struct device **device, const char *name,
	const struct virtio_net_options *options, struct error *err);
/* Its driver, if it can, tells the network where its addresses are. Main thread; never in a
 * callback of the device. */
void virtio_net_announce(struct device *device);

/* A console port on two descriptors: @input may be -1. The device does not own them. */
struct virtio_console_options {
	int input, output;
	/* A new driver gets no input before it has said something and then nothing for so long, or
	 * nothing at all for a few times as long; 0: it gets it at once. */
	unsigned quiet_ms;
	bool packed;
};
int virtio_console_new(struct device **device, const char *name,
	const struct virtio_console_options *options, struct error *err);
/* Main thread: the terminal's size changed (SIGWINCH). */
void virtio_console_resize(struct device *device, uint16_t columns, uint16_t rows);
/* Main thread, at rest, before the end: output that waits in the device is written out, with a
 * little patience, or with @hurry with hardly any. */
void virtio_console_flush(struct device *device, bool hurry);
/* Main thread: bytes for the guest; returns how many were taken. */
size_t virtio_console_input(struct device *device, const void *bytes, size_t length);
/* Before it is realized: @call(@opaque) on @loop, the main thread's, when virtio_console_input()
 * took less than it was given and the guest has taken half of what waited. */
void virtio_console_set_room(
	struct device *device, struct loop *loop, void (*call)(void *opaque), void *opaque);

/* Entropy from getrandom(2), never blocking the guest's other devices. */
int virtio_entropy_new(struct device **device, const char *name, bool packed, struct error *err);
/* Before it is realized: its requests wait for tokens, one each and those of their bytes. Without
 * this nothing is looked at for it. */
void virtio_entropy_limit(struct device *device, const struct bucket_limits *limits);

/* Memory that the guest does without, given back to the host (virtio 1.2, 5.5). Nothing may be
 * pinned: memory_discard() says no then. All of what follows is for the main thread, realized. */
struct virtio_balloon_options {
	uint64_t size;       /* bytes to take from the guest at first */
	unsigned interval;   /* seconds between statistics; 0: only the driver's first */
	bool deflate_on_oom; /* the guest may have some back rather than kill a process */
	bool reporting;      /* free pages are reported as they become free */
	bool hinting;        /* ... are hinted at, when they are asked for */
	bool packed;
};
int virtio_balloon_new(struct device **device, const char *name,
	const struct virtio_balloon_options *options, struct error *err);
/* What the balloon shall hold from now on; the driver follows when and as far as it can. In whole
 * pages of 4 KiB. -EINVAL: more than there is. */
int virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err);
/* As in the options. Another interval asks at once. */
void virtio_balloon_set_interval(struct device *device, unsigned seconds);

/* By the tags of 5.5.6.4 and of Linux since 6.12: 0 swapped in, 1 swapped out (bytes), 2 major and
 * 3 minor faults, 4 free, 5 total, 6 available and 7 cached memory (bytes), 8 huge pages given and
 * 9 refused, 10 kills for want of memory, 11 stalled allocations, pages 12 scanned and 14 reclaimed
 * in the background, 13 and 15 by who needed them. */
#define VIRTIO_BALLOON_TAGS 16
struct virtio_balloon_statistics {
	uint64_t target, actual; /* bytes; actual: as the driver says */
	unsigned interval;
	uint64_t answers; /* of the driver, since the start */
	uint32_t present; /* bit for each tag of the last one */
	uint64_t values[VIRTIO_BALLOON_TAGS];
};
void virtio_balloon_statistics(struct device *device, struct virtio_balloon_statistics *statistics);

/*
 * Free page hints (5.5.6.5). start: a new round, from which on writes to memory must be logged.
 * The driver holds what it hints at until stop. Once the round is complete (or before), with the
 * machine paused, give_back takes from the guest those pages that it has not written to since the
 * start, as @written says, and returns how many bytes they are; then stop.
 */
struct virtio_balloon_hints {
	uint32_t host_command, guest_command; /* 0 stopped, 1 done, else the round's */
	bool complete;                        /* the driver has no more */
	uint64_t bytes;
};
/* -ENOTSUP: not this driver. */
int virtio_balloon_hint_start(struct device *device, struct error *err);
void virtio_balloon_hint_stop(struct device *device);
void virtio_balloon_hint_status(struct device *device, struct virtio_balloon_hints *status);
uint64_t virtio_balloon_hints_give_back(
	struct device *device, bool (*written)(void *opaque, gpa_t page), void *opaque);

/* Streams between programs of the guest and of the host (virtio 1.2, 5.10). */
struct virtio_vsock_options {
	struct vsock_host *host;
	uint32_t cid;      /* the guest's: 3 to 2^32 - 1; the host's is 2 */
	uint64_t patience; /* nanoseconds for one side to answer; 0: eight seconds */
	bool packed;
};
int virtio_vsock_new(struct device **device, const char *name,
	const struct virtio_vsock_options *options, struct error *err);

/*
 * The cooperation device (duet/coop.h, docs/coop-abi.md): what guest and host have to say to each
 * other. What it needs of the host is a table of functions; for one that is null the device does
 * not offer the feature. They are called on the thread of vCPU @vcpu, which is out of the guest for
 * as long, and return 0 or a negative errno, of which the guest sees those that the contract has.
 */
struct virtio_coop_host;
struct virtio_coop_host_ops {
	/* Whether the calling thread is that vCPU's: a guest may ring for another vCPU than the one
	 * that it runs on, and must not get at what is that one's. Null: it is. */
	bool (*is_current)(struct virtio_coop_host *host, unsigned vcpu);
	/* DUET_COOP_YIELD: vCPU @holder is to run soon; @waiter need not for @patience_ns. */
	int (*yield)(struct virtio_coop_host *host, unsigned waiter, unsigned holder,
		uint64_t patience_ns);
	/* DUET_COOP_COUNTER_*: a duet_coop_counter of this vCPU, by a name that is never 0 and
	 * never used again; saved and restored with the host. @values: the count, and the
	 * nanoseconds for which it was wanted and counted; may be written when it fails. close:
	 * also from another thread, when no vCPU runs; of a name that is none: nothing. All three
	 * or none. */
	int (*counter_open)(
		struct virtio_coop_host *host, unsigned vcpu, unsigned counter, uint64_t *name);
	int (*counter_read)(
		struct virtio_coop_host *host, unsigned vcpu, uint64_t name, uint64_t values[3]);
	void (*counter_close)(struct virtio_coop_host *host, unsigned vcpu, uint64_t name);
	/* The guest is about to use @length bytes (whole pages) of its memory at @gpa: they are
	 * mapped for it, as far as that can be. Null: it faults them in. */
	void (*map_ahead)(
		struct virtio_coop_host *host, unsigned vcpu, uint64_t gpa, uint64_t length);
};
struct virtio_coop_host {
	const struct virtio_coop_host_ops *ops;
};

struct virtio_coop_options {
	struct virtio_coop_host *host; /* outlives the device */
	unsigned vcpus;                /* 1 to 256 */
	bool hints, time, yield, copy, counters;
	bool packed;
};
int virtio_coop_new(struct device **device, const char *name,
	const struct virtio_coop_options *options, struct error *err);

/* What follows is for the main thread, realized. */

/* The machine has come to rest, and goes on, at @clock_ns of the guest's own clock (kvmclock). At
 * rest. Of several stops without going on the first one counts; saved state remembers it. */
void virtio_coop_stopped(struct device *device, uint64_t clock_ns);
void virtio_coop_goes_on(struct device *device, uint64_t clock_ns);
/* It has come to rest and not gone on since. */
bool virtio_coop_stands(struct device *device);

/* What the guest says of a vCPU. */
struct virtio_coop_vcpu_hints {
	bool valid; /* else the guest was writing, or never did */
	uint32_t runnable;
	uint64_t burst_ns, switches, updated_ns;
};
#define VIRTIO_COOP_PRESSURES 5
struct virtio_coop_machine_hints {
	bool valid;
	uint64_t working_set, refaults, heartbeat;
	/* Hundredths of a percent: memory some and full, CPU some, I/O some and full. */
	uint32_t pressure[VIRTIO_COOP_PRESSURES];
};
/* Copies, as the guest wrote them: nothing of it is to be believed. False: no driver that gives
 * hints is there. @vcpu: up to the device's number of them. */
bool virtio_coop_vcpu_hints(
	struct device *device, unsigned vcpu, struct virtio_coop_vcpu_hints *hints);
bool virtio_coop_machine_hints(struct device *device, struct virtio_coop_machine_hints *hints);
/* How long the machine stood still altogether, as the guest reads it. */
uint64_t virtio_coop_away(struct device *device);

/* Runs of the guest's pages, which it tells of when it is asked. */
enum virtio_coop_kind {
	VIRTIO_COOP_SHARE,    /* worth sharing with other guests */
	VIRTIO_COOP_LOCALITY, /* used by the threads of a vCPU */
	VIRTIO_COOP_KINDS,
};
/* Of both kinds together. */
#define VIRTIO_COOP_RUNS_MAX 65536U
struct virtio_coop_run {
	uint64_t gpa, pages; /* within one region of memory */
	uint32_t vcpu;       /* locality: below the device's number; else 0 */
	uint64_t used;       /* locality: how often it was seen used; else 0 */
};
struct virtio_coop_runs {
	uint32_t wished;  /* number of the last wish; 0: there was none */
	uint32_t told;    /* of the one that the runs answer */
	bool complete;    /* the guest has no more for it */
	unsigned count;   /* of runs */
	uint64_t pages;   /* in all of them; those told twice count twice */
	uint64_t refused; /* since the start: runs that were not taken */
};
/* The guest is to tell anew. -ENOTSUP: no driver that takes wishes is there. */
int virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err);
void virtio_coop_runs(
	struct device *device, enum virtio_coop_kind kind, struct virtio_coop_runs *runs);
/* Each run, in the guest's order; @visit must not call the device. */
void virtio_coop_each_run(struct device *device, enum virtio_coop_kind kind,
	void (*visit)(void *opaque, const struct virtio_coop_run *run), void *opaque);

#endif
