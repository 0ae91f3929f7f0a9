/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: the hardware's handler in the host kernel signals an eventfd, which KVM turns into
 * the guest's interrupt. MSI-X has eventfds of its own (msix.c), MSI has the ones here, INTx is in
 * intx.c.
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "pci/registers.h"
#include "vfio/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MSI_CONTROL       2
#define MSI_ENABLE        0x0001
#define MSI_ENABLED_SHIFT 4
#define MSI_ENABLED_MASK  7U
#define MSI_ADDRESS       4
#define MSI_ADDRESS_HIGH  8

static struct bus_host *host_of(const struct vfio_function *vfio)
{
	return vfio->place.host;
}

static void failed(struct vfio_function *vfio, const char *what, int ret)
{
	vfio->interrupts.failures++;
	log_guest(&vfio->guest_log, vfio->function.device.name, "%s: %s", what, strerror(-ret));
}

/* -ENOSPC when the host has too few vectors: the first of them work, the others stay silent. */
static int set_messages(struct vfio_function *vfio, enum vfio_interrupt_kind kind,
	const int *eventfds, unsigned count)
{
	const struct vfio_hardware_ops *ops = vfio->hardware->ops;
	int ret = ops->set_irqs(vfio->hardware, kind, eventfds, count);

	if (ret <= 0)
		return ret;
	if ((unsigned)ret < count)
		ops->set_irqs(vfio->hardware, kind, eventfds, (unsigned)ret);
	return -ENOSPC;
}

/* MSI */

/* How many the guest uses; 0 while MSI is off. */
static unsigned msi_enabled(const struct vfio_function *vfio)
{
	const struct vfio_config *config = &vfio->config;
	uint16_t control;
	unsigned count;

	if (!config->msi)
		return 0;
	control = load_le16(vfio->function.config + config->msi + MSI_CONTROL);
	count = 1U << (control >> MSI_ENABLED_SHIFT & MSI_ENABLED_MASK);
	if (!(control & MSI_ENABLE))
		return 0;
	return count < config->msi_vectors ? count : config->msi_vectors;
}

static void detach(struct vfio_function *vfio, struct vfio_message *message)
{
	struct bus_host *host = host_of(vfio);

	if (message->attached)
		host->ops->irqfd_detach(host, message->gsi, message->eventfd);
	if (message->routed)
		host->ops->msi_remove(host, message->gsi);
	message->attached = message->routed = false;
}

static int route(struct vfio_function *vfio, unsigned index)
{
	const uint8_t *capability = vfio->function.config + vfio->config.msi;
	struct vfio_message *message = &vfio->interrupts.messages[index];
	struct bus_host *host = host_of(vfio);
	bool wide = vfio->config.msi_wide;
	uint64_t address = load_le32(capability + MSI_ADDRESS);
	/* The hardware puts the vector's number into the low bits (6.8.1.6). */
	uint32_t data = load_le16(capability + (wide ? 12 : 8)) | index;
	int ret;

	if (wide)
		address |= (uint64_t)load_le32(capability + MSI_ADDRESS_HIGH) << 32;
	if (message->routed)
		ret = host->ops->msi_change(host, message->gsi, address, data);
	else
		ret = host->ops->msi_add(host, address, data, &message->gsi);
	message->routed |= ret == 0;
	if (ret == 0 && !message->attached) {
		ret = host->ops->irqfd_attach(host, message->gsi, message->eventfd);
		message->attached = ret == 0;
	}
	/* One that is refused is dead, holds nothing, and is tried anew with the next message. */
	if (ret < 0)
		detach(vfio, message);
	return ret;
}

static void route_all(struct vfio_function *vfio)
{
	unsigned count = msi_enabled(vfio);
	int ret = 0;

	for (unsigned i = 0; i < count; i++) {
		int one = route(vfio, i);

		ret = ret < 0 ? ret : one;
	}
	if (ret < 0)
		failed(vfio, "an MSI cannot be delivered", ret);
}

static int msi_on(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	int eventfds[VFIO_MSI_MAX];
	unsigned count = msi_enabled(vfio);

	for (unsigned i = 0; i < count; i++)
		eventfds[i] = interrupts->messages[i].eventfd;
	return set_messages(vfio, VFIO_INTERRUPT_MSI, eventfds, count);
}

static void msi_off(struct vfio_function *vfio)
{
	for (unsigned i = 0; i < vfio->config.msi_vectors; i++)
		detach(vfio, &vfio->interrupts.messages[i]);
}

