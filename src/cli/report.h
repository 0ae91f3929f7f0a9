/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics file (--stats): what the machine counted, and what the process costs in memory. */
#ifndef DUET_CLI_REPORT_H
#define DUET_CLI_REPORT_H

#include "base/error.h"

struct machine;

/* As things are now. Main thread. */
int report_write(struct machine *machine, const char *path, struct error *err);
/* Before the machine is built: can the file be written at all? Leaves nothing behind. */
int report_check(const char *path, struct error *err);

#endif
