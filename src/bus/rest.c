/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/rest.h"

#include <stdio.h>
#include <string.h>

void device_rest_init(struct device_rest *rest, void (*reached)(struct device_rest *rest))
{
	pthread_mutex_init(&rest->lock, NULL);
	rest->left = 0;
	rest->reached = reached;
}

void device_rest_destroy(struct device_rest *rest)
{
	pthread_mutex_destroy(&rest->lock);
}

/* One of those awaited is no longer. */
static void one_less(struct device_rest *rest)
{
	bool last;

	pthread_mutex_lock(&rest->lock);
	last = --rest->left == 0;
	pthread_mutex_unlock(&rest->lock);
	if (last)
		rest->reached(rest);
}

void device_rest_ask(struct device_rest *rest, struct device *first)
{
	/* One for ourselves: the last device must not be thought the last before all were asked. */
	pthread_mutex_lock(&rest->lock);
	rest->left = 1;
	for (struct device *device = first; device; device = device->next) {
		device->rest = rest;
		device->awaited = true;
		rest->left++;
	}
	pthread_mutex_unlock(&rest->lock);
	for (struct device *device = first; device; device = device->next) {
		if (device->ops->quiesce)
			device->ops->quiesce(device);
		else
			device_at_rest(device);
	}
	one_less(rest);
}

void device_rest_forget(struct device_rest *rest, struct device *first)
{
	pthread_mutex_lock(&rest->lock);
	for (struct device *device = first; device; device = device->next)
		device->awaited = false;
	rest->left = 0;
	pthread_mutex_unlock(&rest->lock);
}

void device_rest_busy(struct device_rest *rest, struct device *first, char *names, unsigned size)
{
	names[0] = 0;
	pthread_mutex_lock(&rest->lock);
	for (struct device *device = first; device; device = device->next) {
		size_t used = strlen(names);

		if (device->awaited)
			snprintf(names + used, size - used, "%s%s", used ? ", " : "", device->name);
	}
	pthread_mutex_unlock(&rest->lock);
}

void device_at_rest(struct device *device)
{
	struct device_rest *rest = device->rest;
	bool awaited;

	if (!rest)
		return;
	pthread_mutex_lock(&rest->lock);
	awaited = device->awaited;
	device->awaited = false;
	pthread_mutex_unlock(&rest->lock);
	if (awaited)
		one_less(rest);
}
