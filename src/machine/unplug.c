/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function that is passed through leaves the machine: the guest is asked, lets go of it, and it
 * is taken off the bus while the machine is at rest. With the last one goes what asks for it, so
 * that the machine is as one that never had any, and can be saved and moved.
 */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/internal.h"

#include <errno.h>
#include <string.h>

#define REST_WITHIN (10 * SECOND_NS)
/* Somebody else's pause is on its way. */
#define AGAIN_NS (SECOND_NS / 10)
/* Something does not come to rest: the guest shall run meanwhile. */
#define STUCK_AGAIN_NS (60 * SECOND_NS)

static void take_off(struct machine *machine, struct device *device)
{
	struct device **at = &machine->devices;

	while (*at != device)
		at = &(*at)->next;
	*at = device->next;
	if (machine->last_device == &device->next)
		machine->last_device = at;
	device->ops->free(device);
}

static struct device *passed(const struct machine *machine, const char *id)
{
	struct device *device = machine->devices;

	while (strcmp(device->name, id) != 0 || strcmp(device->ops->type, "vfio") != 0)
		device = device->next;
	return device;
}

static struct device_config *at_slot(const struct machine *machine, unsigned slot)
{
	struct device_config *device;

	for (unsigned i = 0; (device = machine_config_device(&machine->config, DEVICE_VFIO, i));
		i++)
		if (device->slot == slot)
			return device;
	return NULL;
}

/* A record and what it stands on are at the same place of two tables. */
static void forget(struct machine *machine, struct device_config *device)
{
	size_t index = (size_t)(device - machine->config.devices);
	size_t behind = machine->config.device_count - index - 1;

	memmove(&machine->backends[index], &machine->backends[index + 1],
		behind * sizeof(machine->backends[0]));
	machine->backends[index + behind] = (struct machine_backend){0};
	machine_config_remove(&machine->config, device);
}

void machine_take_ejected(struct machine *machine)
{
	uint32_t slots = atomic_exchange(&machine->unplug.slots, 0);

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct device_config *device = slots >> slot & 1 ? at_slot(machine, slot) : NULL;

		if (!device)
			continue;
		log_info("%s: the guest has let go of %s", device->id, device->vfio.host);
		take_off(machine, passed(machine, device->id));
		forget(machine, device);
	}
	if (!machine_config_device(&machine->config, DEVICE_VFIO, 0) && machine->eject) {
		take_off(machine, machine->eject);
		machine->eject = NULL;
	}
}

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct machine *machine = container_of(pause, struct machine, unplug.pause);

	if (result == 0) {
		machine_take_ejected(machine);
		machine_resume(machine);
		return;
	}
	if (machine->life.state == MACHINE_ENDED)
		return;
	if (result == -ETIMEDOUT)
		log_warning(
			"a function that the guest has let go of cannot be taken off now: %s", why);
	loop_timer_after(machine->owner.loop, &machine->unplug.timer,
		result == -ETIMEDOUT ? STUCK_AGAIN_NS : AGAIN_NS);
}

static void approach(struct machine *machine)
{
	if (machine->life.state == MACHINE_ENDED || !atomic_load(&machine->unplug.slots))
		return;
	if (machine_is_paused(machine))
		machine_take_ejected(machine);
	else if (machine_pause(machine, &machine->unplug.pause, REST_WITHIN) < 0)
		loop_timer_after(machine->owner.loop, &machine->unplug.timer, AGAIN_NS);
}

static void run(struct loop_task *task)
{
	approach(container_of(task, struct machine, unplug.task));
}

static void again(struct loop_timer *timer)
{
	approach(container_of(timer, struct machine, unplug.timer));
}

/* vCPU thread. */
static void ejected(void *opaque, uint32_t slots)
{
	struct machine *machine = opaque;

	/* Once: whoever waits for them takes all that are there by then. */
	if (atomic_fetch_or(&machine->unplug.slots, slots) == 0)
		loop_post(machine->owner.loop, &machine->unplug.task);
}

int machine_create_eject(struct machine *machine, struct device **device, struct error *err)
{
	int ret = eject_new(device, ejected, machine, err);

	machine->unplug.task.run = run;
	machine->unplug.timer.expired = again;
	machine->unplug.pause.done = paused;
	if (ret == 0)
		machine->eject = *device;
	return ret;
}

void machine_end_unplug(struct machine *machine)
{
	loop_timer_stop(&machine->unplug.timer);
	loop_unpost(machine->owner.loop, &machine->unplug.task);
}

int machine_unplug(struct machine *machine, const char *id, struct error *err)
{
	const struct device_config *device = machine_config_find(&machine->config, id);

	if (!device)
		return error_set(err, ENOENT,
			"%s: there is no such device; duet ctl SOCK devices lists them", id);
	if (device->type != DEVICE_VFIO)
		return error_set(err, ENOTSUP,
			"%s: only functions that are passed through (--device vfio) can be "
			"unplugged",
			id);
	if (machine->life.state != MACHINE_RUNNING)
		return error_set(err, EINVAL,
			"%s: its guest is to let go of it, and does not run; a paused machine is "
			"to be resumed first",
			id);
	eject_ask(machine->eject, device->slot);
	return 0;
}
