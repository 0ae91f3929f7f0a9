/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics (--stats): what the machine counted, and what the process costs in memory. */
#ifndef DUET_CLI_REPORT_H
#define DUET_CLI_REPORT_H

#include "base/error.h"

struct machine;

/* As things are now. @maps: of footprint_open(). Main thread. */
int report_write(struct machine *machine, int maps, const char *path, struct error *err);

#endif
