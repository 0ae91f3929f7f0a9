/* SPDX-License-Identifier: Apache-2.0 */
/* A line of metrics in the groups that Firecracker's clients read. */
#ifndef DUET_API_METRICS_H
#define DUET_API_METRICS_H

#include <jansson.h>

/*
 * Of what machine_stats() gave: "vcpu", "block" and "net" and those of each device ("block_ID"),
 * "entropy", "vsock". As there, a number is what came since the line before, which @told knows:
 * null at first, then this function's, and the caller's to release. What duet does not count is
 * left out. A new reference; null: no memory. Any thread, one at a time for each @told.
 */
json_t *metrics_of(const json_t *stats, json_t **told);

#endif
