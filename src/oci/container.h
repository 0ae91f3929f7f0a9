/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's folder below the state folder, and what its state.json says. The folder is its
 * owner's alone (0700); who changes what is in it has it locked, so that of two such commands for
 * one container the second waits for the first. A container is running while its keeper is: the
 * process that the engine knows as the container's (oci/keeper.h), named by its id and the time it
 * began, so that a later process of the same id is not taken for it. Main thread.
 */
#ifndef DUET_OCI_CONTAINER_H
#define DUET_OCI_CONTAINER_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTAINER_ID_MAX 128

enum container_status {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_STOPPED,
};

struct identity {
	pid_t pid;      /* 0: none */
	uint64_t began; /* in ticks since the host's boot */
};

struct container {
	char id[CONTAINER_ID_MAX + 1];
	const char *root; /* the state folder; stays the caller's */
	int dir;          /* the container's folder in it; -1: none */
	enum container_status status;
	struct identity keeper, machine;
	char *bundle;  /* absolute */
	char *network; /* the namespace's file that the engine made; null: the keeper's own */
	char *cgroup;  /* the folder that was made for it; null: none */
	char *version; /* of the specification */
	json_t *annotations;
	int64_t created; /* seconds since 1970 */
};

/* Letters, digits and _+-. ; not more than CONTAINER_ID_MAX. Says why not. */
int container_check_id(const char *id, struct error *err);

/* Makes the folder, and the state folder if it is not there. -EEXIST: the id is taken. */
int container_make(
	struct container *container, const char *root, const char *id, struct error *err);
/* Opens it and reads its state; with @lock once nobody else has it locked, as they must who change
 * it. -ENOENT: there is none. */
int container_open(struct container *container, const char *root, const char *id, bool lock,
	struct error *err);
/* The folder is another's again; what is in memory goes. Zero-initialised is fine but for dir. */
void container_close(struct container *container);
/* state.json, whole or not at all. */
int container_store(const struct container *container, struct error *err);
/* The folder, all that is in it. */
int container_remove(struct container *container, struct error *err);

/* As of now: one whose keeper has ended is stopped. */
enum container_status container_status(const struct container *container);
const char *container_status_name(enum container_status status);
/* What the command state prints, and hooks are given; null: no memory. */
json_t *container_state(const struct container *container);

/* A file of the folder, null-terminated, malloc()ed: at most @most bytes. */
int container_read(const struct container *container, const char *name, size_t most, char **text,
	size_t *length, struct error *err);
int container_write(const struct container *container, const char *name, const char *text,
	size_t length, struct error *err);

/* Of a process that is there; -ESRCH. */
int identity_of(pid_t pid, struct identity *identity);
/* Whether it is there, and no zombie. */
bool identity_is_alive(const struct identity *identity);
/* Sends it @signal; a later process of its id gets none. -ESRCH: it is gone. */
int identity_signal(const struct identity *identity, int signal);

#endif
