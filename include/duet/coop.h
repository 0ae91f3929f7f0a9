/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The cooperation device: the contract between a guest's driver and duet. docs/coop-abi.md
 * explains it. Freestanding: fixed-width integers are all it needs, from <linux/types.h> in a
 * kernel and from <stdint.h> elsewhere.
 *
 * All fields are little-endian and naturally aligned. Each side treats what the other wrote as
 * hostile: it is copied once, checked, and the copy is used.
 */
#ifndef DUET_COOP_H
#define DUET_COOP_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

/* virtio device type, provisional: the last one that PCI device ids (0x1040 + it) have room for. */
#define DUET_COOP_DEVICE_ID 63

/* Of this contract. A side speaks all versions from its oldest to its newest; the newest that both
 * speak is used, and without one the driver leaves the device alone. */
#define DUET_COOP_VERSION        1
#define DUET_COOP_VERSION_OLDEST 1

/* Feature bits (virtio 1.2, 2.2): what the device can do, and what the driver will use. */
#define DUET_COOP_F_HINTS    0 /* the guest tells of itself, in its pages and in requests */
#define DUET_COOP_F_TIME     1 /* duet_coop_host_part.away_ns */
#define DUET_COOP_F_YIELD    2 /* DUET_COOP_YIELD */
#define DUET_COOP_F_COPY     3 /* DUET_COOP_COPY */
#define DUET_COOP_F_COUNTERS 4 /* DUET_COOP_COUNTER_* */
#define DUET_COOP_F_WISHES   5 /* the event queue */

enum duet_coop_queue {
	DUET_COOP_REQUESTS, /* chains of duet_coop_request, answered by duet_coop_answer */
	DUET_COOP_EVENTS,   /* empty buffers of a duet_coop_wish each, that the device fills */
	DUET_COOP_QUEUES,
};

/* Device-specific configuration space. */
struct duet_coop_config {
	uint32_t version;        /* the newest that the device speaks */
	uint32_t version_oldest; /* the oldest */
	uint32_t driver_version; /* the one that is used: the driver writes it before DRIVER_OK */
	uint32_t vcpus;          /* pages in the shared region */
	uint32_t page_size;      /* bytes from one vCPU's page to the next */
	uint8_t call_bar;        /* the PCI BAR (ports) of fast calls */
	uint8_t reserved[3];
};

/*
 * The shared region: virtio's shared memory region of this id (virtio 1.2, 2.10; 4.1.4.7), a page
 * for each vCPU, in order of their APIC ids, which are 0 to vcpus - 1. Reads and writes of it make
 * no exit. Its parts are 1 KiB each and have one writer.
 */
#define DUET_COOP_SHM_ID    0
#define DUET_COOP_PAGE_SIZE 4096

/* Written by the device. */
struct duet_coop_host_part {
	/* Nanoseconds in which the whole machine stood still (paused, saved, moved) while its clock
	 * went on; only grows, also over a move to another process. The vCPU's own waits for a CPU
	 * are in KVM's steal time, which the guest has without an exit as well. */
	uint64_t away_ns;
	uint64_t reserved[127];
};

/* Written by the driver: hints. @sequence is odd while the rest is being written, and the reader
 * takes nothing then. Nothing here is trusted: a lie may cost the liar alone. */
struct duet_coop_guest_part {
	uint32_t sequence;
	uint32_t runnable;   /* threads of this CPU's queue that run or could; at the last change */
	uint64_t burst_ns;   /* mean time on a CPU until a thread blocks, exponentially weighted */
	uint64_t switches;   /* of threads, since the driver began */
	uint64_t updated_ns; /* of the guest's monotonic clock */
	/* Of the whole machine; in vCPU 0's page alone. */
	uint64_t working_set; /* bytes, estimated */
	uint64_t refaults;    /* pages read in again soon after they were given up; since boot */
	uint32_t pressure[6]; /* PSI, hundredths of a percent, mean of the last 10 s: memory some
			       * and full, CPU some, I/O some and full, 0 */
	uint64_t heartbeat;   /* grows whenever these are written */
	uint64_t reserved[118];
};

/* A fast call: the driver fills @function and @arguments of the vCPU's page, writes a byte of any
 * value to port (BAR call_bar) + APIC id, and finds @status and @values when the instruction is
 * done. One vCPU, one call at a time; interrupts off, or the page held otherwise. */
struct duet_coop_call_part {
	uint32_t function;
	int32_t status; /* 0, or a negative DUET_COOP_E* */
	uint64_t arguments[6];
	uint64_t values[4];
	uint64_t reserved[117];
};

struct duet_coop_page {
	struct duet_coop_host_part host;   /* 0x000 */
	struct duet_coop_guest_part guest; /* 0x400 */
	struct duet_coop_call_part call;   /* 0x800 */
	uint64_t reserved[128];            /* 0xc00 */
};

_Static_assert(sizeof(struct duet_coop_page) == DUET_COOP_PAGE_SIZE, "a page");

/* A chain of the request queue: k requests in its readable part, one behind the other, and k
 * answers in its writable part. 1 to DUET_COOP_BATCH_MAX. Answered in order. */
#define DUET_COOP_BATCH_MAX 256
struct duet_coop_request {
	uint32_t function;
	uint32_t reserved;
	uint64_t arguments[6];
};
struct duet_coop_answer {
	int32_t status;
	uint32_t reserved;
	uint64_t values[4];
};

