/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keyboard controller: nothing but the reset line.
 *
 * The status says "output buffer full, input buffer empty". A driver that drains the buffer before
 * it trusts the controller (Linux's i8042 does) gives up after a few bytes and finds nobody there,
 * and one that waits for the input buffer before it asks for a reset need not wait. All ones would
 * make that second wait 65536 reads long.
 *
 * And the counters of a timer chip (PIT) that is not there, which read as zeros: a guest that
 * measures its TSC against them would take all ones for a counter that stands, and read it 100,000
 * times. (With --irqchip kernel the chip is KVM's, and these ports are never reached.)
 */
#include "base/checked.h"
#include "emulated/board.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define STATUS_NOBODY     0xfd /* all ones but for bit 1, input buffer full */
#define COMMAND_PULSE     0xf0 /* 0xf0 to 0xff: pulse the output lines whose bits are 0 */
#define COMMAND_NOT_RESET 0x01 /* bit of the reset line */

struct keyboard {
	struct device device;
	struct bus_range data, command, counters;
	const struct power_events *events;
	void *opaque;
};

static struct keyboard *keyboard_of(struct device *device)
{
	return container_of(device, struct keyboard, device);
}

static uint64_t read_data(void *opaque, uint64_t offset, unsigned size)
{
	return 0xff;
}

static uint64_t read_status(void *opaque, uint64_t offset, unsigned size)
{
	return STATUS_NOBODY;
}

static uint64_t read_counter(void *opaque, uint64_t offset, unsigned size)
{
	return 0;
}

static void write_data(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
}

static void write_command(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct keyboard *keyboard = opaque;

	if ((value & COMMAND_PULSE) == COMMAND_PULSE && !(value & COMMAND_NOT_RESET))
		keyboard->events->reset(keyboard->opaque);
}

static const struct bus_ops data_ops = {.read = read_data, .write = write_data};
static const struct bus_ops counter_ops = {.read = read_counter, .write = write_data};
static const struct bus_ops command_ops = {.read = read_status, .write = write_command};

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct keyboard *keyboard = keyboard_of(device);
	int ret = bus_map(place->ports, &keyboard->data, LAYOUT_KEYBOARD_DATA, 1);

	if (ret == 0)
		ret = bus_map(place->ports, &keyboard->command, LAYOUT_KEYBOARD_CMD, 1);
	if (ret == 0)
		ret = bus_map(place->ports, &keyboard->counters, LAYOUT_PIT, 4);
	return ret < 0 ? error_errno(err, -ret, "keyboard controller") : 0;
}

static void reset(struct device *device)
{
}

static void save(struct device *device, struct state_writer *writer)
{
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	return 0;
}

static void keyboard_free(struct device *device)
{
	free(keyboard_of(device));
}

static const struct device_ops keyboard_ops = {
	.type = "keyboard",
	.realize = realize,
	.reset = reset,
	.state_version = 1,
	.save = save,
	.restore = restore,
	.free = keyboard_free,
};

int keyboard_new(
	struct device **device, const struct power_events *events, void *opaque, struct error *err)
{
	struct keyboard *keyboard = calloc(1, sizeof(*keyboard));

	if (!keyboard)
		return error_errno(err, ENOMEM, "keyboard controller");
	keyboard->device.ops = &keyboard_ops;
	snprintf(keyboard->device.name, sizeof(keyboard->device.name), "keyboard0");
	keyboard->data =
		(struct bus_range){.name = "keyboard data", .ops = &data_ops, .device = keyboard};
	keyboard->command = (struct bus_range){
		.name = "keyboard command", .ops = &command_ops, .device = keyboard};
	keyboard->counters =
		(struct bus_range){.name = "no timer", .ops = &counter_ops, .device = keyboard};
	keyboard->events = events;
	keyboard->opaque = opaque;
	*device = &keyboard->device;
	return 0;
}
