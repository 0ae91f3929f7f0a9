/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that moves a machine between its states (the picture is in machine.h). It knows
 * what is wished for, and whether vCPUs and devices are at rest; from the two follows the next
 * step, which is taken whenever one of them has changed. Nothing here waits.
 *
 * Threads: lifecycle_end(), lifecycle_ask_reset() and lifecycle_poke(): any; the rest: the loop's.
 */
#ifndef DUET_MACHINE_LIFECYCLE_H
#define DUET_MACHINE_LIFECYCLE_H

#include "bus/rest.h"
#include "machine/machine.h"

#include <stdarg.h>
#include <stdatomic.h>

struct lifecycle;

struct lifecycle_ops {
	/* vCPUs are to stop running the guest, soon; lifecycle_poke() when they have. Asked for
	 * again and again. */
	void (*halt)(struct lifecycle *life);
	bool (*halted)(struct lifecycle *life);
	void (*go)(struct lifecycle *life);
	/* As at power-on, everything; it is at rest. */
	int (*reset)(struct lifecycle *life, struct error *err);
	/* After the last state, with all that could come to rest at rest. */
	void (*ended)(struct lifecycle *life);
	void (*changed)(struct lifecycle *life, enum machine_state state);
};

/* How far devices are. */
enum lifecycle_devices {
	DEVICES_AT_REST,
	DEVICES_MOVING,
	DEVICES_COMING, /* to rest */
};

struct lifecycle {
	const struct lifecycle_ops *ops;
	struct loop *loop;
	struct device **devices; /* the list, which may grow */
	enum machine_state state;

	/* What is wished for. */
	_Atomic int end; /* enum machine_end + 1; 0: to go on. The first wish wins */
	char end_text[256];
	_Atomic bool end_told; /* @end_text is complete */
	_Atomic bool reset_asked;
	_Atomic bool io_dead; /* the I/O thread: devices will never answer */
	bool killed, paused;
	bool held;                   /* it stays at rest, whatever else is wished for */
	struct machine_pause *pause; /* who is told of the rest */

	/* How far it is. */
	enum lifecycle_devices phase;
	struct device_rest rest;
	_Atomic bool rested; /* the devices' answer */
	bool stuck;
	struct loop_task step;
	_Atomic bool poked;
	struct loop_timer patience, pause_limit;
	uint64_t resets; /* so far */
};

void lifecycle_init(struct lifecycle *life, const struct lifecycle_ops *ops, struct loop *loop,
	struct device **devices);
void lifecycle_destroy(struct lifecycle *life);
/* Something has changed. */
void lifecycle_poke(struct lifecycle *life);

int lifecycle_start(struct lifecycle *life, struct error *err);
/* And was not told to go on. */
bool lifecycle_is_paused(const struct lifecycle *life);
int lifecycle_pause(struct lifecycle *life, struct machine_pause *pause, uint64_t limit);
void lifecycle_resume(struct lifecycle *life);
void lifecycle_hold(struct lifecycle *life, bool held);
void lifecycle_ask_reset(struct lifecycle *life);
void lifecycle_end(struct lifecycle *life, enum machine_end end, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));
/* After lifecycle_end(): nothing is waited for any more but for a moment. */
void lifecycle_kill(struct lifecycle *life);
void lifecycle_io_died(struct lifecycle *life);

#endif
