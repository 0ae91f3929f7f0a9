/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machines of /etc/duet/NAME.json, which systemd runs as duet@NAME.service: what there is,
 * which are wrong, how their units are, and starting and stopping them. duetd asks `duet check` and
 * `systemctl`, each a child that the loop waits for; it runs no machine itself. Main thread.
 */
#ifndef DUET_DUETD_UNITS_H
#define DUET_DUETD_UNITS_H

#include "base/error.h"
#include "base/loop.h"
#include "duetd/view.h"

#define UNITS_DIRECTORY "/etc/duet"
#define UNITS_MAX       1000 /* configurations that are listed; more are said to be there */
#define UNITS_JOBS_MAX  8    /* at the same time */

struct unit {
	char name[VIEW_NAME_MAX];
	char state[16];  /* "active", "inactive", "failed", ...; "": not known */
	char result[24]; /* of one that failed: "exit-code" */
	bool at_boot;    /* systemd starts it at boot: systemctl enable */
	char fault[512]; /* what is wrong with its configuration; "": nothing */
};

struct units_result {
	unsigned status;          /* as of HTTP: below 300 it was done */
	char why[640];            /* why not; of a list: what could not be found out, "" usually */
	const struct unit *units; /* of a list: by name; the job's */
	unsigned count;
};

/* What is asked has ended one way or another; exactly once, at once or later. */
typedef void units_done(void *opaque, const struct units_result *result);

struct units;

/* @root: as of struct levers_options; @sockets: the directory of machines' APIs. Null: no memory.
 */
struct units *units_new(struct loop *loop, const char *root, const char *sockets);
/* Ends what is under way: each is told so. Null is allowed. */
void units_free(struct units *units);

void units_list(struct units *units, units_done *done, void *opaque);
/* Systemd has taken the order when this is done; the machine begins or ends from then on. A
 * configuration that is wrong is not started, nor is one at whose socket somebody listens: its unit
 * would take the socket's name from a machine that runs. */
void units_start(struct units *units, const char *name, units_done *done, void *opaque);
void units_stop(struct units *units, const char *name, units_done *done, void *opaque);

/* Letters, digits and -_.:@, below VIEW_NAME_MAX of them: both a socket's and a unit's. */
bool unit_name_is_valid(const char *name);
/* The configurations in a directory, by name: at most @room, and one more is counted where there
 * are more. A negative errno: it cannot be read. */
int units_read_directory(const char *path, struct unit *units, unsigned room);
/* What `systemctl show` prints, a block for each unit: taken by their names from whatever @text
 * is. */
void units_read_show(struct unit *units, unsigned count, const char *text);
/* What `duet check` prints, a line for each file of @units in their order. */
void units_read_check(struct unit *units, unsigned count, const char *directory, const char *text);

#endif
