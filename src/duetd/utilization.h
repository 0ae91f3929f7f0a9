/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Pacemaker is told of this host and its machines, as utilization attributes: memory in MiB,
 * CPU in percent of one. Of the host what its machines may take together, of a machine what it
 * really needs, by what its guest says or the host sees. Plain numbers: nothing here asks or waits.
 */
#ifndef DUET_DUETD_UTILIZATION_H
#define DUET_DUETD_UTILIZATION_H

#include "duetd/view.h"

#include <jansson.h>

#define UTILIZATION_VMS_MAX 256

enum utilization_kind {
	UTILIZATION_MEMORY,
	UTILIZATION_CPU,
	UTILIZATION_KINDS
};
const char *utilization_name(enum utilization_kind kind); /* "memory", "cpu" */

/* The host, or a machine. */
struct utilization_of {
	char name[VIEW_NAME_MAX]; /* "": the host */
	bool seen;                /* in the last answer */
	double mean[UTILIZATION_KINDS];
	uint64_t told[UTILIZATION_KINDS]; /* to Pacemaker; UINT64_MAX: nothing yet */
};

struct utilization {
	struct utilization_of of[UTILIZATION_VMS_MAX + 1]; /* the host, then machines */
	unsigned count;
};

void utilization_init(struct utilization *utilization);
/* Takes the answers of GET /host and GET /vms of duetd, which have been asked @looks times for each
 * time that something may be told: numbers are means over those. What is no such answer changes
 * nothing. */
void utilization_look(
	struct utilization *utilization, const json_t *host, const json_t *vms, unsigned looks);
/* The number that is to be told of @of now, and is told by that; false: it is near enough to what
 * was told before, or @of is not there. */
bool utilization_tell(struct utilization_of *of, enum utilization_kind kind, uint64_t *number);
/* It was not told after all: it is to be told again. */
void utilization_untold(struct utilization_of *of);

#endif
