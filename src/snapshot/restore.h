/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of a snapshot. Main thread. */
#ifndef DUET_SNAPSHOT_RESTORE_H
#define DUET_SNAPSHOT_RESTORE_H

#include "snapshot/read.h"

struct machine;
struct machine_config;

/* The configuration that it was taken with, complete; --stats, of the first run alone, is left out.
 * @config is initialised by it, and is the caller's in any case. */
int snapshot_config(
	const struct snapshot *snapshot, struct machine_config *config, struct error *err);
/* Network @id uses tap @ifname of this host. */
int snapshot_override_net(
	struct machine_config *config, const char *id, const char *ifname, struct error *err);
/* @machine is new, of that configuration. Its memory is that of the snapshot's file, read as the
 * guest needs it; the guest is told that it is another one from now on. Then it can be started, or
 * after a failure only be freed. */
int snapshot_restore(const struct snapshot *snapshot, struct machine *machine, struct error *err);

/* What ends a machine whose memory file was cut short is a signal: it is told on standard error
 * before the process ends of it. Process-wide, once, before threads. */
void snapshot_tell_faults(void);

#endif
