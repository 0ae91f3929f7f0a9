/* SPDX-License-Identifier: Apache-2.0 */
/* duet ctl SOCK unplug: the guest lets go of what is passed through to it. Exit statuses. */
#ifndef DUET_CLI_CTL_UNPLUG_H
#define DUET_CLI_CTL_UNPLUG_H

/* @args: the device's id. Returns when it is gone, or the guest has had its time. */
int ctl_unplug(const char *socket, unsigned count, const char *const *args);
/* All that is passed through. */
int ctl_unplug_all(const char *socket);

#endif
