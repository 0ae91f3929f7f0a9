/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of duet; each returns the process's exit status. */
#ifndef DUET_CLI_COMMANDS_H
#define DUET_CLI_COMMANDS_H

int command_run(unsigned count, const char *const *args);
int command_check(unsigned count, const char *const *args);
int command_doctor(unsigned count, const char *const *args);
int command_snapshot(unsigned count, const char *const *args);
int command_ctl(unsigned count, const char *const *args);
/* Without a command's name: all arguments. */
int command_firecracker(unsigned count, const char *const *args);

#endif
