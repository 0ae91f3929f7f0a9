/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is with a disk's file: a lock of the open file description, which goes away with
 * the last descriptor, also by SIGKILL. */
#include "backend/block_private.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* #syscalls main: fadvise64 fdatasync fcntl(1 = F_OFD_SETLK) */

/* The one that was opened first: with cache=direct it is the way through the page cache. */
static int locked_fd(const struct block *block)
{
	return block->file.buffered_fd >= 0 ? block->file.buffered_fd : block->file.fd;
}

static int set_lock(const struct block *block, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};

	return fcntl(locked_fd(block), F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int block_claim(struct block *block, struct error *err)
{
	int ret = set_lock(block, block->readonly ? F_RDLCK : F_WRLCK);

	block->lock = true;
	if (ret == -EAGAIN || ret == -EACCES)
		return error_set(err, EBUSY,
			"--disk path=%s: busy: another process has it open; end that VM, use a "
			"copy, or give both VMs readonly=on",
			block->file.path);
	if (ret < 0)
		log_info("--disk path=%s: its file system has no locks, going on without",
			block->file.path);
	/* What this host remembers of it is from before another one wrote. */
	posix_fadvise(locked_fd(block), 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

int block_release(struct block *block, struct error *err)
{
	int fd = locked_fd(block);

	if (!block->readonly && fdatasync(fd) < 0)
		return error_errno(err, errno, "--disk path=%s: flush", block->file.path);
	/* Where there are no locks there is none to give back. */
	set_lock(block, F_UNLCK);
	return 0;
}
