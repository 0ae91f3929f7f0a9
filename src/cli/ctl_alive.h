/* SPDX-License-Identifier: Apache-2.0 */
/* duet ctl SOCK alive [FILE SECONDS]: does the guest of a machine live? */
#ifndef DUET_CLI_CTL_ALIVE_H
#define DUET_CLI_CTL_ALIVE_H

#include <jansson.h>
#include <stdint.h>

/* What was seen when the guest last showed life. */
struct alive_seen {
	char sign;        /* 'h': a heartbeat, 'e': events and exits; 0: nothing was seen yet */
	uint64_t value;   /* the heartbeat, or events */
	uint64_t exits;   /* with 'e' */
	uint64_t when_ns; /* on the monotonic clock */
};

/* Seconds for which the guest has shown no life at @now_ns, by what it @seen before and the answer
 * to GET /duet/alive; 0: it lives, and @seen is anew. */
uint64_t alive_judge(struct alive_seen *seen, const json_t *answer, uint64_t now_ns);

/* The exit status: 0 it lives, or stands still and may; 1 nobody answers; 2 wrong command line; 3
 * it has shown no life for SECONDS, by what FILE has of the times before. */
int ctl_alive(const char *socket, unsigned count, const char *const *args);

#endif
