/* SPDX-License-Identifier: Apache-2.0 */
/* `duetd simulate`: policies of memory tried on a trace, beside each other. Main thread. */
#ifndef DUET_DUETD_SIMULATE_H
#define DUET_DUETD_SIMULATE_H

/* @args: @count of them, what follows "simulate". What the process is to end with: 0; 1: it could
 * not be done; 2: the arguments make no sense. Standard error says why. */
int command_simulate(unsigned count, const char *const *args);

#endif
