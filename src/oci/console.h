/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal that an engine wants: a new one, whose master goes to the engine's socket, and whose
 * slave is this process's own, raw: what is typed means what the guest's terminal says. */
#ifndef DUET_OCI_CONSOLE_H
#define DUET_OCI_CONSOLE_H

#include "base/error.h"
#include "oci/setup.h"

/* Connects to the engine's unix socket @path. A descriptor, or a negative errno. */
int console_connect(const char *path, struct error *err);
/* Standard input, output and errors become the terminal; @process has its size. A session of its
 * own is this process's already. */
int console_make(int socket, const struct process *process, struct error *err);

#endif
