/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/gate.h"

#include "base/clock.h"

void gate_init(struct gate *gate)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* gate_hold()'s */
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->moved, &attributes);
	pthread_condattr_destroy(&attributes);
	gate->state = GATE_SHUT;
	gate->inside = 0;
}

void gate_destroy(struct gate *gate)
{
	pthread_cond_destroy(&gate->moved);
	pthread_mutex_destroy(&gate->lock);
}

bool gate_set(struct gate *gate, enum gate_state state)
{
	bool differs;

	pthread_mutex_lock(&gate->lock);
	/* Those who were told to leave do not come back. */
	differs = gate->state != state && gate->state != GATE_LEAVE;
	if (differs) {
		gate->state = state;
		pthread_cond_broadcast(&gate->moved);
	}
	pthread_mutex_unlock(&gate->lock);
	return differs;
}

void gate_enter(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->inside++;
	pthread_mutex_unlock(&gate->lock);
}

void gate_forget(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->inside--;
	pthread_mutex_unlock(&gate->lock);
}

bool gate_pass(struct gate *gate, void (*empty)(void *opaque), void *opaque)
{
	bool in;

	pthread_mutex_lock(&gate->lock);
	if (gate->state != GATE_OPEN && --gate->inside == 0) {
		pthread_mutex_unlock(&gate->lock);
		empty(opaque);
		pthread_mutex_lock(&gate->lock);
	} else if (gate->state == GATE_OPEN) {
		pthread_mutex_unlock(&gate->lock);
		return true;
	}
	while (gate->state == GATE_SHUT)
		pthread_cond_wait(&gate->moved, &gate->lock);
	in = gate->state == GATE_OPEN;
	gate->inside += in;
	pthread_mutex_unlock(&gate->lock);
	return in;
}

void gate_hold(struct gate *gate, uint64_t until)
{
	const struct timespec at = {
		.tv_sec = (time_t)(until / SECOND_NS), .tv_nsec = (long)(until % SECOND_NS)};
	int ret = 0;

	pthread_mutex_lock(&gate->lock);
	while (gate->state == GATE_OPEN && ret == 0)
		ret = pthread_cond_timedwait(&gate->moved, &gate->lock, &at);
	pthread_mutex_unlock(&gate->lock);
}

bool gate_is_empty(struct gate *gate)
{
	bool empty;

	pthread_mutex_lock(&gate->lock);
	empty = gate->inside == 0;
	pthread_mutex_unlock(&gate->lock);
	return empty;
}