/* MSI-X: all vectors at once; msix.c follows the table. */

static int msix_on(struct vfio_function *vfio)
{
	int eventfds[MSIX_VECTORS_MAX];
	unsigned count = msix_vectors(&vfio->function);

	for (unsigned i = 0; i < count; i++)
		eventfds[i] = msix_eventfd(&vfio->function, i);
	return set_messages(vfio, VFIO_INTERRUPT_MSIX, eventfds, count);
}

/* All kinds */

void vfio_interrupts_off(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;

	if (interrupts->kind == VFIO_INTERRUPT_NONE)
		return;
	vfio->hardware->ops->set_irqs(vfio->hardware, interrupts->kind, NULL, 0);
	if (interrupts->kind == VFIO_INTERRUPT_MSI)
		msi_off(vfio);
	if (interrupts->kind == VFIO_INTERRUPT_INTX)
		vfio_intx_off(vfio);
	interrupts->kind = VFIO_INTERRUPT_NONE;
	interrupts->vectors = 0;
}

static enum vfio_interrupt_kind wanted(const struct vfio_function *vfio)
{
	uint16_t command = load_le16(vfio->function.config + PCI_REG_COMMAND);

	if (msix_enabled(&vfio->function))
		return VFIO_INTERRUPT_MSIX;
	if (msi_enabled(vfio))
		return VFIO_INTERRUPT_MSI;
	/* A driver has the function once it decodes. */
	if (vfio->config.intx && !(command & PCI_CMD_INTX_DISABLE) &&
		(command & (PCI_CMD_MEMORY | PCI_CMD_IO)))
		return VFIO_INTERRUPT_INTX;
	return VFIO_INTERRUPT_NONE;
}

static int switch_on(struct vfio_function *vfio, enum vfio_interrupt_kind kind)
{
	switch (kind) {
	case VFIO_INTERRUPT_MSIX:
		return msix_on(vfio);
	case VFIO_INTERRUPT_MSI:
		return msi_on(vfio);
	case VFIO_INTERRUPT_INTX:
		return vfio_intx_on(vfio);
	default:
		return 0;
	}
}

static unsigned vectors_of(const struct vfio_function *vfio, enum vfio_interrupt_kind kind)
{
	if (kind == VFIO_INTERRUPT_MSIX)
		return msix_vectors(&vfio->function);
	return kind == VFIO_INTERRUPT_MSI ? msi_enabled(vfio) : kind == VFIO_INTERRUPT_INTX;
}

void vfio_interrupts_sync(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	enum vfio_interrupt_kind kind = wanted(vfio);
	unsigned vectors = vectors_of(vfio, kind);
	int ret;

	if (kind != interrupts->kind || vectors != interrupts->vectors) {
		vfio_interrupts_off(vfio);
		interrupts->kind = kind;
		interrupts->vectors = vectors;
		/* A driver that leaves goes back to INTx for a moment. */
		if (kind != VFIO_INTERRUPT_NONE && kind >= interrupts->best_kind) {
			interrupts->best_kind = kind;
			interrupts->best_vectors = vectors;
		}
		ret = switch_on(vfio, kind);
		if (ret < 0)
			failed(vfio, "the host cannot set up its interrupts", ret);
	}
	if (kind == VFIO_INTERRUPT_MSI)
		route_all(vfio);
}

int vfio_open_eventfd(int *fd)
{
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

int vfio_interrupts_init(struct vfio_function *vfio, struct error *err)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	int ret = 0;

	if (vfio->config.intx)
		ret = vfio_intx_init(vfio);
	for (unsigned i = 0; ret == 0 && i < vfio->config.msi_vectors; i++) {
		ret = vfio_open_eventfd(&interrupts->messages[i].eventfd);
		interrupts->messages_open += ret == 0;
	}
	return ret < 0 ? error_errno(err, -ret, "--device vfio,host=%s: interrupts", vfio->host)
		       : 0;
}

void vfio_interrupts_free(struct vfio_function *vfio)
{
	struct vfio_interrupts *interrupts = &vfio->interrupts;
	struct bus_host *host = host_of(vfio);

	if (vfio->function.bus)
		vfio_interrupts_off(vfio);
	if (interrupts->in_user)
		host->ops->eoi_unwatch(host, &interrupts->eoi);
	while (interrupts->messages_open)
		close(interrupts->messages[--interrupts->messages_open].eventfd);
	if (interrupts->line >= 0)
		close(interrupts->line);
	if (interrupts->unmask >= 0)
		close(interrupts->unmask);
}
