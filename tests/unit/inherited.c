/* SPDX-License-Identifier: Apache-2.0 */
#include "inherited.h"

#include <signal.h>
#include <stddef.h>

const int inherited_signals[INHERITED_SIGNALS] = {SIGHUP, SIGINT, SIGTERM};

void inherit_signals(unsigned ignored)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (unsigned i = 0; i < INHERITED_SIGNALS; i++)
		signal(inherited_signals[i], ignored >> i & 1 ? SIG_IGN : SIG_DFL);
}
