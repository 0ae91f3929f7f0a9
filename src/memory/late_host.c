/* SPDX-License-Identifier: Apache-2.0 */
/* userfaultfd(2), and why it cannot be had. */
#include "base/cleanup.h"
#include "memory/late_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* #syscalls arrive: ioctl(UFFDIO_COPY) ioctl(UFFDIO_ZEROPAGE)
 * #syscalls main arrive: ioctl(UFFDIO_UNREGISTER)
 * Of who discards memory, too:
 * #syscalls main vcpu io arrive: ioctl(UFFDIO_WAKE) */

/* Linux 6.1 */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* Behind what else a process has: it is closed before they are when the process ends, and lets go
 * of those that wait, on whom KVM and vhost would wait in turn. */
#define HIGH_FD 768

static int refused(int code, struct error *err)
{
	if (code == ENOSYS || code == EINVAL)
		return error_set(err, ENOTSUP,
			"post-copy: this host's kernel has no userfaultfd, or one that is too old; "
			"use one with CONFIG_USERFAULTFD, or move without --post-copy");
	if (code == EPERM || code == EACCES)
		return error_set(err, EPERM,
			"post-copy: duet may not use userfaultfd for the kernel's own faults here; "
			"let its user open /dev/userfaultfd (Linux 6.1), or set "
			"vm.unprivileged_userfaultfd=1, or give it CAP_SYS_PTRACE; or move without "
			"--post-copy");
	return error_errno(err, code, "post-copy: userfaultfd");
}

/* Faults of the kernel's, too: KVM, vhost and io_uring reach the guest's memory. */
static int make(void)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	_cleanup_close_ int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, flags) : -1;

	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, flags);
	return fd < 0 ? -errno : fd;
}

static int shake_hands(struct memory_late *late, struct error *err)
{
	struct uffdio_api api = {.api = UFFD_API};
	const struct memory_region *region;

	if (ioctl(late->fd, UFFDIO_API, &api) < 0)
		return refused(errno, err);
	for (unsigned i = 0; (region = memory_region(late->memory, i)); i++) {
		if (region->kind == MEMORY_FILE)
			return error_set(err, ENOTSUP,
				"post-copy: the guest's memory is a file's here, for which "
				"userfaultfd cannot be had; move without --post-copy");
		if (region->kind == MEMORY_SHARED && !(api.features & UFFD_FEATURE_MISSING_SHMEM))
			return refused(EINVAL, err);
	}
	return 0;
}

int late_open_host(struct memory_late *late, struct error *err)
{
	int high, ret;

	if (late->memory->pins)
		return error_set(err, EBUSY,
			"post-copy: a function that is passed through holds the guest's memory "
			"where it is; move without --post-copy");
	late->fd = make();
	if (late->fd < 0)
		return refused(-late->fd, err);
	high = fcntl(late->fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high >= 0) {
		close(late->fd);
		late->fd = high;
	}
	ret = shake_hands(late, err);
	if (ret == 0)
		ret = late_watch(late, err);
	/* It can be had; and memory comes in the usual way first. */
	late_unwatch(late);
	return ret;
}

static struct uffdio_range range_of(const struct memory_region *region)
{
	return (struct uffdio_range){
		.start = (uint64_t)(uintptr_t)region->mapped_at, .len = region->size};
}

int late_watch(struct memory_late *late, struct error *err)
{
	const uint64_t needed = 1ULL << _UFFDIO_COPY | 1ULL << _UFFDIO_ZEROPAGE;
	const struct memory_region *region;

	late->watches = true;
	for (unsigned i = 0; (region = memory_region(late->memory, i)); i++) {
		struct uffdio_register wanted = {
			.range = range_of(region), .mode = UFFDIO_REGISTER_MODE_MISSING};

		/* Older kernels join small pages into a huge one though some of them lack. */
		if (region->kind == MEMORY_SHARED)
			madvise(region->mapped_at, region->size, MADV_NOHUGEPAGE);
		if (ioctl(late->fd, UFFDIO_REGISTER, &wanted) < 0)
			return error_errno(err, errno,
				"post-copy: guest memory and userfaultfd; move without "
				"--post-copy");
		if ((wanted.ioctls & needed) != needed)
			return refused(EINVAL, err);
	}
	return 0;
}

void late_unwatch(struct memory_late *late)
{
	const struct memory_region *region;

	for (unsigned i = 0; late->watches && (region = memory_region(late->memory, i)); i++) {
		struct uffdio_range range = range_of(region);

		ioctl(late->fd, UFFDIO_UNREGISTER, &range);
	}
	late->watches = false;
}

void late_wake(const struct memory_late *late, void *to, uint64_t length)
{
	struct uffdio_range range = {.start = (uint64_t)(uintptr_t)to, .len = length};

	ioctl(late->fd, UFFDIO_WAKE, &range);
}

/* The first of @length bytes; how many were placed, or a negative errno. */
static int64_t place_some(
	const struct memory_late *late, uint64_t to, const void *from, uint64_t length)
{
	struct uffdio_copy copy = {.dst = to, .src = (uint64_t)(uintptr_t)from, .len = length};
	struct uffdio_zeropage zero = {.range = {.start = to, .len = length}};

	if (from)
		return ioctl(late->fd, UFFDIO_COPY, &copy) == 0 || copy.copy > 0 ? copy.copy
										 : -errno;
	return ioctl(late->fd, UFFDIO_ZEROPAGE, &zero) == 0 || zero.zeropage > 0 ? zero.zeropage
										 : -errno;
}

int late_place(const struct memory_late *late, void *to, const void *from, uint64_t length)
{
	uint8_t *at = to;
	const uint8_t *bytes = from;
	uint64_t piece = length;

	while (length) {
		int64_t done = place_some(
			late, (uint64_t)(uintptr_t)at, bytes, piece < length ? piece : length);

		if (done == -EAGAIN)
			continue;
		/* More than one mapping: parts of memory have a node or are merged. */
		if (done == -ENOENT && piece > MEMORY_PAGE) {
			piece = MEMORY_PAGE;
			continue;
		}
		/* Somebody was quicker; who waits may have begun to after that. */
		if (done == -EEXIST) {
			late_wake(late, at, MEMORY_PAGE);
			done = (int64_t)MEMORY_PAGE;
		}
		if (done < 0)
			return (int)done;
		at += done;
		bytes += bytes ? done : 0;
		length -= (uint64_t)done;
	}
	return 0;
}
