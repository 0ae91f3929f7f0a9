/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/vfio share. Not for other folders, but for unit tests and the fuzzer. */
#ifndef DUET_VFIO_INTERNAL_H
#define DUET_VFIO_INTERNAL_H

#include "base/log.h"
#include "base/loop.h"
#include "base/pci_address.h"
#include "pci/pci.h"
#include "vfio/hardware.h"
#include "vfio/vfio.h"

#define VFIO_MSI_MAX 32

/* What configuration space says of the function, read once. */
struct vfio_config {
	bool intx;    /* interrupt pin */
	unsigned msi; /* offset of the guest's capability; 0: none */
	unsigned msi_vectors;
	bool msi_wide;                 /* 64-bit addresses */
	uint32_t msix_table, msix_pba; /* offset | BAR */
	uint32_t bars[PCI_BARS];       /* the registers: only their flags count */
};

struct vfio_function;

struct vfio_window {
	struct vfio_area area;
	void *memory;
	unsigned window; /* of the hypervisor, while in place */
	bool in_place;
};

struct vfio_bar {
	struct vfio_function *owner;
	unsigned index;
	uint64_t size;
	char name[80]; /* for statistics */
	struct vfio_window windows[VFIO_AREAS_MAX];
	unsigned window_count;
	_Atomic uint64_t reads, writes; /* that came to user space */
};

struct vfio_message {
	int eventfd;
	unsigned gsi;
	bool routed, attached;
};

struct vfio_interrupts {
	enum vfio_interrupt_kind kind; /* what the hardware signals now */
	unsigned vectors;
	enum vfio_interrupt_kind best_kind; /* that was in use so far, for statistics */
	unsigned best_vectors;
	struct vfio_message messages[VFIO_MSI_MAX];
	unsigned messages_open;
	int line, unmask; /* INTx: the hardware's eventfd; the guest's EOI (in-kernel IOAPIC) */
	bool in_user;     /* the IOAPIC: line is watched, the EOI calls back */
	struct loop_watch watch;
	bool watching, leaving; /* I/O thread */
	struct loop_task task;  /* to watch and to unwatch */
	_Atomic bool wanted, posted;
	_Atomic unsigned asking; /* device_rest_ask() that awaits the answer */
	struct bus_eoi_watch eoi;
	_Atomic uint64_t intx; /* interrupts, where user space sees them */
	uint64_t failures;
};

struct vfio_function {
	struct pci_function function; /* first */
	struct vfio_hardware *hardware;
	struct vfio_container *container; /* null in tests */
	unsigned group;
	char host[PCI_ADDRESS_SIZE];
	char reason[192]; /* why it cannot be moved */
	struct device_place place;
	struct vfio_config config;
	struct vfio_bar bars[PCI_BARS];
	struct vfio_interrupts interrupts;
	struct log_guest_limit guest_log, reset_log; /* each with its own limit */
};

static inline struct vfio_function *vfio_function_of(struct pci_function *function)
{
	return (struct vfio_function *)function;
}

/* config.c: header and capabilities of the guest's function from those of the hardware. */
int vfio_config_init(struct vfio_function *vfio, struct error *err);
/* The hardware's command register follows the guest's. */
void vfio_config_command(struct vfio_function *vfio);

/* bars.c */
int vfio_bars_init(struct vfio_function *vfio, struct error *err);
void vfio_bars_free(struct vfio_function *vfio);

/* interrupts.c. sync: after the guest wrote configuration space; under the bus's lock. */
int vfio_interrupts_init(struct vfio_function *vfio, struct error *err);
void vfio_interrupts_sync(struct vfio_function *vfio);
void vfio_interrupts_off(struct vfio_function *vfio);
void vfio_interrupts_free(struct vfio_function *vfio);
int vfio_open_eventfd(int *fd);

/* intx.c. start and stop: the watch on the I/O loop, where the IOAPIC is in user space. */
int vfio_intx_init(struct vfio_function *vfio);
int vfio_intx_on(struct vfio_function *vfio);
void vfio_intx_off(struct vfio_function *vfio);
void vfio_intx_start(struct vfio_function *vfio);
void vfio_intx_quiesce(struct vfio_function *vfio, unsigned asking);

/* vfio.c: the device on any hardware, which belongs to it from now on. @container may be null. */
int vfio_new_on(struct device **device, const char *name, struct vfio_hardware *hardware,
	const char *host, struct error *err);

/* hardware.c: takes @fd, VFIO's device. */
int vfio_hardware_new(struct vfio_hardware **hardware, int fd, const char *host, struct error *err);

/* container.c: opens the function's group in the container and the function itself; its descriptor
 * is the return value. */
int vfio_container_join(
	struct vfio_container *container, unsigned group, const char *host, struct error *err);
void vfio_container_leave(
	struct vfio_container *container, unsigned group, struct bus_host *bus_host);
/* Guest memory is mapped for DMA, and KVM hears of the group. */
int vfio_container_map(struct vfio_container *container, unsigned group,
	const struct device_place *place, const char *host, struct error *err);

/* sysfs.c: checks what can be known before anything is opened; the function's IOMMU group. */
int vfio_sysfs_group(const char *host, unsigned *group, struct error *err);
/* "0000:00:1f.0 (driver lpc_ich), ...": what keeps the group from being viable. */
void vfio_sysfs_others(unsigned group, const char *host, char *text, size_t size);

#endif
