/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int initrd_open(struct initrd *initrd, const char *path, struct error *err)
{
	struct stat status;

	*initrd = (struct initrd){.fd = -1};
	if (!path)
		return 0;
	initrd->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (initrd->fd < 0 || fstat(initrd->fd, &status) < 0)
		return error_errno(err, errno,
			"--initrd %s: cannot be opened; name an initramfs that you may read", path);
	if (!S_ISREG(status.st_mode))
		return error_set(err, S_ISDIR(status.st_mode) ? EISDIR : EINVAL,
			"--initrd %s: %s; give an initramfs file", path,
			S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
	if (status.st_size == 0)
		return error_set(err, EINVAL,
			"--initrd %s: the file is empty; give an initramfs or leave the option out",
			path);
	initrd->size = (uint64_t)status.st_size;
	return 0;
}

void initrd_close(struct initrd *initrd)
{
	if (initrd->fd >= 0)
		close(initrd->fd);
	initrd->fd = -1;
}

int initrd_read(const struct initrd *initrd, struct memory *memory, uint64_t address,
	const char *path, struct error *err)
{
	uint8_t *host = memory_begin(memory, GPA(address), initrd->size);
	uint64_t done = 0;

	if (!host)
		return error_set(err, EFAULT, "--initrd %s: it does not fit into RAM", path);
	while (done < initrd->size) {
		ssize_t got = pread(initrd->fd, host + done, initrd->size - done, (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_errno(err, errno, "--initrd %s: reading it", path);
		if (got == 0)
			return error_set(err, EIO,
				"--initrd %s: the file became shorter while it was read; start "
				"again",
				path);
		done += (uint64_t)got;
	}
	memory_end(memory, host, initrd->size);
	return 0;
}
