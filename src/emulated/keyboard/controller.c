/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 8042 keyboard controller (IBM Personal System/2 Hardware Interface Technical Reference,
 * "Keyboard and Auxiliary Device Controller"), without an auxiliary device. It takes no time: what
 * was written has been done, and the next byte is there when the one before was read.
 */
#include "base/checked.h"
#include "emulated/keyboard/private.h"
#include "x86/layout.h"

#include <errno.h>
#include <string.h>

#define STATUS_FULL     0x01
#define STATUS_SYSTEM   0x04
#define STATUS_COMMAND  0x08
#define STATUS_UNLOCKED 0x10

#define CONFIG_INTERRUPT 0x01
#define CONFIG_SYSTEM    0x04
#define CONFIG_DISABLED  0x10
#define CONFIG_NO_AUX    0x20
#define CONFIG_TRANSLATE 0x40
#define CONFIG_FIXED     0x88 /* bits that read as 0 */

#define COMMAND_READ_CONFIG  0x20
#define COMMAND_WRITE_CONFIG 0x60
#define COMMAND_TEST_AUX     0xa9
#define COMMAND_TEST         0xaa
#define COMMAND_TEST_KEYS    0xab
#define COMMAND_DISABLE      0xad
#define COMMAND_ENABLE       0xae
#define COMMAND_READ_INPUT   0xc0
#define COMMAND_READ_OUTPUT  0xd0
#define COMMAND_WRITE_OUTPUT 0xd1
#define COMMAND_AS_KEYS      0xd2
#define COMMAND_AS_AUX       0xd3
#define COMMAND_TO_AUX       0xd4
#define COMMAND_PULSE        0xf0 /* 0xf0 to 0xff: pulse the output lines whose bits are 0 */

#define OUTPUT_NOT_RESET 0x01
#define OUTPUT_A20       0x02
#define OUTPUT_FULL      0x10
#define PREFIX_RELEASED  0xf0

static void update_line(struct controller *controller)
{
	const bool level = controller->full && (controller->config & CONFIG_INTERRUPT);

	if (level == controller->line)
		return;
	controller->line = level;
	controller->host->ops->set_line(controller->host, LAYOUT_KEYBOARD_GSI, level);
}

/* From set 2 to set 1: the codes of the keys that there are, and replies that look like keys. */
static uint8_t translate(uint8_t code)
{
	switch (code) {
	case 0x00:
		return 0xff;
	case 0x02: /* the number of the scan code set */
	case 0x83: /* of the identification */
		return 0x41;
	case 0x11:
		return 0x38;
	case 0x14:
		return 0x1d;
	case 0x71:
		return 0x53;
	default:
		return code;
	}
}

static bool take_translated(struct controller *controller, uint8_t *byte)
{
	while (keys_take(&controller->keys, byte)) {
		if (*byte == PREFIX_RELEASED) {
			controller->released = true;
			continue;
		}
		*byte = translate(*byte);
		/* A reply may come in between. */
		if (*byte < 0x80 && controller->released) {
			*byte |= 0x80;
			controller->released = false;
		}
		return true;
	}
	return false;
}

static bool take_from_keyboard(struct controller *controller, uint8_t *byte)
{
	if (controller->config & CONFIG_DISABLED)
		return false;
	if (controller->config & CONFIG_TRANSLATE)
		return take_translated(controller, byte);
	return keys_take(&controller->keys, byte);
}

/* The next byte for the guest, if it has read the one before. */
static void fill(struct controller *controller)
{
	if (!controller->full && controller->answers) {
		controller->output = controller->answer;
		controller->answers = false;
		controller->full = true;
	} else if (!controller->full) {
		controller->full = take_from_keyboard(controller, &controller->output);
	}
	update_line(controller);
}

static void answer(struct controller *controller, uint8_t byte)
{
	controller->answer = byte;
	controller->answers = true;
}

/* As a PC's firmware leaves it. There is no auxiliary port to be enabled. */
void controller_init(struct controller *controller)
{
	keys_init(&controller->keys);
	controller->config = CONFIG_INTERRUPT | CONFIG_SYSTEM | CONFIG_NO_AUX | CONFIG_TRANSLATE;
	controller->output = controller->answer = controller->expects = 0;
	controller->full = controller->answers = controller->released = false;
	controller->system = true;
	controller->command_last = false;
	controller->line = controller->resets = false;
}

uint8_t controller_read_data(struct controller *controller)
{
	const uint8_t byte = controller->output;

	controller->full = false;
	/* Down, so that the byte that follows is an edge of its own. */
	update_line(controller);
	fill(controller);
	return byte;
}

