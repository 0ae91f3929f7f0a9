/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports of the keyboard controller: a whole one with a keyboard (controller.c), or nothing but
 * the reset line.
 *
 * Without a keyboard the status says "output buffer full, input buffer empty". A driver that drains
 * the buffer before it trusts the controller (Linux's i8042 does) gives up after a few bytes and
 * finds nobody there, and one that waits for the input buffer before it asks for a reset need not
 * wait. All ones would make that second wait 65536 reads long.
 *
 * And the counters of a timer chip (PIT) that is not there, which read as zeros: a guest that
 * measures its TSC against them would take all ones for a counter that stands, and read it 100,000
 * times. (With --irqchip kernel the chip is KVM's, and these ports are never reached.)
 */
#include "base/checked.h"
#include "emulated/board.h"
#include "emulated/keyboard/private.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
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
	pthread_mutex_t lock; /* of all that follows */
	struct controller controller;
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

/* ---- with a keyboard ---- */

static uint64_t read_output(void *opaque, uint64_t offset, unsigned size)
{
	struct keyboard *keyboard = opaque;
	uint64_t value;

	pthread_mutex_lock(&keyboard->lock);
	value = controller_read_data(&keyboard->controller);
	pthread_mutex_unlock(&keyboard->lock);
	return value;
}

static uint64_t read_its_status(void *opaque, uint64_t offset, unsigned size)
{
	struct keyboard *keyboard = opaque;
	uint64_t value;

	pthread_mutex_lock(&keyboard->lock);
	value = controller_read_status(&keyboard->controller);
	pthread_mutex_unlock(&keyboard->lock);
	return value;
}

/* Who is told reads the guest's memory, of which a page may have yet to come (post-copy), and the
 * main thread presses keys meanwhile. */
static void unlock_and_tell(struct keyboard *keyboard)
{
	const bool resets = keyboard->controller.resets;

	keyboard->controller.resets = false;
	pthread_mutex_unlock(&keyboard->lock);
	if (resets)
		keyboard->events->reset(keyboard->opaque);
}

static void write_input(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct keyboard *keyboard = opaque;

	pthread_mutex_lock(&keyboard->lock);
	controller_write_data(&keyboard->controller, (uint8_t)value);
	unlock_and_tell(keyboard);
}

static void write_its_command(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct keyboard *keyboard = opaque;

	pthread_mutex_lock(&keyboard->lock);
	controller_write_command(&keyboard->controller, (uint8_t)value);
	unlock_and_tell(keyboard);
}

static const struct bus_ops input_ops = {.read = read_output, .write = write_input};
static const struct bus_ops control_ops = {.read = read_its_status, .write = write_its_command};
static const struct bus_ops data_ops = {.read = read_data, .write = write_data};
static const struct bus_ops counter_ops = {.read = read_counter, .write = write_data};
static const struct bus_ops command_ops = {.read = read_status, .write = write_command};

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct keyboard *keyboard = keyboard_of(device);
	int ret = bus_map(place->ports, &keyboard->data, LAYOUT_KEYBOARD_DATA, 1);

	keyboard->controller.host = place->host;
	if (ret == 0)
		ret = bus_map(place->ports, &keyboard->command, LAYOUT_KEYBOARD_CMD, 1);
	if (ret == 0)
		ret = bus_map(place->ports, &keyboard->counters, LAYOUT_PIT, 4);
	return ret < 0 ? error_errno(err, -ret, "keyboard controller") : 0;
}

static void reset_nothing(struct device *device)
{
}

static void save_nothing(struct device *device, struct state_writer *writer)
{
}

static int restore_nothing(struct device *device, struct state_reader *reader, struct error *err)
{
	return 0;
}

/* The machine resets the interrupt controllers. */
static void reset(struct device *device)
{
	controller_init(&keyboard_of(device)->controller);
}

static void save(struct device *device, struct state_writer *writer)
{
	controller_save(&keyboard_of(device)->controller, writer);
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	if (controller_restore(&keyboard_of(device)->controller, reader) < 0)
		return error_set(err, EINVAL, "saved keyboard is broken");
	return 0;
}

static void keyboard_free(struct device *device)
{
	pthread_mutex_destroy(&keyboard_of(device)->lock);
	free(keyboard_of(device));
}

static const struct device_ops reset_line_ops = {
	.type = "keyboard",
	.realize = realize,
	.reset = reset_nothing,
	.state_version = 1,
	.save = save_nothing,
	.restore = restore_nothing,
	.free = keyboard_free,
};

static const struct device_ops keyboard_ops = {
	.type = "i8042",
	.realize = realize,
	.reset = reset,
	.state_version = 1,
	.save = save,
	.restore = restore,
	.free = keyboard_free,
};

bool keyboard_ctrl_alt_del(struct device *device)
{
	struct keyboard *keyboard = keyboard_of(device);
	bool listens;

	pthread_mutex_lock(&keyboard->lock);
	listens = controller_ctrl_alt_del(&keyboard->controller);
	pthread_mutex_unlock(&keyboard->lock);
	return listens;
}

static void init_controller(struct keyboard *keyboard)
{
	controller_init(&keyboard->controller);
	keyboard->device.ops = &keyboard_ops;
	keyboard->data.ops = &input_ops;
	keyboard->command.ops = &control_ops;
}

int keyboard_new(struct device **device, bool keys, const struct power_events *events, void *opaque,
	struct error *err)
{
	struct keyboard *keyboard = calloc(1, sizeof(*keyboard));

	if (!keyboard)
		return error_errno(err, ENOMEM, "keyboard controller");
	pthread_mutex_init(&keyboard->lock, NULL);
	keyboard->device.ops = &reset_line_ops;
	snprintf(keyboard->device.name, sizeof(keyboard->device.name), "keyboard0");
	keyboard->data =
		(struct bus_range){.name = "keyboard data", .ops = &data_ops, .device = keyboard};
	keyboard->command = (struct bus_range){
		.name = "keyboard command", .ops = &command_ops, .device = keyboard};
	keyboard->counters =
		(struct bus_range){.name = "no timer", .ops = &counter_ops, .device = keyboard};
	keyboard->events = events;
	keyboard->opaque = opaque;
	if (keys)
		init_controller(keyboard);
	*device = &keyboard->device;
	return 0;
}
