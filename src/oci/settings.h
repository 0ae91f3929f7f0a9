/* SPDX-License-Identifier: Apache-2.0 */
/* What duet-oci works with, by its options, its environment and where it is installed. */
#ifndef DUET_OCI_SETTINGS_H
#define DUET_OCI_SETTINGS_H

#include "base/error.h"

#include <stdbool.h>

#define SETTINGS_ROOT  "/run/duet-oci"
#define SETTINGS_CACHE "/var/cache/duet-oci"

/* Texts are the command line's, the environment's, or not freed before the end. */
struct settings {
	const char *root;         /* the state folder */
	const char *cache;        /* images and initial RAM disks */
	const char *kernel;       /* null: the newest in /boot, a cloud kernel before another */
	const char *modules;      /* of the kernel; null: /lib/modules/RELEASE */
	const char *duet, *agent; /* null: beside this program, or where they are installed */
};

/* What is null becomes what the environment says (DUET_OCI_CACHE, _KERNEL, _MODULES, _DUET,
 * _AGENT), or what is there. */
int settings_complete(struct settings *settings, struct error *err);

#endif
