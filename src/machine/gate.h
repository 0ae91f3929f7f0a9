/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate between vCPU threads and the guest: open, they go in and out; shut, they wait before it.
 *
 * Threads: gate_pass() is the vCPU threads'; the rest: any. The gate only counts; getting a thread
 * out of the guest is its owner's business, after gate_set().
 */
#ifndef DUET_MACHINE_GATE_H
#define DUET_MACHINE_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum gate_state {
	GATE_OPEN,
	GATE_SHUT,
	GATE_LEAVE, /* gate_pass() says no: the threads end */
};

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	enum gate_state state;
	unsigned inside; /* threads that have not come by */
};

void gate_init(struct gate *gate); /* shut, nobody inside */
void gate_destroy(struct gate *gate);
/* True: it was in another state. */
bool gate_set(struct gate *gate, enum gate_state state);
/* A thread is about to begin: it counts as inside until it has come by. */
void gate_enter(struct gate *gate);
/* It did not begin after all. */
void gate_forget(struct gate *gate);
/* A thread of those inside comes by; returns when it may go in again, or false. @empty is called
 * when it was the last one inside and has to wait; without the lock. */
bool gate_pass(struct gate *gate, void (*empty)(void *opaque), void *opaque);
/* A thread of those inside stays out of the guest until clock_ns() is @until, or until the gate is
 * not open any more. */
void gate_hold(struct gate *gate, uint64_t until);
bool gate_is_empty(struct gate *gate);

#endif
