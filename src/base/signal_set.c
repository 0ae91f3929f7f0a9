/* SPDX-License-Identifier: Apache-2.0 */
#include "base/signal_set.h"

#include <stdbool.h>
#include <stddef.h>

/* #syscalls main: rt_sigaction */

static bool is_ignored(int number)
{
	struct sigaction now;

	return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

sigset_t signal_set_heeded(const int *numbers, unsigned count)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < count; i++)
		if (!is_ignored(numbers[i]))
			sigaddset(&set, numbers[i]);
	return set;
}
