/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the serial port's bytes go: a terminal, a pipe, a file.
 *
 * A byte waits until its line is whole, until the port flushes, or for at most
 * SERIAL_OUTPUT_DELAY_MS; so a line costs one system call and a prompt without a newline still
 * appears. Nothing here waits for the reader: one that is slow holds the guest's driver up, which
 * is told that the transmitter is not empty yet; one that has taken nothing for
 * SERIAL_OUTPUT_PATIENCE_MS loses output, which is counted, until it reads again: the guest never
 * hangs on it.
 *
 * Threads: all functions with the owner's lock held, but for init, attach and destroy (main thread,
 * set up and end). The timer runs on the main loop and takes that lock itself.
 */
#ifndef DUET_EMULATED_SERIAL_OUTPUT_H
#define DUET_EMULATED_SERIAL_OUTPUT_H

#include "base/loop.h"
#include "base/nowait.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SERIAL_OUTPUT_SIZE        8192U
#define SERIAL_OUTPUT_ROOM        64U /* what a driver may send once the transmitter is empty */
#define SERIAL_OUTPUT_DELAY_MS    50
#define SERIAL_OUTPUT_RETRY_MS    5
#define SERIAL_OUTPUT_PATIENCE_MS 50

struct serial_output {
	struct nowait to;
	char buffer[SERIAL_OUTPUT_SIZE];
	unsigned length;
	uint64_t full_since; /* nanoseconds; since the reader took something last; 0: not full */
	bool stuck;          /* it has taken nothing for too long */
	uint64_t bytes, writes, dropped;
	struct loop *loop; /* null: no timer */
	pthread_mutex_t *lock;
	bool timer;     /* the timer runs or is about to */
	bool put_since; /* since the timer's last round */
	struct loop_task arm;
	struct loop_timer delay;
	void (*retried)(struct serial_output *output);
};

/* @fd stays the caller's. */
void serial_output_init(struct serial_output *output, int fd);
/* @retried is called with the lock held after each try by the timer. */
void serial_output_attach(struct serial_output *output, struct loop *loop, pthread_mutex_t *lock,
	void (*retried)(struct serial_output *output));
/* What a restore put there goes out, too. */
void serial_output_start(struct serial_output *output);
/* Dropped when there is no room. */
void serial_output_put(struct serial_output *output, char byte);
/* Less room than a driver takes for granted. */
bool serial_output_full(const struct serial_output *output);
/* Whether the port may say that its transmitter is empty. */
bool serial_output_ready(struct serial_output *output);
void serial_output_flush(struct serial_output *output);
/* As flush, with a little patience each time the reader takes nothing, less with @hurry; at the
 * end. */
void serial_output_finish(struct serial_output *output, bool hurry);
void serial_output_destroy(struct serial_output *output);

#endif
