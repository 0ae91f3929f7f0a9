/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's own statistics in their binary form (KVM_GET_STATS_FD). */
#include "kvm/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* #syscalls main: pread64 */

/* Larger than any kernel's; the header comes from the kernel but sizes an allocation. */
#define STATS_MAX      4096
#define STATS_NAME_MAX 256

static int read_at(int fd, void *to, size_t length, uint64_t offset)
{
	ssize_t got = pread(fd, to, length, (off_t)offset);

	if (got < 0)
		return -errno;
	return (size_t)got == length ? 0 : -EIO;
}

/* One descriptor; histograms and other arrays are left out. 1: *@stat is filled. */
static int read_stat(int fd, const struct kvm_stats_header *header,
	const struct kvm_stats_desc *desc, struct kvm_stat *stat)
{
	size_t length = strnlen(desc->name, header->name_size);
	int ret;

	if (desc->size != 1)
		return 0;
	if (length >= sizeof(stat->name))
		length = sizeof(stat->name) - 1;
	memcpy(stat->name, desc->name, length);
	stat->name[length] = 0;
	ret = read_at(fd, &stat->value, sizeof(stat->value), header->data_offset + desc->offset);
	return ret < 0 ? ret : 1;
}

static int read_all(int fd, struct kvm_stat *stats, unsigned capacity)
{
	struct kvm_stats_header header;
	_cleanup_free_ char *descs = NULL;
	unsigned count = 0;
	size_t stride;
	int ret = read_at(fd, &header, sizeof(header), 0);

	if (ret < 0)
		return ret;
	if (header.num_desc > STATS_MAX || header.name_size > STATS_NAME_MAX)
		return -EPROTO;
	stride = sizeof(struct kvm_stats_desc) + header.name_size;
	descs = malloc(header.num_desc * stride + 1);
	if (!descs)
		return -ENOMEM;
	ret = read_at(fd, descs, header.num_desc * stride, header.desc_offset);
	for (unsigned i = 0; i < header.num_desc && count < capacity && ret >= 0; i++) {
		ret = read_stat(fd, &header, (const void *)(descs + i * stride), &stats[count]);
		count += ret > 0;
	}
	return ret < 0 ? ret : (int)count;
}

/* The descriptor is made with the vCPU: while the vCPU runs, and an idle one does so until its next
 * interrupt, KVM_GET_STATS_FD would wait for it. Reading does not. */
int kvm_vcpu_stats(struct kvm_vcpu *vcpu, struct kvm_stat *stats, unsigned capacity)
{
	return vcpu->stats_fd < 0 ? -ENOTSUP : read_all(vcpu->stats_fd, stats, capacity);
}

int kvm_vm_stats(struct kvm_vm *vm, struct kvm_stat *stats, unsigned capacity)
{
	_cleanup_close_ int fd = -1;

	if (!vm->host.binary_stats)
		return -ENOTSUP;
	fd = kvm_ioctl_value(vm->fd, KVM_GET_STATS_FD, 0);
	return fd < 0 ? fd : read_all(fd, stats, capacity);
}
