/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container in the guest: its file system, and its first process in namespaces of its own, so
 * that it sees itself as process 1 and neither the agent nor what the agent has open.
 *
 * What box_enter() and what follows it do runs in a child: it reports by a line (a socket) that the
 * agent reads, see box_child.c. One thread.
 */
#ifndef DUET_OCI_AGENT_BOX_H
#define DUET_OCI_AGENT_BOX_H

#include "oci/agent/server.h"

#define BOX_ROOT "/run/root" /* the container's file system while it is put together */

/* ---- in the child ---- */

/* The root and all mounts below BOX_ROOT, then as this process's root. */
int box_make_root(const struct setup *setup, struct error *err);
/* A new terminal of the container's, as this process's own; @master: its other end. */
int box_make_terminal(const struct process *process, int *master, struct error *err);
/* Whether its program is there, as engines want to know before it is started. */
int box_find(const struct process *process, struct error *err);
/* In place of this process; returns only what went wrong. */
int box_run(const struct process *process, struct error *err);

/* ---- in the agent ---- */

/* Modules, file systems of the agent's own. */
int box_boot(struct error *err);
int box_configure_links(const struct setup *setup, struct error *err);
/* A cgroup of the container's, with its limits. */
int box_make_cgroup(const struct setup *setup, struct error *err);
int box_usage(struct usage *usage, struct error *err);
int box_list(struct listing *listing, struct error *err);

/* The table of the server in a guest; its opaque is a struct box. */
struct box {
	pid_t init;
	int init_fd; /* a pidfd; -1: there is no container yet */
	int line;    /* to the first process while it waits; -1 */
};
extern const struct server_ops box_ops;

#endif
