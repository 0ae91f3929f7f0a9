/* SPDX-License-Identifier: Apache-2.0 */
/* One register of the bits of slots. Read: those that the guest is asked to empty, each time that
 * it is asked once; written: those that it has let go of (its _EJ0). */
#include "base/checked.h"
#include "base/log.h"
#include "emulated/board.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct eject {
	struct device device;
	struct bus_range range;
	struct bus *ports;
	struct bus_host *host;
	void (*ejected)(void *opaque, uint32_t slots);
	void *opaque;
	struct log_guest_limit log;
	pthread_mutex_t lock; /* vCPUs, main thread */
	uint32_t asked;       /* and not answered */
	uint32_t unread;
};

static struct eject *eject_of(struct device *device)
{
	return container_of(device, struct eject, device);
}

static uint64_t read_slots(void *opaque, uint64_t offset, unsigned size)
{
	struct eject *eject = opaque;
	uint32_t slots;

	if (size != 4)
		return 0;
	pthread_mutex_lock(&eject->lock);
	slots = eject->unread;
	eject->unread = 0;
	pthread_mutex_unlock(&eject->lock);
	return slots;
}

static void write_slots(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct eject *eject = opaque;
	uint32_t slots;

	if (size != 4)
		return;
	pthread_mutex_lock(&eject->lock);
	slots = (uint32_t)value & eject->asked;
	eject->asked &= ~slots;
	pthread_mutex_unlock(&eject->lock);
	if (slots != (uint32_t)value)
		log_guest(&eject->log, "eject", "slots 0x%x: nobody has asked for them",
			(uint32_t)value & ~slots);
	if (slots)
		eject->ejected(eject->opaque, slots);
}

static const struct bus_ops ops = {.read = read_slots, .write = write_slots};

void eject_ask(struct device *device, unsigned slot)
{
	struct eject *eject = eject_of(device);

	pthread_mutex_lock(&eject->lock);
	eject->asked |= 1U << slot;
	eject->unread |= 1U << slot;
	pthread_mutex_unlock(&eject->lock);
	eject->host->ops->set_line(eject->host, LAYOUT_EJECT_GSI, true);
	eject->host->ops->set_line(eject->host, LAYOUT_EJECT_GSI, false);
}

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct eject *eject = eject_of(device);
	int ret = bus_map(place->ports, &eject->range, LAYOUT_EJECT, 4);

	eject->host = place->host;
	eject->ports = place->ports;
	return ret < 0 ? error_errno(err, -ret, "eject: its port") : 0;
}

static void reset(struct device *device)
{
	struct eject *eject = eject_of(device);

	pthread_mutex_lock(&eject->lock);
	eject->asked = eject->unread = 0;
	pthread_mutex_unlock(&eject->lock);
}

static void save(struct device *device, struct state_writer *writer)
{
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	return error_set(
		err, ENOTSUP, "eject: a machine with something passed through is not saved");
}

static void eject_free(struct device *device)
{
	struct eject *eject = eject_of(device);

	/* While the machine lives, perhaps. */
	if (eject->range.mapped) {
		bus_unmap(eject->ports, &eject->range);
		bus_wait_unused(eject->ports, &eject->range);
	}
	pthread_mutex_destroy(&eject->lock);
	free(eject);
}

static const struct device_ops eject_ops = {
	.type = "eject",
	.realize = realize,
	.reset = reset,
	.state_version = 1,
	.save = save,
	.restore = restore,
	.free = eject_free,
};

int eject_new(struct device **device, void (*ejected)(void *opaque, uint32_t slots), void *opaque,
	struct error *err)
{
	struct eject *eject = calloc(1, sizeof(*eject));

	if (!eject)
		return error_errno(err, ENOMEM, "eject");
	eject->device.ops = &eject_ops;
	snprintf(eject->device.name, sizeof(eject->device.name), "eject0");
	eject->range = (struct bus_range){.name = "eject", .ops = &ops, .device = eject};
	eject->ejected = ejected;
	eject->opaque = opaque;
	pthread_mutex_init(&eject->lock, NULL);
	*device = &eject->device;
	return 0;
}
