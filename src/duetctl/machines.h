/* SPDX-License-Identifier: Apache-2.0 */
/* The machines of /etc/duet: list, start, stop. Each returns the process's exit status. Any thread.
 */
#ifndef DUET_DUETCTL_MACHINES_H
#define DUET_DUETCTL_MACHINES_H

int machines_list(const char *socket, unsigned count, const char *const *args);
int machines_start(const char *socket, unsigned count, const char *const *args);
int machines_stop(const char *socket, unsigned count, const char *const *args);

#endif
