/* SPDX-License-Identifier: Apache-2.0 */
/* Paths in a container's file system, whose links are the container's and never lead out of it.
 * One thread. */
#ifndef DUET_OCI_AGENT_INSIDE_H
#define DUET_OCI_AGENT_INSIDE_H

#include <stdbool.h>
#include <stddef.h>

/* @root: its top. A descriptor of @path (O_PATH), or a negative errno. */
int inside_open(int root, const char *path);
/* The same, of a directory, or with @is_file of a file; what is not there is made, with its
 * parents. */
int inside_make(int root, const char *path, bool is_file);
/* "/proc/self/fd/N": the place as system calls take it that know no descriptors. */
const char *inside_name(int fd, char name[32]);

/* mount(2), and a negative errno. */
int mount_at(const char *source, const char *at, const char *type, unsigned long flags,
	const char *data);

/* A file of @length bytes, as far as it is there or can be made. */
int write_file(const char *path, const void *bytes, size_t length);

#endif
