/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing devices to rest: all are asked at once, and whoever asked hears when the last one has
 * come to rest. Nobody waits meanwhile.
 */
#ifndef DUET_BUS_REST_H
#define DUET_BUS_REST_H

#include "bus/device.h"

#include <pthread.h>

/* Outlives the devices asked by it. */
struct device_rest {
	pthread_mutex_t lock;
	unsigned left;   /* devices that are still busy */
	unsigned asking; /* the last one's number */
	/* Once for each device_rest_ask() that is not taken back. Any thread, under @lock: must not
	 * ask or forget. */
	void (*reached)(struct device_rest *rest);
};

void device_rest_init(struct device_rest *rest, void (*reached)(struct device_rest *rest));
void device_rest_destroy(struct device_rest *rest);

/* Asks all devices of the list at @first to quiesce; @drop as in device_ops. Not while an earlier
 * asking is unanswered. */
void device_rest_ask(struct device_rest *rest, struct device *first, bool drop);
/* Takes the wish back: what still comes to rest is not waited for. reached() is not called from
 * here on. */
void device_rest_forget(struct device_rest *rest, struct device *first);
/* The names of the devices of the list that are still busy, "disk0, net1"; @names is cut at @size.
 */
void device_rest_busy(struct device_rest *rest, struct device *first, char *names, unsigned size);

#endif
