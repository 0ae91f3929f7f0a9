/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INTx masks itself when it fires, and is unmasked at the guest's EOI. With the IOAPIC in the
 * kernel all of that stays there. With the IOAPIC in user space the eventfd is watched on the I/O
 * loop, and the EOI, which comes through user space anyway, lowers the line before it unmasks.
 */
#include "base/checked.h"
#include "vfio/internal.h"

#include <errno.h>
#include <poll.h>

static struct bus_host *host_of(const struct vfio_function *vfio)
{
	return vfio->place.host;
}

/* I/O thread. */
static void line_ready(struct loop_watch *watch, uint32_t events)
{
	struct vfio_function *vfio = container_of(watch, struct vfio_function, interrupts.watch);

	atomic_fetch_add_explicit(&vfio->interrupts.intx, 1, memory_order_relaxed);
	pci_set_intx(&vfio->function, true);
}

/* vCPU thread. The line is shared: only who raised it has masked itself. */
static void line_ended(struct bus_eoi_watch *watch)
{
	struct vfio_function *vfio = container_of(watch, struct vfio_function, interrupts.eoi);

	if (!atomic_load(&vfio->function.intx_level))
		return;
	pci_set_intx(&vfio->function, false);
	vfio->hardware->ops->unmask(vfio->hardware, -1);
}

int vfio_intx_on(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	struct bus_host *host = host_of(vfio);
	unsigned gsi = pci_slot_gsi(vfio->function.slot);
	int ret = 0;

	if (!interrupts->in_user)
		ret = host->ops->irqfd_attach_level(
			host, gsi, interrupts->line, interrupts->unmask);
	if (ret == 0)
		ret = vfio->hardware->ops->set_irqs(
			vfio->hardware, VFIO_INTERRUPT_INTX, &interrupts->line, 1);
	if (ret == 0 && !interrupts->in_user)
		ret = vfio->hardware->ops->unmask(vfio->hardware, interrupts->unmask);
	return ret;
}

void vfio_intx_off(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	struct bus_host *host = host_of(vfio);

	if (interrupts->in_user)
		pci_set_intx(&vfio->function, false);
	else
		host->ops->irqfd_detach(host, pci_slot_gsi(vfio->function.slot), interrupts->line);
}

static void approach(struct vfio_function *vfio);

static void line_unwatched(struct loop_watch *watch)
{
	struct vfio_interrupts *interrupts = container_of(watch, struct vfio_interrupts, watch);

	interrupts->watching = interrupts->leaving = false;
	approach(container_of(interrupts, struct vfio_function, interrupts));
}

/* I/O thread: the next step towards what is wanted. */
static void approach(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	/* Before what is wanted: an asking is never answered by what another wanted. */
	const unsigned asking = atomic_load(&interrupts->asking);
	const bool wanted = atomic_load(&interrupts->wanted);

	if (wanted && !interrupts->watching) {
		interrupts->watching = true;
		loop_watch(
			vfio->place.io, &interrupts->watch, interrupts->line, POLLIN, line_ready);
	} else if (!wanted && interrupts->watching && !interrupts->leaving) {
		interrupts->leaving = true;
		loop_unwatch(&interrupts->watch, line_unwatched);
	} else if (!wanted && !interrupts->watching && !atomic_load(&interrupts->posted)) {
		/* A step that is posted answers instead: after an answer nothing may touch the
		 * device. */
		device_at_rest(&vfio->function.device, asking);
	}
}

static void follow(struct loop_task *task)
{
	struct vfio_interrupts *interrupts = container_of(task, struct vfio_interrupts, task);

	/* Before what is wanted is read: who changes it later posts anew. */
	atomic_store(&interrupts->posted, false);
	approach(container_of(interrupts, struct vfio_function, interrupts));
}

static void want(struct vfio_function *vfio, bool wanted)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;

	atomic_store(&interrupts->wanted, wanted);
	if (!atomic_exchange(&interrupts->posted, true))
		loop_post(vfio->place.io, &interrupts->task);
}

void vfio_intx_start(struct vfio_function *vfio)
{
	if (vfio->interrupts.in_user)
		want(vfio, true);
}

void vfio_intx_quiesce(struct vfio_function *vfio, unsigned asking)
{
	atomic_store(&vfio->interrupts.asking, asking);
	if (vfio->interrupts.in_user)
		want(vfio, false);
	else
		device_at_rest(&vfio->function.device, asking);
}

int vfio_intx_init(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	struct bus_host *host = host_of(vfio);
	int ret = vfio_open_eventfd(&interrupts->line);

	if (ret == 0)
		ret = vfio_open_eventfd(&interrupts->unmask);
	if (ret < 0)
		return ret;
	interrupts->task.run = follow;
	interrupts->eoi.gsi = pci_slot_gsi(vfio->function.slot);
	interrupts->eoi.ended = line_ended;
	ret = host->ops->eoi_watch(host, &interrupts->eoi);
	interrupts->in_user = ret == 0;
	return ret == -ENOTSUP ? 0 : ret;
}
