/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI function of the host as a table of functions. hardware.c implements it over VFIO; unit
 * tests and the fuzzer implement it in memory, so all of the emulation runs without hardware.
 *
 * Threads: config_*, region_* and set_irqs from the main thread and vCPU threads, the last one
 * never twice at a time; unmask from any; the others from the main thread.
 */
#ifndef DUET_VFIO_HARDWARE_H
#define DUET_VFIO_HARDWARE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define VFIO_AREAS_MAX 16

enum vfio_interrupt_kind {
	VFIO_INTERRUPT_NONE,
	VFIO_INTERRUPT_INTX,
	VFIO_INTERRUPT_MSI,
	VFIO_INTERRUPT_MSIX,
};

struct vfio_area {
	uint64_t offset, length; /* in the BAR */
};

struct vfio_bar_info {
	uint64_t size; /* 0: there is none */
	struct vfio_area areas[VFIO_AREAS_MAX];
	unsigned area_count; /* that may be mapped */
};

struct vfio_hardware;

struct vfio_hardware_ops {
	/* Little-endian values of @size 1, 2 or 4; all or nothing, negative errno. */
	int (*config_read)(
		struct vfio_hardware *hardware, unsigned offset, void *to, unsigned size);
	int (*config_write)(
		struct vfio_hardware *hardware, unsigned offset, const void *from, unsigned size);
	int (*bar_info)(struct vfio_hardware *hardware, unsigned bar, struct vfio_bar_info *info);
	/* @size also 8. */
	int (*bar_read)(struct vfio_hardware *hardware, unsigned bar, uint64_t offset, void *to,
		unsigned size);
	int (*bar_write)(struct vfio_hardware *hardware, unsigned bar, uint64_t offset,
		const void *from, unsigned size);
	/* Null with errno set on failure. Undone by unmap. */
	void *(*map)(struct vfio_hardware *hardware, unsigned bar, const struct vfio_area *area);
	void (*unmap)(struct vfio_hardware *hardware, void *memory, uint64_t length);
	/* Interrupts of @kind signal @eventfds; @count 0 switches them off. INTx masks itself when
	 * it fires. Positive: nothing was set up, as the host has only so many vectors left. */
	int (*set_irqs)(struct vfio_hardware *hardware, enum vfio_interrupt_kind kind,
		const int *eventfds, unsigned count);
	/* INTx: now (-1), or at each signal of @eventfd. */
	int (*unmask)(struct vfio_hardware *hardware, int eventfd);
	int (*reset)(struct vfio_hardware *hardware); /* -ENOTSUP: cannot be reset */
	void (*close)(struct vfio_hardware *hardware);
};

struct vfio_hardware {
	const struct vfio_hardware_ops *ops;
};

#endif