/* Of the status. Numbers are Linux's. */
#define DUET_COOP_EPERM   1 /* the feature was not negotiated, or the host does not let it */
#define DUET_COOP_EIO     5
#define DUET_COOP_EAGAIN  11 /* not now; later it may do */
#define DUET_COOP_ENOMEM  12
#define DUET_COOP_EFAULT  14 /* an address outside the guest's memory */
#define DUET_COOP_EINVAL  22
#define DUET_COOP_ENOSPC  28
#define DUET_COOP_ENOSYS  38 /* no such function, or not by this way */
#define DUET_COOP_ENOTSUP 95

/* What can be asked: by fast call (f), by request (q), or by either. */
enum duet_coop_function {
	/* f, q. Does nothing: what a call costs. values[0]: arguments[0]. */
	DUET_COOP_NOP = 0,

	/*
	 * f. Directed yield: the caller waits for what vCPU arguments[0] (its APIC id) holds. The
	 * host lets that one run soon. arguments[1]: nanoseconds for which the caller is content to
	 * be off its CPU, at most; 0: it is not at all.
	 */
	DUET_COOP_YIELD = 1,

	/*
	 * f. Bulk copy of pages. arguments[0]: guest-physical address of a duet_coop_copy, within
	 * one page of 4 KiB; its runs are copied in order. values[0]: whole pages copied. The host
	 * may stop early (status 0 and fewer pages than asked): the driver goes on behind them.
	 * Runs do not overlap; when they do, what is copied is undefined, within the guest's
	 * memory.
	 */
	DUET_COOP_COPY = 2,

	/*
	 * f, on the vCPU whose counter it is. open: arguments[0] is a duet_coop_counter; values[0]
	 * names it on this vCPU alone. read: arguments[0] is that name; values[0] the count,
	 * values[1] and values[2] nanoseconds for which it was wanted and for which it counted.
	 * close. A counter counts while its vCPU runs; never what others do.
	 */
	DUET_COOP_COUNTER_OPEN = 3,
	DUET_COOP_COUNTER_READ = 4,
	DUET_COOP_COUNTER_CLOSE = 5,

	/*
	 * q. Runs of pages that are worth sharing (DUET_COOP_SHARE), or of memory that the threads
	 * of a vCPU use (DUET_COOP_LOCALITY): arguments[0] guest-physical address, arguments[1]
	 * pages, arguments[2] the vCPU (LOCALITY alone), arguments[3] how often it was seen used
	 * (LOCALITY), arguments[4] the number of the wish that it answers. A new number replaces
	 * what was told before. The last request of an answer has arguments[1] 0.
	 */
	DUET_COOP_SHARE = 6,
	DUET_COOP_LOCALITY = 7,

	/*
	 * f. Requests that the caller waits for, by one exit and no interrupt: arguments[0]
	 * guest-physical address of arguments[2] duet_coop_request, 1 to DUET_COOP_BATCH_MAX, and
	 * arguments[1] of room for as many duet_coop_answer, each within one range of memory. What
	 * can be asked is what the queue takes. values[0]: answers written, which are all.
	 */
	DUET_COOP_BATCH = 8,
};

/* Of DUET_COOP_COPY. */
struct duet_coop_copy_run {
	uint64_t from, to; /* guest-physical, multiples of 4096 */
	uint32_t pages;    /* of 4096 bytes */
	uint32_t reserved;
};
#define DUET_COOP_COPY_RUNS 170
struct duet_coop_copy {
	uint32_t count; /* of runs */
	uint32_t skip;  /* pages of the first run that are done already */
	uint64_t reserved;
	struct duet_coop_copy_run runs[DUET_COOP_COPY_RUNS]; /* 4080 bytes; with the head a page */
};
_Static_assert(sizeof(struct duet_coop_copy) == 4096, "a page");

/* Of DUET_COOP_COUNTER_OPEN. Numbers never change. */
enum duet_coop_counter {
	DUET_COOP_TASK_CLOCK = 0,       /* nanoseconds in which the vCPU's thread ran */
	DUET_COOP_CONTEXT_SWITCHES = 1, /* of the vCPU's thread, on the host */
	DUET_COOP_MIGRATIONS = 2,       /* of it, from one of the host's CPUs to another */
	DUET_COOP_PAGE_FAULTS = 3,      /* of it, on the host */
	DUET_COOP_CYCLES = 4,           /* from here on: in the guest, where the host has a PMU */
	DUET_COOP_INSTRUCTIONS = 5,
	DUET_COOP_CACHE_REFERENCES = 6,
	DUET_COOP_CACHE_MISSES = 7,
	DUET_COOP_BRANCHES = 8,
	DUET_COOP_BRANCH_MISSES = 9,
	DUET_COOP_COUNTERS
};

/* A buffer of the event queue. */
enum duet_coop_wish_kind {
	DUET_COOP_WISH_SHARE = 1,    /* tell which pages are worth sharing */
	DUET_COOP_WISH_LOCALITY = 2, /* tell which memory each vCPU uses */
};
struct duet_coop_wish {
	uint32_t kind;   /* others are ignored */
	uint32_t number; /* for the answer */
	uint64_t reserved[3];
};

#endif
