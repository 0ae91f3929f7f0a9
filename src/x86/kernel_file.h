/* SPDX-License-Identifier: Apache-2.0 */
/* The file given by --kernel, and the unpacked kernel made of it. Main thread. */
#ifndef DUET_X86_KERNEL_FILE_H
#define DUET_X86_KERNEL_FILE_H

#include "x86/bzimage.h"
#include "x86/kernel_image.h"

#include <sys/stat.h>

struct kernel_file {
	int fd;
	struct stat status;
	uint8_t head[BZIMAGE_HEAD_SIZE]; /* the file's first bytes */
	size_t head_size;
	bool is_bzimage; /* else ELF */
	struct bzimage bzimage;
};

/* Messages without the name of the file. To be closed by kernel_file_close() in any case. */
int kernel_file_open(struct kernel_file *file, const char *path, struct error *err);
void kernel_file_close(struct kernel_file *file);

/* The unpacked kernel, from the directory @cache (null: none) when it is there, put there when it
 * is not. @image is to be released. */
int kernel_file_unpack(const struct kernel_file *file, const char *cache,
	struct kernel_image *image, bool *from_cache, struct error *err);
/* "lz4", "none", ...: static. */
const char *kernel_file_compression(const struct kernel_file *file);

#endif
