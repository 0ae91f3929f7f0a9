/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of --stats. A regular file is replaced, so that its reader never sees half of one; what
 * else has that name (a FIFO, a device, a link to anything) stays and is written to, without
 * waiting for a reader. Any one thread.
 */
#ifndef DUET_CLI_STATS_FILE_H
#define DUET_CLI_STATS_FILE_H

#include "base/error.h"

#include <stddef.h>

/* Before there is anything to write: can it be written at all? Leaves nothing behind, but for an
 * empty file that a link already names. */
int stats_file_check(const char *path, struct error *err);
/* @text and a newline; a FIFO's reader that is slow gets STATS_FILE_PATIENCE_MS in all. */
#define STATS_FILE_PATIENCE_MS 250
int stats_file_write(const char *path, const char *text, size_t length, struct error *err);

#endif
