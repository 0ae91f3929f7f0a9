/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's initial RAM disk: the agent as its first process, and the kernel modules that it
 * loads, in their order. Made once for each kernel and agent. Main thread. */
#ifndef DUET_OCI_KIT_H
#define DUET_OCI_KIT_H

#include "base/error.h"
#include "oci/settings.h"
#include "oci/wire.h"

/* @path: malloc()ed. */
int kit_get(const struct settings *settings, char **path, struct error *err);

/* The modules' files below their folder that modules.dep names for @wanted (ended by null), what a
 * module needs before it. A name that is in no line is passed over: the kernel has it built in, or
 * not at all. */
int kit_order(const char *dep, const char *const *wanted, struct texts *order);

#endif
