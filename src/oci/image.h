/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of files as a read-only disk, made once and kept in the cache by what it holds: erofs
 * where its maker is installed, else ext4. Nobody mounts it on the host. Main thread. */
#ifndef DUET_OCI_IMAGE_H
#define DUET_OCI_IMAGE_H

#include "base/error.h"

struct image {
	char *path;       /* malloc()ed */
	const char *type; /* "erofs", "ext4" */
};

int image_get(const char *cache, const char *tree, struct image *image, struct error *err);

#endif
