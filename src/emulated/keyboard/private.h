/* SPDX-License-Identifier: Apache-2.0 */
/* The keyboard and its controller. The owner's lock is held for all of it. */
#ifndef DUET_EMULATED_KEYBOARD_PRIVATE_H
#define DUET_EMULATED_KEYBOARD_PRIVATE_H

#include "bus/host.h"
#include "emulated/board.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

#define KEYS_CODES   32
#define KEYS_REPLIES 4

/* Bytes that wait for the other side, in order. */
struct bytes {
	uint8_t count;
	uint8_t at[KEYS_CODES];
};

/* A PS/2 keyboard: scan code set 2, three keys that can be pressed. */
struct keys {
	struct bytes replies; /* to a command, at most KEYS_REPLIES; before codes */
	struct bytes codes;   /* of keys */
	bool scanning;        /* else no key does anything */
	uint8_t expects;      /* the command whose operand comes next; 0: none */
	uint8_t last;         /* sent, for who asks for it again */
};

/* As at power-on: silent until it is enabled, so that what nobody listens to is known. */
void keys_init(struct keys *keys);
void keys_write(struct keys *keys, uint8_t byte);
/* False: there is nothing to send. */
bool keys_take(struct keys *keys, uint8_t *byte);
/* Presses Ctrl, Alt and Del and lets go of them. False: it does not scan, or its buffer has no room
 * for all of it. */
bool keys_ctrl_alt_del(struct keys *keys);
void keys_save(const struct keys *keys, struct state_writer *writer);
int keys_restore(struct keys *keys, struct state_reader *reader);

/* The 8042 between it and the ports. */
struct controller {
	struct keys keys;
	struct bus_host *host;
	uint8_t config;    /* the configuration byte */
	uint8_t output;    /* what port 0x60 reads */
	bool full;         /* ... and it was not read yet */
	uint8_t answer;    /* of the controller, behind @output */
	bool answers;      /* ... there is one */
	uint8_t expects;   /* the command whose operand comes next at port 0x60; 0: none */
	bool system;       /* status: the self test has been passed */
	bool command_last; /* status: the last write was to port 0x64 */
	bool released;     /* translation: the byte that follows is of a key let go of */
	bool line;         /* level of the interrupt */
	bool resets;       /* the guest has asked for a reset, of which its owner is to tell */
};

/* As at power-on. */
void controller_init(struct controller *controller);
uint8_t controller_read_data(struct controller *controller);
uint8_t controller_read_status(const struct controller *controller);
void controller_write_data(struct controller *controller, uint8_t value);
void controller_write_command(struct controller *controller, uint8_t value);
/* False: the guest does not listen. */
bool controller_ctrl_alt_del(struct controller *controller);
void controller_save(const struct controller *controller, struct state_writer *writer);
/* The interrupt controller restores its own view of the line. */
int controller_restore(struct controller *controller, struct state_reader *reader);

#endif
