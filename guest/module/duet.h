/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * duet.ko from the inside: the device, and the parts that stand on it. A part is one mechanism in
 * a file of its own; each has its row in main.c, starts when the device is there and can do it, and
 * leaves nothing behind when it stops.
 */
#ifndef DUET_MODULE_DUET_H
#define DUET_MODULE_DUET_H

#include "../../include/duet/coop.h"

#include <linux/percpu.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/virtio.h>
#include <linux/wait.h>

struct duet;
struct pci_dev;

struct duet_part {
	const char *name;
	unsigned int feature; /* DUET_COOP_F_*, or DUET_NO_FEATURE: it needs none */
	/* -EOPNOTSUPP with a line in the log: this kernel or CPU lacks something, the other parts go
	 * on. Others fail the probe. May sleep. */
	int (*start)(struct duet *duet);
	/* No user of it is left: what can be open holds the module. May sleep. */
	void (*stop)(struct duet *duet);
	/* On `modprobe duet selftest=1`, after all parts have started: 0, or a negative errno after a
	 * line that says what is wrong. May be null. */
	int (*selftest)(struct duet *duet);
};
#define DUET_NO_FEATURE 64

extern const struct duet_part duet_hints, duet_counters, duet_heap, duet_timers, duet_locks,
	duet_tcp, duet_bench;

#define DUET_WISHES 8

struct duet {
	struct virtio_device *vdev;
	u32 version;
	u64 features;                 /* negotiated, DUET_COOP_F_* bits */
	struct duet_coop_page *pages; /* cached memory, @vcpus of them */
	u32 vcpus;
	u16 call_port;
	struct virtqueue *requests, *events;
	/* requests.c's and main.c's own parts follow here */
	struct pci_dev *pci;
	unsigned int call_bar;
	bool gone;              /* reset, or about to be: nothing new is asked of it */
	spinlock_t lock;        /* of both queues, and of @gone for those who add to them */
	wait_queue_head_t room; /* in the request queue */
	unsigned int users;     /* of duet_get() */
	wait_queue_head_t idle; /* @users is 0 */
	u64 started;            /* bits of the parts that run */
	struct duet_coop_wish wishes[DUET_WISHES]; /* the event queue's buffers */
};

static inline bool duet_has(const struct duet *duet, unsigned int feature)
{
	return feature == DUET_NO_FEATURE || (duet->features >> feature & 1);
}

/* The page of CPU @cpu (Linux's number); null for one that the device has no page for. */
struct duet_coop_page *duet_page(struct duet *duet, unsigned int cpu);
/* The APIC id by which the device knows Linux's CPU @cpu. */
u32 duet_vcpu(unsigned int cpu);

/* A fast call from the CPU that runs this, from any context but NMI; interrupts are off meanwhile.
 * @arguments: @count of at most 6; @values (4, may be null) are copies. Returns 0 or a negative errno:
 * the device's, -EPROTO for a status that is none, -ENODEV when this CPU has no page. */
int duet_call(struct duet *duet, u32 function, const u64 *arguments, unsigned int count,
	      u64 *values);

/* Batched requests: may sleep, returns when all are answered (@answers: @count of them, copies).
 * 0 or a negative errno of the whole; each answer has its own status. */
int duet_request(struct duet *duet, const struct duet_coop_request *requests,
		 struct duet_coop_answer *answers, unsigned int count);

/* The device of this machine, held (module and device stay) until duet_put(); null without one. */
struct duet *duet_get(void);
void duet_put(struct duet *duet);

#endif
