/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passthrough: a host PCI function given to the guest by VFIO (Linux Documentation/driver-api/
 * vfio.rst, type 1 IOMMU v2). Its BARs are mapped into the guest, its MSI and MSI-X go by irqfd,
 * guest memory is pinned and mapped for its DMA.
 *
 * Threads: as struct device says. Functions of one machine share one container, which the first
 * one opens and the last one closes.
 */
#ifndef DUET_VFIO_VFIO_H
#define DUET_VFIO_VFIO_H

#include "bus/device.h"

#define VFIO_GROUPS_MAX 8

/* An IOMMU group of the host, open for this machine. */
struct vfio_group {
	int fd;
	unsigned number;
	unsigned users; /* functions; 0: not open */
	bool known;     /* to KVM */
};

/* What the functions of one machine share; owned by the machine. Main thread. */
struct vfio_container {
	int fd; /* -1: not open */
	unsigned users;
	struct memory *mapped; /* for DMA, and so pinned; null: not yet */
	struct vfio_group groups[VFIO_GROUPS_MAX];
};

void vfio_container_init(struct vfio_container *container);

/* Makes the device for the host's function at @bdf ("0000:01:10.0", the domain may be left out),
 * not yet realized. @container outlives it. Messages name --device, the function and the remedy:
 * absent, bound to another driver, in use, group not viable, no interrupt remapping, memory that
 * may not be locked. */
int vfio_new(struct device **device, const char *name, struct vfio_container *container,
	const char *bdf, struct error *err);

#endif
