/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine from its configuration: devices, vCPU threads, life cycle.
 *
 * Threads: the main thread creates, runs and frees; machine_run() runs the main loop there. vCPU
 * threads only dispatch exits; devices' queues belong to the I/O thread.
 */
#ifndef DUET_MACHINE_MACHINE_H
#define DUET_MACHINE_MACHINE_H

#include "machine/config.h"

#include <signal.h>

struct machine;

/* How a machine ended. */
enum machine_end {
	MACHINE_POWERED_OFF,  /* the guest's wish, or a SIGTERM it followed */
	MACHINE_RESET,        /* the guest wants to start anew */
	MACHINE_PANICKED,     /* the guest kernel panicked */
	MACHINE_TRIPLE_FAULT, /* a vCPU shut down */
	MACHINE_KILLED,       /* by the user: second signal, Ctrl-A x */
	MACHINE_FAILED,       /* KVM or the host failed: see the message */
};

/* Builds it up to the first instruction: memory, kernel, devices, vCPUs. Nothing is left behind
 * when it fails. @config is copied, its strings are not. */
int machine_new(struct machine **machine, const struct machine_config *config, struct error *err);
/* The signals that machine_run() takes (TERM, INT, HUP, USR1, WINCH, CONT). They must be blocked
 * before machine_new(), whose threads inherit the mask. */
void machine_signals(sigset_t *set);
/* Runs until it ends.
 * Negative: it could not be run at all. */
int machine_run(struct machine *machine, enum machine_end *end, struct error *err);
/* Writes the statistics (--stats FILE) as they are now; main thread. */
int machine_write_stats(struct machine *machine, struct error *err);
/* Before the machine is built: can the file be written at all? Leaves nothing behind. */
int machine_check_stats_path(const char *path, struct error *err);
void machine_free(struct machine *machine);

#endif
