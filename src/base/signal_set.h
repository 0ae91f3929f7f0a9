/* SPDX-License-Identifier: Apache-2.0 */
/* Which signals a program takes itself. Threads: any. */
#ifndef DUET_BASE_SIGNAL_SET_H
#define DUET_BASE_SIGNAL_SET_H

#include <signal.h>

/* Those of the @count @numbers that whoever started us has not had ignored. By nohup, or by a
 * shell's job in the background, he wants us to live through them: then they must not be blocked
 * either, for a blocked signal is kept although it is ignored. */
sigset_t signal_set_heeded(const int *numbers, unsigned count);

#endif
