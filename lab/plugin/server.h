/* SPDX-License-Identifier: Apache-2.0 */
/* One question a connection, answered on a unix socket by a thread of the plugin's own. */
#ifndef LAB_PLUGIN_SERVER_H
#define LAB_PLUGIN_SERVER_H

#include <stdio.h>

/* Writes the answer to @line (with its newline) to @out. */
typedef void server_answer_fn(FILE *out, const char *line);

/* Returns -1 after a word on stderr. QEMU's signals stay with QEMU's threads. */
int server_start(const char *path, server_answer_fn *answer);

#endif
