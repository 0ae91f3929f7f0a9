/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a unix socket that this process listens at: it goes when the socket does, or when the
 * process ends at once (base/leftover.h); one that somebody else has put in its place stays.
 */
#ifndef DUET_BASE_SOCKET_FILE_H
#define DUET_BASE_SOCKET_FILE_H

#include "base/leftover.h"

#include <sys/types.h>

/* Zero-initialised: none. */
struct socket_file {
	struct leftover leftover;
	const char *path;
	dev_t device;
	ino_t inode;
};

/* A socket was bound to @path just now. @file stays where it is, and @path as it is, until
 * socket_file_remove(). Threads of both: one at a time. */
void socket_file_keep(struct socket_file *file, const char *path);
/* Safe to call twice, and when there is none. */
void socket_file_remove(struct socket_file *file);

#endif
