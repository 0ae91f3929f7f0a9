/* SPDX-License-Identifier: Apache-2.0 */
/* The device: a host function's life in the guest. */
#include "vfio/vfio.h"

#include "base/checked.h"
#include "pci/registers.h"
#include "vfio/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vfio_function *vfio_of(struct device *device)
{
	return (struct vfio_function *)device;
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	struct vfio_function *vfio = vfio_function_of(function);

	if (offset <= PCI_REG_COMMAND + 1 && PCI_REG_COMMAND < offset + size)
		vfio_config_command(vfio);
	vfio_interrupts_sync(vfio);
}

static const struct pci_function_ops pci_ops = {.config_written = config_written};

/* The hardware as nobody had ever used it. One that cannot be reset keeps what it had. */
static void reset_hardware(struct vfio_function *vfio)
{
	int ret = vfio->hardware->ops->reset(vfio->hardware);

	if (ret == -ENOTSUP)
		log_info("%s: the host's function %s cannot be reset", vfio->function.device.name,
			vfio->host);
	else if (ret < 0)
		log_guest(&vfio->reset_log, vfio->function.device.name,
			"the reset of the host's function %s failed: %s", vfio->host,
			strerror(-ret));
	vfio_config_command(vfio);
}

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct vfio_function *vfio = vfio_of(device);
	int ret = 0;

	vfio->place = *place;
	if (vfio->container)
		ret = vfio_container_map(vfio->container, vfio->group, place, vfio->host, err);
	if (ret == 0)
		ret = vfio_config_init(vfio, err);
	if (ret == 0)
		ret = vfio_bars_init(vfio, err);
	if (ret == 0)
		ret = pci_add(place->pci, &vfio->function, err);
	if (ret == 0)
		ret = vfio_interrupts_init(vfio, err);
	if (ret == 0)
		reset_hardware(vfio);
	return ret;
}

static void reset(struct device *device)
{
	struct vfio_function *vfio = vfio_of(device);

	/* No DMA and no interrupt of its former life reaches the new one. */
	vfio_interrupts_off(vfio);
	pci_reset(&vfio->function);
	reset_hardware(vfio);
}

static int start(struct device *device, struct error *err)
{
	(void)err;
	vfio_intx_start(vfio_of(device));
	return 0;
}

/* The hardware itself goes on: its DMA ends with its reset, or with the machine. */
static void quiesce(struct device *device, unsigned asking, bool drop)
{
	vfio_intx_quiesce(vfio_of(device), asking);
}

static const char *unmovable(const struct device *device)
{
	return ((const struct vfio_function *)device)->reason;
}

/* Never called: see unmovable. */
static void save(struct device *device, struct state_writer *writer)
{
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	return error_set(err, ENOTSUP, "%s", vfio_of(device)->reason);
}

static const char *const kinds[] = {
	[VFIO_INTERRUPT_NONE] = "none",
	[VFIO_INTERRUPT_INTX] = "intx",
	[VFIO_INTERRUPT_MSI] = "msi",
	[VFIO_INTERRUPT_MSIX] = "msix",
};

/* Interrupts by MSI and MSI-X never pass here: the guest's own /proc/interrupts counts them. */
static void stats(struct device *device, struct stats_sink *sink)
{
	struct vfio_function *vfio = vfio_of(device);
	uint64_t reads = 0, writes = 0, mapped = 0;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct vfio_bar *bar = &vfio->bars[i];

		reads += atomic_load_explicit(&bar->reads, memory_order_relaxed);
		writes += atomic_load_explicit(&bar->writes, memory_order_relaxed);
		for (unsigned window = 0; window < bar->window_count; window++)
			mapped += bar->windows[window].area.length;
	}
	sink->text(sink, NULL, "host", vfio->host);
	sink->count(sink, NULL, "group", vfio->group);
	sink->text(sink, NULL, "interrupt_kind", kinds[vfio->interrupts.best_kind]);
	sink->count(sink, NULL, "vectors", vfio->interrupts.best_vectors);
	sink->count(sink, NULL, "interrupt_failures", vfio->interrupts.failures);
	sink->count(sink, NULL, "intx",
		atomic_load_explicit(&vfio->interrupts.intx, memory_order_relaxed));
	sink->count(sink, NULL, "trapped_reads", reads);
	sink->count(sink, NULL, "trapped_writes", writes);
	sink->count(sink, NULL, "mapped_bytes", mapped);
}

static void free_device(struct device *device)
{
	struct vfio_function *vfio = vfio_of(device);
	struct bus_host *host = vfio->place.host;

	vfio_interrupts_free(vfio);
	pci_remove(&vfio->function);
	vfio_bars_free(vfio);
	vfio->hardware->ops->close(vfio->hardware);
	if (vfio->container)
		vfio_container_leave(vfio->container, vfio->group, host);
	free(vfio);
}

static const struct device_ops device_ops = {
	.type = "vfio",
	.realize = realize,
	.reset = reset,
	.start = start,
	.quiesce = quiesce,
	.state_version = 1,
	.save = save,
	.restore = restore,
	.unmovable = unmovable,
	.stats = stats,
	.free = free_device,
};

int vfio_new_on(struct device **device, const char *name, struct vfio_hardware *hardware,
	const char *host, struct error *err)
{
	struct vfio_function *vfio = calloc(1, sizeof(*vfio));

	if (!vfio) {
		hardware->ops->close(hardware);
		return error_errno(err, ENOMEM, "--device vfio,host=%s", host);
	}
	vfio->hardware = hardware;
	vfio->function.device.ops = &device_ops;
	vfio->function.pci_ops = &pci_ops;
	vfio->interrupts.line = vfio->interrupts.unmask = -1;
	vfio->interrupts.watch.fd = -1;
	snprintf(vfio->host, sizeof(vfio->host), "%s", host);
	snprintf(vfio->function.device.name, sizeof(vfio->function.device.name), "%s", name);
	snprintf(vfio->reason, sizeof(vfio->reason),
		"--device vfio,host=%s: what it holds is in the hardware and cannot be saved; "
		"have it unplugged first (duet ctl SOCK unplug, or migrate --unplug)",
		vfio->host);
	*device = &vfio->function.device;
	return 0;
}

static int open_function(struct device **device, const char *name, struct vfio_container *container,
	unsigned group, const char *host, struct error *err)
{
	struct vfio_hardware *hardware;
	int ret = vfio_container_join(container, group, host, err);

	if (ret < 0)
		return ret;
	ret = vfio_hardware_new(&hardware, ret, host, err);
	if (ret == 0)
		ret = vfio_new_on(device, name, hardware, host, err);
	if (ret < 0)
		vfio_container_leave(container, group, NULL);
	return ret;
}

int vfio_new(struct device **device, const char *name, struct vfio_container *container,
	const char *bdf, struct error *err)
{
	char host[PCI_ADDRESS_SIZE];
	struct vfio_function *vfio;
	unsigned group;
	int ret;

	if (pci_address_parse(bdf, host) < 0)
		return error_set(err, EINVAL,
			"--device vfio,host=%s: no PCI address; write host=0000:01:10.0, for "
			"example (lspci -D shows them)",
			bdf);
	ret = vfio_sysfs_group(host, &group, err);
	if (ret == 0)
		ret = open_function(device, name, container, group, host, err);
	if (ret < 0)
		return ret;
	vfio = vfio_of(*device);
	vfio->container = container;
	vfio->group = group;
	return 0;
}
