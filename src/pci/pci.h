/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conventional PCI: one bus of up to 32 devices, function 0 each, behind a host bridge with ECAM
 * and the 0xcf8/0xcfc window (PCI Local Bus 3.0, PCI Firmware 3.2 for ECAM).
 *
 * Threads: configuration accesses come from any vCPU thread and are serialised by the bus's lock;
 * a function's callbacks below run under it and must not access configuration space themselves.
 */
#ifndef DUET_PCI_PCI_H
#define DUET_PCI_PCI_H

#include "bus/device.h"

#include <pthread.h>

#define PCI_SLOTS       32
#define PCI_CONFIG_SIZE 256
#define PCI_BARS        6

enum pci_bar_kind {
	PCI_BAR_NONE,
	PCI_BAR_PORT,
	PCI_BAR_MEMORY32,
	PCI_BAR_MEMORY64, /* takes this BAR and the next */
};

struct pci_function;

struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetchable;
	uint64_t size;          /* power of two: at least 16 (memory), 4 (ports) */
	struct bus_range range; /* name, ops, device filled by the function (null ops: a BAR that is
				 * mapped by moved() alone, as a passed-through one) */
	uint64_t address;       /* where the guest put it */
	bool mapped;            /* decoding is on and the place is free */
	/* May be null. Called after it was mapped at @address and before it is unmapped: ioeventfds
	 * and memory slots follow the BAR. */
	void (*moved)(struct pci_function *function, unsigned bar, bool mapped, uint64_t address);
};

struct msix;

struct pci_function_ops {
	/* Null: pci_plain_read() and pci_plain_write(), which an own function may call. */
	uint32_t (*config_read)(struct pci_function *function, unsigned offset, unsigned size);
	void (*config_write)(
		struct pci_function *function, unsigned offset, unsigned size, uint32_t value);
	/* After the generic code handled a write to [offset, offset + size). May be null. */
	void (*config_written)(struct pci_function *function, unsigned offset, unsigned size);
};

/* Embedded in each PCI device's own struct, which starts with it (device is its first member). */
struct pci_function {
	struct device device;
	const struct pci_function_ops *pci_ops; /* may be null */
	struct pci_bus *bus;
	unsigned slot; /* device number; before pci_add(): the wanted one, 0 for any */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* mask of bits the guest may write */
	uint8_t write_1_clear[PCI_CONFIG_SIZE];
	struct pci_bar bars[PCI_BARS];
	unsigned next_capability;         /* where the next capability goes */
	struct msix *msix;                /* null without */
	uint8_t initial[PCI_CONFIG_SIZE]; /* as after pci_add(): what a reset brings back */
	_Atomic bool intx_level;          /* what the device asks for */
	bool intx_disabled;               /* by the command register; under the bus's INTx lock */
};

struct pci_ids {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits */
	uint8_t revision;
	bool intx; /* has interrupt pin A */
};

/* The bus with its host bridge in slot 0. Windows: where BARs are placed at first. */
struct pci_windows {
	uint64_t ecam; /* base of 1 MiB */
	uint64_t memory32, memory32_size;
	uint64_t memory64, memory64_size;
	uint16_t ports, ports_size;
};
int pci_bus_new(struct pci_bus **bus, const struct device_place *place,
	const struct pci_windows *windows, struct error *err);
/* After its functions were removed. */
void pci_bus_free(struct pci_bus *bus);
/* The bridge and the address register, not the functions. No vCPU runs. */
void pci_bus_reset(struct pci_bus *bus);
void pci_bus_save(struct pci_bus *bus, struct state_writer *writer);
int pci_bus_restore(struct pci_bus *bus, struct state_reader *reader, struct error *err);

/* Fills the header. To be called first by a function's create or realize. */
void pci_init(struct pci_function *function, const struct pci_ids *ids);
/* Appends a capability of @length bytes (2 header bytes included); returns its offset, or -ENOSPC.
 */
int pci_add_capability(struct pci_function *function, uint8_t id, unsigned length);
/* Describes BAR @bar; size rounded up to what PCI allows. */
void pci_describe_bar(struct pci_function *function, unsigned bar, enum pci_bar_kind kind,
	uint64_t size, const struct bus_ops *ops, void *device, const char *name);
