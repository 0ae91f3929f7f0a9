/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of duetd besides serving: their exit status, with the reason on standard error. */
#ifndef DUET_DUETD_COMMANDS_H
#define DUET_DUETD_COMMANDS_H

/* duetd simulate ARGUMENT... */
int command_simulate(unsigned count, const char *const *args);

/* duetd dashboard OPTION... */
int command_dashboard(unsigned count, const char *const *args);

/* duetd utilization OPTION... */
int command_utilization(unsigned count, const char *const *args);

#endif
