/* SPDX-License-Identifier: Apache-2.0 */
/* A page that a file's mapping cannot give is SIGBUS to whoever touches it. */
#include "snapshot/restore.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static void tell(int number)
{
	static const char text[] =
		"duet: SIGBUS: a page of guest memory cannot be read: the snapshot's memory file "
		"was cut "
		"short while the machine ran from it, or its disk fails; the machine ends here\n";
	ssize_t put = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)number;
	(void)put;
	/* SA_RESETHAND: the same access ends the process now. */
}

void snapshot_tell_faults(void)
{
	struct sigaction action = {.sa_handler = tell, .sa_flags = SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}
