/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings of the heap device, or of ordinary memory where it is absent. */
#include "duet/heap.h"

#include "duet/heap_device.h"
#include "heap_private.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE          4096UL
#define DESCRIPTOR_AT 512 /* out of the way of programs that count from 3 on */

/* All mappings are of one open file, so that a fork copies all of them at one instant. A program
 * may close descriptors that it does not know: @rdev tells whether the file is still ours. */
static struct {
	pthread_mutex_t lock;
	int fd; /* -1: none */
	dev_t rdev;
	int used; /* some mappings may be the device's */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

void heap_lock(void)
{
	pthread_mutex_lock(&heap.lock);
}

void heap_unlock(void)
{
	pthread_mutex_unlock(&heap.lock);
}

static int still_ours(void)
{
	struct stat stat;

	return heap.fd >= 0 && fstat(heap.fd, &stat) == 0 && S_ISCHR(stat.st_mode) &&
	       stat.st_rdev == heap.rdev;
}

/* errno says why there is none. */
static void open_device(void)
{
	struct stat stat;
	int fd = open(DUET_HEAP_DEVICE, O_RDWR | O_CLOEXEC), high;

	heap.fd = -1;
	if (fd < 0)
		return;
	if (fstat(fd, &stat) < 0 || !S_ISCHR(stat.st_mode)) {
		close(fd);
		errno = ENODEV;
		return;
	}
	high = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_AT);
	/* RLIMIT_NOFILE may be lower. */
	if (high >= 0)
		close(fd);
	heap.fd = high >= 0 ? high : fd;
	heap.rdev = stat.st_rdev;
	heap.used = 1;
}

/* The open device, or -1. Locked. */
static int device(void)
{
	if (!still_ours())
		open_device();
	return heap.fd;
}

int duet_heap_assisted(void)
{
	int there;

	heap_lock();
	there = device() >= 0;
	heap_unlock();
	return there;
}

static size_t whole_pages(size_t length)
{
	return length > SIZE_MAX - PAGE ? 0 : (length + PAGE - 1) & ~(PAGE - 1);
}

void *duet_heap_map(size_t length)
{
	void *address;
	int fd;

	length = whole_pages(length);
	if (!length) {
		errno = EINVAL;
		return NULL;
	}
	heap_lock();
	fd = device();
	address = mmap(NULL, length, PROT_READ | PROT_WRITE,
		fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, fd, 0);
	heap_unlock();
	return address == MAP_FAILED ? NULL : address;
}

int duet_heap_unmap(void *address, size_t length)
{
	return munmap(address, whole_pages(length));
}

int duet_heap_discard(void *address, size_t length)
{
	struct duet_heap_range range = {.address = (uintptr_t)address, .length = length};
	int fd, ret;

	if (!length || (range.address | length) % PAGE) {
		errno = EINVAL;
		return -1;
	}
	heap_lock();
	fd = device();
	if (fd >= 0)
		ret = ioctl(fd, DUET_HEAP_FREE, &range);
	else if (!heap.used)
		ret = madvise(address, length, MADV_DONTNEED);
	else
		ret = -1; /* the advice would leave the device's pages as they are */
	heap_unlock();
	return ret < 0 ? -1 : 0;
}
