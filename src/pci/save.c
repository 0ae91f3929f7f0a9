/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "pci/internal.h"
#include "pci/registers.h"

#include <errno.h>
#include <string.h>

void pci_save(const struct pci_function *function, struct state_writer *writer)
{
	struct pci_function *locked = (struct pci_function *)function;

	pthread_mutex_lock(&function->bus->lock);
	state_put_bytes(writer, function->config, PCI_CONFIG_SIZE);
	state_put_bool(writer, atomic_load(&function->intx_level));
	pthread_mutex_unlock(&function->bus->lock);
	state_put_bool(writer, function->msix != NULL);
	if (function->msix)
		msix_save(locked, writer);
}

/* Only what a guest may write is taken over; the rest is as this machine made the device. */
static void take_over(struct pci_function *function, const uint8_t *config)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t mask = function->writable[i] | function->write_1_clear[i];

		function->config[i] = (uint8_t)((function->config[i] & ~mask) | (config[i] & mask));
	}
}

static int check_same(const struct pci_function *function, const uint8_t *config, struct error *err)
{
	if (memcmp(config, function->config, 4) == 0)
		return 0;
	return error_set(err, EINVAL,
		"%s: the saved state is of another PCI device (%04x:%04x); give the same devices "
		"in the same order",
		function->device.name, load_le16(config), load_le16(config + PCI_REG_DEVICE));
}

int pci_restore(struct pci_function *function, struct state_reader *reader, struct error *err)
{
	uint8_t config[PCI_CONFIG_SIZE];
	bool intx;
	int ret;

	state_get_bytes(reader, config, sizeof(config));
	intx = state_get_bool(reader);
	if (state_get_bool(reader) != (function->msix != NULL) || reader->failed)
		return error_set(
			err, EINVAL, "%s: saved PCI state is damaged", function->device.name);
	ret = check_same(function, config, err);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&function->bus->lock);
	if (function->msix && msix_restore(function, reader) < 0)
		ret = error_set(err, EINVAL, "%s: saved with another number of MSI-X vectors",
			function->device.name);
	take_over(function, config);
	pci_update_bars(function);
	pci_update_intx(
		function, load_le16(function->config + PCI_REG_COMMAND) & PCI_CMD_INTX_DISABLE);
	if (function->msix)
		msix_control_written(function);
	pthread_mutex_unlock(&function->bus->lock);
	pci_set_intx(function, intx);
	return ret;
}
