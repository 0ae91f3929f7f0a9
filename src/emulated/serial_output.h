/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the serial port's bytes go: a terminal, a pipe, a file.
 *
 * A byte waits until its line is whole, until the port flushes, or for at most
 * SERIAL_OUTPUT_DELAY_MS; so a line costs one system call and a prompt without a newline still
 * appears. A reader that is slow holds the guest up for a moment; one that has stopped reading
 * loses output, which is counted: the guest never hangs on it.
 *
 * Threads: all functions with the owner's lock held, but for attach and destroy (main thread, set
 * up and end). The timer runs on the main loop and takes that lock itself.
 */
#ifndef DUET_EMULATED_SERIAL_OUTPUT_H
#define DUET_EMULATED_SERIAL_OUTPUT_H

#include "base/loop.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SERIAL_OUTPUT_SIZE     8192U
#define SERIAL_OUTPUT_DELAY_MS 50

enum serial_output_kind {
	OUTPUT_NONBLOCKING, /* the descriptor is our own non-blocking one */
	OUTPUT_SOCKET,      /* each write asks not to wait */
	OUTPUT_FILE,        /* never waits for a reader */
	OUTPUT_POLLED,      /* anything else: ask before each write */
};

struct serial_output {
	int fd;
	enum serial_output_kind kind;
	bool stuck; /* the last wait for room was in vain */
	char buffer[SERIAL_OUTPUT_SIZE];
	unsigned length;
	uint64_t bytes, writes, dropped;
	struct loop *loop; /* null: no timer */
	pthread_mutex_t *lock;
	bool timer;     /* the timer runs or is about to */
	bool put_since; /* since the timer's last round */
	struct loop_task arm;
	struct loop_timer delay;
};

/* @fd stays the caller's. */
void serial_output_init(struct serial_output *output, int fd);
void serial_output_attach(struct serial_output *output, struct loop *loop, pthread_mutex_t *lock);
/* What a restore put there goes out, too; under the lock. */
void serial_output_start(struct serial_output *output);
void serial_output_put(struct serial_output *output, char byte);
void serial_output_flush(struct serial_output *output);
/* As flush, with a little patience each time the reader takes nothing; at the end. */
void serial_output_finish(struct serial_output *output);
void serial_output_destroy(struct serial_output *output);

#endif
