/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device needs from the hypervisor, as a table of functions: interrupts and doorbells.
 * The machine implements it over KVM; unit tests and fuzzers implement it in memory, so every
 * device model runs without a VM.
 *
 * Threads: all functions may be called from any thread.
 */
#ifndef DUET_BUS_HOST_H
#define DUET_BUS_HOST_H

#include <stdbool.h>
#include <stdint.h>

struct bus_host;

/* Embedded in whoever wants to hear of ends of interrupts; see eoi_watch. */
struct bus_eoi_watch {
	struct bus_eoi_watch *next; /* the host's */
	unsigned gsi;               /* a level-triggered line */
	void (*ended)(struct bus_eoi_watch *watch);
};

struct bus_host_ops {
	/* Level of a global system interrupt (IOAPIC pin). Level-triggered lines stay asserted
	 * until they are lowered. */
	void (*set_line)(struct bus_host *host, unsigned gsi, bool level);

	/* Gives an MSI a route; *@gsi names it from now on. -ENOSPC when the routes are used up. */
	int (*msi_add)(struct bus_host *host, uint64_t address, uint32_t data, unsigned *gsi);
	/* Changes the message of a route. A message that the hypervisor refuses (-EINVAL) is told
	 * here when the route is attached, else by irqfd_attach(); the route then sends nothing,
	 * and all others are as before. */
	int (*msi_change)(struct bus_host *host, unsigned gsi, uint64_t address, uint32_t data);
	void (*msi_remove)(struct bus_host *host, unsigned gsi);
	/* While attached, each write to @eventfd injects the interrupt of @gsi. */
	int (*irqfd_attach)(struct bus_host *host, unsigned gsi, int eventfd);
	void (*irqfd_detach)(struct bus_host *host, unsigned gsi, int eventfd);
	/* A level-triggered line that @eventfd asserts; the guest's EOI lowers it and signals
	 * @resample, whose owner asserts it again if need be. Detached by irqfd_detach().
	 * -ENOTSUP where the IOAPIC is in user space: then set_line() and eoi_watch() serve. */
	int (*irqfd_attach_level)(struct bus_host *host, unsigned gsi, int eventfd, int resample);
	/* Calls @watch->ended on a vCPU's thread at each EOI of its line, before a line that is
	 * still up interrupts again; it may call set_line(). -ENOTSUP where the IOAPIC is in the
	 * kernel. While no vCPU runs. */
	int (*eoi_watch)(struct bus_host *host, struct bus_eoi_watch *watch);
	void (*eoi_unwatch)(struct bus_host *host, struct bus_eoi_watch *watch);

	/* A guest write of any value and size at @address (guest-physical, or a port when @port)
	 * signals @eventfd without an exit to user space. @length 0: any size; else it must match,
	 * and with @match also the value. */
	int (*doorbell_add)(struct bus_host *host, bool port, uint64_t address, unsigned length,
		bool match, uint64_t value, int eventfd);
	void (*doorbell_remove)(struct bus_host *host, bool port, uint64_t address, unsigned length,
		bool match, uint64_t value, int eventfd);

	/* Host memory that is not guest RAM (a passed-through BAR) appears at @address; page
	 * aligned. *@window names it. */
	int (*window_add)(struct bus_host *host, uint64_t address, void *memory, uint64_t length,
		unsigned *window);
	void (*window_remove)(struct bus_host *host, unsigned window);
	/* The hypervisor learns of a VFIO group (KVM_DEV_VFIO): its DMA may be non-coherent. */
	int (*vfio_group)(struct bus_host *host, int group, bool add);
};

struct bus_host {
	const struct bus_host_ops *ops;
};

#endif
