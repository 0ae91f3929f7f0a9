/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who takes the signals that ask for the end while the main thread cannot, because it builds a
 * machine, or takes one down: a thread. Whatever the main thread waits in meanwhile (storage that
 * hangs, a program that does not start), the process ends, and leaves nothing of base/leftover.h
 * behind. Where the kernel does not let go of the main thread, a message says so.
 *
 * It is not done with a signal handler: a thread that waits in the kernel for storage runs none,
 * but the end of its process frees it.
 */
#ifndef DUET_CLI_VIGIL_H
#define DUET_CLI_VIGIL_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct vigil_terms {
	bool spares; /* the first signal, for the main thread to take later */
	int grace;   /* milliseconds from the next one to the end of the process */
	int limit;   /* milliseconds to the end from now on, without a signal; below 0: none */
	int status;  /* what the process exits with; below 0: the signal itself ends it */
	const char *meanwhile; /* for a message: "while ..." */
};

/* Zero-initialised: none is kept. */
struct vigil {
	struct vigil_terms terms;
	pthread_t thread;
	int signals, stop;
	bool kept;
	int spared;        /* the signal that was spared; 0: none */
	int number;        /* the one that ends the process */
	uint64_t told;     /* clock_ns(), of that one */
	uint64_t deadline; /* clock_ns(); 0: none yet */
};

/* signals_block() was called. Nothing, when one is kept already. Main thread, as: */
int vigil_begin(struct vigil *vigil, const struct vigil_terms *terms, struct error *err);
/* Signals wait for signals_watch() again. Returns the one that was spared, or 0. Safe when none is
 * kept. */
int vigil_end(struct vigil *vigil);

#endif
