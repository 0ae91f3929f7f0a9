/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics in Prometheus' text format, version 0.0.4 (EXCHANGE_TEXT of http/exchange.h). */
#ifndef DUET_API_PROMETHEUS_H
#define DUET_API_PROMETHEUS_H

#include <jansson.h>

/* Of what machine_stats() gave, and the "memory" and "log" that a report adds. What is not there is
 * left out. The caller's, to be freed by free(); null: no memory. Any thread. */
char *prometheus_of(const json_t *stats);

#endif
