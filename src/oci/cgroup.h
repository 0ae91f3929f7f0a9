/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroup that an engine names for a container, for its keeper and its machine: cgroup 2, made
 * by ourselves. Its CPU limits hold for all of the machine; memory is limited by what the guest
 * has. Main thread. */
#ifndef DUET_OCI_CGROUP_H
#define DUET_OCI_CGROUP_H

#include "base/error.h"
#include "oci/bundle.h"

/* The folder of @path (the bundle's; null: none); malloc()ed. What cannot be one is refused. */
int cgroup_find(const char *path, char **folder, struct error *err);
/* Makes it with the limits, and puts this process into it. Null: nothing. */
int cgroup_enter(const char *folder, const struct resources *resources, struct error *err);
/* The folder, when nobody is in it any more. */
void cgroup_remove(const char *folder);

#endif
