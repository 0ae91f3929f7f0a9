/* SPDX-License-Identifier: Apache-2.0 */
/* The cache: files that are made once, named by all that they are made of. Whoever makes one has a
 * lock of that name, so that of two who need it the second finds it. Main thread. */
#ifndef DUET_OCI_STORE_H
#define DUET_OCI_STORE_H

#include "base/error.h"

#include <stddef.h>

struct store_make {
	const char *cache, *name;
	/* Makes the file @path, which is not there, nor seen under its name before it is whole. */
	int (*make)(void *opaque, const char *path, struct error *err);
	void *opaque;
};

/* @path: of the file, malloc()ed. What nobody has used for a week goes. */
int store_get(const struct store_make *what, char **path, struct error *err);

/* A whole file, null-terminated, malloc()ed. */
int read_whole(const char *path, size_t most, char **bytes, size_t *length, struct error *err);

#endif