uint8_t controller_read_status(const struct controller *controller)
{
	return (uint8_t)(STATUS_UNLOCKED | (controller->full ? STATUS_FULL : 0) |
			 (controller->system ? STATUS_SYSTEM : 0) |
			 (controller->command_last ? STATUS_COMMAND : 0));
}

static void set_config(struct controller *controller, uint8_t value)
{
	controller->config = (uint8_t)((value & ~CONFIG_FIXED) | CONFIG_NO_AUX);
	controller->system = value & CONFIG_SYSTEM;
}

static void write_output(struct controller *controller, uint8_t lines)
{
	if (!(lines & OUTPUT_NOT_RESET))
		controller->resets = true;
}

static void take_operand(struct controller *controller, uint8_t command, uint8_t value)
{
	switch (command) {
	case COMMAND_WRITE_CONFIG:
		set_config(controller, value);
		break;
	case COMMAND_WRITE_OUTPUT:
		write_output(controller, value);
		break;
	case COMMAND_AS_KEYS:
	case COMMAND_AS_AUX: /* not as from an auxiliary device, by which it shows there is none */
		answer(controller, value);
		break;
	default: /* to the auxiliary device */
		break;
	}
}

void controller_write_data(struct controller *controller, uint8_t value)
{
	const uint8_t command = controller->expects;

	controller->command_last = false;
	controller->expects = 0;
	if (command) {
		take_operand(controller, command, value);
	} else {
		controller->config &= (uint8_t)~CONFIG_DISABLED;
		keys_write(&controller->keys, value);
	}
	fill(controller);
}

static void run_command(struct controller *controller, uint8_t command)
{
	switch (command) {
	case COMMAND_READ_CONFIG:
		answer(controller, controller->config);
		break;
	case COMMAND_WRITE_CONFIG:
	case COMMAND_WRITE_OUTPUT:
	case COMMAND_AS_KEYS:
	case COMMAND_AS_AUX:
	case COMMAND_TO_AUX:
		controller->expects = command;
		break;
	case COMMAND_TEST_AUX:
		answer(controller, 1); /* its clock line is low */
		break;
	case COMMAND_TEST:
		controller->system = true;
		answer(controller, 0x55);
		break;
	case COMMAND_TEST_KEYS:
		answer(controller, 0);
		break;
	case COMMAND_DISABLE:
		controller->config |= CONFIG_DISABLED;
		break;
	case COMMAND_ENABLE:
		controller->config &= (uint8_t)~CONFIG_DISABLED;
		break;
	case COMMAND_READ_INPUT:
		answer(controller, 0x80); /* not locked */
		break;
	case COMMAND_READ_OUTPUT:
		answer(controller,
			OUTPUT_NOT_RESET | OUTPUT_A20 | (controller->full ? OUTPUT_FULL : 0));
		break;
	default:
		break;
	}
}

void controller_write_command(struct controller *controller, uint8_t value)
{
	controller->command_last = true;
	controller->expects = 0;
	if ((value & COMMAND_PULSE) == COMMAND_PULSE)
		write_output(controller, value);
	else
		run_command(controller, value);
	fill(controller);
}

bool controller_ctrl_alt_del(struct controller *controller)
{
	if (!(controller->config & CONFIG_INTERRUPT) || (controller->config & CONFIG_DISABLED) ||
		!keys_ctrl_alt_del(&controller->keys))
		return false;
	fill(controller);
	return true;
}

void controller_save(const struct controller *controller, struct state_writer *writer)
{
	state_put_u8(writer, controller->config);
	state_put_u8(writer, controller->output);
	state_put_bool(writer, controller->full);
	state_put_u8(writer, controller->answer);
	state_put_bool(writer, controller->answers);
	state_put_u8(writer, controller->expects);
	state_put_bool(writer, controller->system);
	state_put_bool(writer, controller->command_last);
	state_put_bool(writer, controller->released);
	keys_save(&controller->keys, writer);
}

int controller_restore(struct controller *controller, struct state_reader *reader)
{
	set_config(controller, state_get_u8(reader));
	controller->output = state_get_u8(reader);
	controller->full = state_get_bool(reader);
	controller->answer = state_get_u8(reader);
	controller->answers = state_get_bool(reader);
	controller->expects = state_get_u8(reader);
	controller->system = state_get_bool(reader);
	controller->command_last = state_get_bool(reader);
	controller->released = state_get_bool(reader);
	controller->line = controller->full && (controller->config & CONFIG_INTERRUPT);
	return keys_restore(&controller->keys, reader);
}
