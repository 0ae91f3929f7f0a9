/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacked kernels on disk, so that each is unpacked once.
 *
 * An entry is named by the SHA-256 of the packed bytes: "v1-<digest>". So that a start need not
 * read and hash the kernel, a symbolic link named by the kernel file's identity, "v1-<device>-
 * <inode>-<size>-<mtime>-<ctime>", leads to it. That is safe: the directory is this user's and
 * closed to the others, ownership of directory and entry is checked, and a file cannot change
 * without its ctime moving, which no call can set. (A file changed less than two seconds before
 * it was read gets no link: its next change might carry the same time stamp.)
 *
 * Nothing here fails a start: without a usable cache the kernel is unpacked again.
 * Main thread; several processes may use one directory.
 */
#ifndef DUET_X86_KERNEL_CACHE_H
#define DUET_X86_KERNEL_CACHE_H

#include "base/sha256.h"
#include "x86/kernel_image.h"

#include <stdbool.h>
#include <sys/stat.h>

/* Opens the directory, made (mode 0700) with its parents when it is missing. Returns a descriptor
 * or -1, having said why at info level. */
int kernel_cache_open(const char *path);

/* Fill @image (to be released) and return true when there is a sound entry. */
bool kernel_cache_find_file(int cache, const struct stat *file, struct kernel_image *image);
bool kernel_cache_find_digest(
	int cache, const uint8_t digest[SHA256_SIZE], struct kernel_image *image);

/* @image as kernel_image_build() made it. Negative errno when it could not be kept. */
int kernel_cache_store(
	int cache, const uint8_t digest[SHA256_SIZE], const struct kernel_image *image);
/* Removes the entries that were longest not read until KERNEL_CACHE_ENTRIES are left, and what
 * killed processes left behind. Machines that have an entry open keep it. */
#define KERNEL_CACHE_ENTRIES 16
void kernel_cache_prune(int cache);
/* @file: what fstat said after the file was read. */
void kernel_cache_link(int cache, const struct stat *file, const uint8_t digest[SHA256_SIZE]);

#endif