/* Of a device that is a PCI function and not yet on the bus: the slot it wants, 0 for any. */
void pci_want_slot(struct device *device, unsigned slot);
/*
 * Puts the function on the bus: its slot or the next free one, BARs placed in the windows, decoding
 * off: an operating system keeps the places and turns decoding on once, where a device found with
 * decoding on would have it turned off and on again for each BAR it sizes (16 exits in Linux).
 * -ENOSPC when the bus or a window is full, -EBUSY when the slot is taken.
 */
int pci_add(struct pci_bus *bus, struct pci_function *function, struct error *err);
/* Unmaps its BARs, lowers its INTx and takes it off the bus; its slot stays empty. No vCPU is
 * inside its accessors any more when it returns. Not from an access. */
void pci_remove(struct pci_function *function);
/* BARs back to the first placement, command register and MSI-X as after pci_add(). */
void pci_reset(struct pci_function *function);

/* Configuration space by the masks above, for functions with accessors of their own; in an access,
 * so under the bus's lock. [@offset, @offset + @size) lies in one 32-bit word of the 256 bytes.
 * The write follows BARs, command register and MSI-X control. */
uint32_t pci_plain_read(struct pci_function *function, unsigned offset, unsigned size);
void pci_plain_write(struct pci_function *function, unsigned offset, unsigned size, uint32_t value);

/* INTx (pin A): routed to GSI pci_slot_gsi(slot). Level; masked by the command register. */
void pci_set_intx(struct pci_function *function, bool level);
unsigned pci_slot_gsi(unsigned slot);
#define PCI_INTX_GSI_FIRST 16
#define PCI_INTX_GSI_COUNT 8

/*
 * MSI-X. Each vector has an eventfd for its whole life: whoever signals it (the device, io_uring,
 * vhost, VFIO) interrupts the guest. While a vector is masked its eventfd is detached from KVM and
 * keeps the signal, so it is the pending bit; unmasking attaches it, and KVM delivers what waits.
 */
int msix_add(struct pci_function *function, unsigned vectors, unsigned bar, uint64_t size_of_bar,
	struct error *err); /* BAR of its own, table at 0, PBA behind it; before pci_add() */
/* The same where table and PBA lie inside BARs that the function describes itself; msix_read() and
 * msix_write() are its accesses to the table (offset from its begin) and msix_read_pending() to the
 * PBA. */
int msix_add_inside(struct pci_function *function, unsigned vectors, uint32_t table, uint32_t pba,
	struct error *err); /* registers of the capability: offset | BAR */
uint64_t msix_read(const struct pci_function *function, uint64_t offset, unsigned size);
void msix_write(
	const struct pci_function *function, uint64_t offset, unsigned size, uint64_t value);
uint64_t msix_read_pending(const struct pci_function *function, uint64_t offset, unsigned size);
/* Before pci_remove(), vCPUs stopped. */
void msix_free(struct pci_function *function);
bool msix_enabled(const struct pci_function *function);
unsigned msix_vectors(const struct pci_function *function);
/* Owned by the function; valid until msix_free(). -1 for a vector that does not exist. */
int msix_eventfd(const struct pci_function *function, unsigned vector);
/* Any thread: write(2) on the eventfd. A vector that does not exist is ignored. */
void msix_notify(struct pci_function *function, unsigned vector);
/* A guest could not be given a BAR's place (it lies on RAM or on another range) so often. */
uint64_t pci_misplaced_bars(const struct pci_bus *bus);

/* Configuration space, BAR addresses and MSI-X table of a function, inside the open section. */
void pci_save(const struct pci_function *function, struct state_writer *writer);
int pci_restore(struct pci_function *function, struct state_reader *reader, struct error *err);

/* For unit tests, fuzzers and the machine's own set-up: an access to configuration space. */
uint32_t pci_config_read(struct pci_bus *bus, unsigned slot, unsigned offset, unsigned size);
void pci_config_write(
	struct pci_bus *bus, unsigned slot, unsigned offset, unsigned size, uint32_t value);

#endif
