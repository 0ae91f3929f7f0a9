/* SPDX-License-Identifier: Apache-2.0 */
#include "base/leftover.h"

#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct leftover *list;

void leftover_add(struct leftover *leftover, void (*remove)(struct leftover *leftover))
{
	pthread_mutex_lock(&lock);
	leftover->remove = remove;
	leftover->next = list;
	list = leftover;
	pthread_mutex_unlock(&lock);
}

void leftover_forget(struct leftover *leftover)
{
	struct leftover **at = &list;

	pthread_mutex_lock(&lock);
	while (*at && *at != leftover)
		at = &(*at)->next;
	if (*at)
		*at = leftover->next;
	pthread_mutex_unlock(&lock);
}

void leftover_remove_all(void)
{
	pthread_mutex_lock(&lock);
	for (struct leftover *leftover = list; leftover; leftover = leftover->next)
		leftover->remove(leftover);
	pthread_mutex_unlock(&lock);
}
