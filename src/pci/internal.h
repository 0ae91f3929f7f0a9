/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/pci share. Locks, outermost first: bus->lock (configuration space), the
 * device's own, msix->lock, bus->intx_lock, those of the address buses. */
#ifndef DUET_PCI_INTERNAL_H
#define DUET_PCI_INTERNAL_H

#include "base/log.h"
#include "pci/pci.h"

struct pci_window {
	uint64_t next, end; /* BARs are placed upwards and never given back */
};

struct pci_bus {
	pthread_mutex_t lock; /* configuration space of all functions, and where their BARs are */
	struct device_place place;
	struct pci_function *functions[PCI_SLOTS];
	struct pci_function bridge;
	struct pci_window memory32, memory64, ports;
	uint32_t address; /* port 0xcf8 */
	struct bus_range address_range, data_range, ecam_range;
	_Atomic uint64_t misplaced;
	struct log_guest_limit guest_log;
	pthread_mutex_t intx_lock;
	uint32_t intx_asserted[PCI_INTX_GSI_COUNT]; /* slots that hold each line */
};

/* config.c; under the bus's lock */
void pci_update_bars(struct pci_function *function);
/* The ports or the addresses, where @bar lives. */
struct bus *pci_bar_bus(const struct pci_function *function, const struct pci_bar *bar);

/* host.c; any context */
int pci_host_map(struct pci_bus *bus, const struct pci_windows *windows, struct error *err);

/* intx.c; any thread */
void pci_update_intx(struct pci_function *function, bool disabled);

/* msix.c */
void msix_control_written(struct pci_function *function);
void msix_reset(struct pci_function *function);
void msix_save(struct pci_function *function, struct state_writer *writer);
int msix_restore(struct pci_function *function, struct state_reader *reader);

#endif
