/* SPDX-License-Identifier: Apache-2.0 */
#include "base/socket_file.h"

#include "base/checked.h"

#include <sys/stat.h>
#include <unistd.h>

/* #syscalls main: newfstatat unlink */

static void take_away(struct leftover *leftover)
{
	const struct socket_file *file = container_of(leftover, struct socket_file, leftover);
	struct stat status;

	if (lstat(file->path, &status) == 0 && status.st_dev == file->device &&
		status.st_ino == file->inode)
		unlink(file->path);
}

void socket_file_keep(struct socket_file *file, const char *path)
{
	struct stat status;

	if (lstat(path, &status) < 0)
		return;
	file->path = path;
	file->device = status.st_dev;
	file->inode = status.st_ino;
	leftover_add(&file->leftover, take_away);
}

void socket_file_remove(struct socket_file *file)
{
	if (!file->path)
		return;
	take_away(&file->leftover);
	leftover_forget(&file->leftover);
	file->path = NULL;
}
