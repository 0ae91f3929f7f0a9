/* SPDX-License-Identifier: Apache-2.0 */
/* duet ctl migrate: begins a migration and tells how far it is, until it has ended. */
#ifndef DUET_CLI_CTL_MIGRATE_H
#define DUET_CLI_CTL_MIGRATE_H

/* @args: the address, then options. The exit status. */
int ctl_migrate(const char *socket, unsigned count, const char *const *args);

#endif
