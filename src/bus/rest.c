/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/rest.h"

#include <stdio.h>
#include <string.h>

void device_rest_init(struct device_rest *rest, void (*reached)(struct device_rest *rest))
{
	pthread_mutex_init(&rest->lock, NULL);
	rest->left = rest->asking = 0;
	rest->reached = reached;
}

void device_rest_destroy(struct device_rest *rest)
{
	/* Whoever told of the rest may still be about to let go of it. */
	pthread_mutex_lock(&rest->lock);
	pthread_mutex_unlock(&rest->lock);
	pthread_mutex_destroy(&rest->lock);
}

/* One of those awaited is no longer. */
static void one_less_locked(struct device_rest *rest)
{
	if (--rest->left == 0)
		rest->reached(rest);
}

static unsigned begin_asking(struct device_rest *rest, struct device *first)
{
	unsigned asking;

	pthread_mutex_lock(&rest->lock);
	asking = ++rest->asking ? rest->asking : ++rest->asking;
	/* One for ourselves: the last device must not be thought the last before all were asked. */
	rest->left = 1;
	for (struct device *device = first; device; device = device->next) {
		/* A late answer to an earlier asking may be reading it. */
		if (device->rest != rest)
			device->rest = rest;
		device->asked = asking;
		rest->left++;
	}
	pthread_mutex_unlock(&rest->lock);
	return asking;
}

void device_rest_ask(struct device_rest *rest, struct device *first, bool drop)
{
	unsigned asking = begin_asking(rest, first);

	for (struct device *device = first; device; device = device->next) {
		if (device->ops->quiesce)
			device->ops->quiesce(device, asking, drop);
		else
			device_at_rest(device, asking);
	}
	pthread_mutex_lock(&rest->lock);
	one_less_locked(rest);
	pthread_mutex_unlock(&rest->lock);
}

void device_rest_forget(struct device_rest *rest, struct device *first)
{
	pthread_mutex_lock(&rest->lock);
	for (struct device *device = first; device; device = device->next)
		device->asked = 0;
	rest->left = 0;
	pthread_mutex_unlock(&rest->lock);
}

void device_rest_busy(struct device_rest *rest, struct device *first, char *names, unsigned size)
{
	names[0] = 0;
	pthread_mutex_lock(&rest->lock);
	for (struct device *device = first; device; device = device->next) {
		size_t used = strlen(names);

		if (device->asked)
			snprintf(names + used, size - used, "%s%s", used ? ", " : "", device->name);
	}
	pthread_mutex_unlock(&rest->lock);
}

void device_at_rest(struct device *device, unsigned asking)
{
	struct device_rest *rest = device->rest;

	pthread_mutex_lock(&rest->lock);
	if (device->asked == asking) {
		device->asked = 0;
		one_less_locked(rest);
	}
	pthread_mutex_unlock(&rest->lock);
}
