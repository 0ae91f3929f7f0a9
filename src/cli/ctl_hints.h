/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DUET_CLI_CTL_HINTS_H
#define DUET_CLI_CTL_HINTS_H

#include <jansson.h>

/* The answer to GET /duet/hints as a table, on standard output. What it lacks is left out. */
void ctl_print_hints(const json_t *answer);

#endif
