/* SPDX-License-Identifier: Apache-2.0 */
#include "late_page.h"

#include "fake_host.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

static sem_t waits, comes;
static _Atomic bool late;

void late_page_begin(void)
{
	sem_init(&waits, 0, 0);
	sem_init(&comes, 0, 0);
	atomic_store(&late, true);
	alarm(FAKE_PATIENCE_MS / 1000);
}

void late_page_await(void)
{
	while (sem_wait(&waits) < 0)
		continue;
}

void late_page_come(void)
{
	alarm(0);
	sem_post(&comes);
}

void late_page_write(void)
{
	if (!atomic_exchange(&late, false))
		return;
	sem_post(&waits);
	while (sem_wait(&comes) < 0)
		continue;
}
