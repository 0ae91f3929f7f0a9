/* SPDX-License-Identifier: Apache-2.0 */
/* A cpio archive in the newc format, which a kernel unpacks as its initial file system: directories
 * and files of root's, dated 0. Whatever fails is told by archive_end(). Main thread. */
#ifndef DUET_OCI_ARCHIVE_H
#define DUET_OCI_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct archive {
	FILE *file;
	uint32_t count;
	int failed; /* an errno */
};

void archive_directory(struct archive *archive, const char *path);
void archive_file(
	struct archive *archive, const char *path, unsigned mode, const void *bytes, size_t length);
void archive_character_device(
	struct archive *archive, const char *path, unsigned major, unsigned minor);
int archive_end(struct archive *archive);

#endif
