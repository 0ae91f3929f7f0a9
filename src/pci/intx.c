/* SPDX-License-Identifier: Apache-2.0 */
/* INTx: level-triggered lines shared by the slots (PCI Local Bus 3.0, 2.2.6). */
#include "pci/internal.h"

unsigned pci_slot_gsi(unsigned slot)
{
	return PCI_INTX_GSI_FIRST + slot % PCI_INTX_GSI_COUNT;
}

/* The lock is kept while the line is set, so that the last level set is the right one. */
static void drive_locked(struct pci_function *function)
{
	struct pci_bus *bus = function->bus;
	uint32_t *asserted = &bus->intx_asserted[function->slot % PCI_INTX_GSI_COUNT];
	uint32_t before = *asserted, slot = 1U << function->slot;
	bool level = atomic_load(&function->intx_level) && !function->intx_disabled;
	struct bus_host *host = bus->place.host;

	*asserted = level ? before | slot : before & ~slot;
	if (!before != !*asserted)
		host->ops->set_line(host, pci_slot_gsi(function->slot), *asserted != 0);
}

void pci_set_intx(struct pci_function *function, bool level)
{
	struct pci_bus *bus = function->bus;

	/* Most calls change nothing: a device that lowers a line it never raised. */
	if (!bus || atomic_exchange(&function->intx_level, level) == level)
		return;
	pthread_mutex_lock(&bus->intx_lock);
	drive_locked(function);
	pthread_mutex_unlock(&bus->intx_lock);
}

void pci_update_intx(struct pci_function *function, bool disabled)
{
	pthread_mutex_lock(&function->bus->intx_lock);
	function->intx_disabled = disabled;
	drive_locked(function);
	pthread_mutex_unlock(&function->bus->intx_lock);
}
