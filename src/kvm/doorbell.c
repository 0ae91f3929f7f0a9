/* SPDX-License-Identifier: Apache-2.0 */
/* Doorbells: guest writes that signal an eventfd inside the kernel (KVM_IOEVENTFD). */
#include "kvm/internal.h"

#include "base/checked.h"

#include <errno.h>

/* #syscalls main vcpu io: ioctl(KVM_IOEVENTFD) */

struct doorbell {
	bool port, match;
	uint64_t address, value;
	unsigned length;
	int eventfd;
};

static int request(struct kvm_vm *vm, const struct doorbell *bell, uint32_t flags)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = bell->match ? bell->value : 0,
		.addr = bell->address,
		.len = bell->length,
		.fd = bell->eventfd,
		.flags = flags | (bell->port ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (bell->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
	};

	return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &ioeventfd);
}

/* KVM before 4.5 has no "any length": the two that drivers use then. */
static int request_any(struct kvm_vm *vm, struct doorbell bell, uint32_t flags)
{
	static const unsigned lengths[] = {2, 4};
	int ret = 0;

	if (bell.match)
		return -EINVAL;
	if (vm->host.ioeventfd_any_length)
		return request(vm, &bell, flags);
	for (size_t i = 0; i < ARRAY_SIZE(lengths) && ret == 0; i++) {
		bell.length = lengths[i];
		ret = request(vm, &bell, flags);
	}
	return ret;
}

static int change(struct bus_host *host, const struct doorbell *bell, uint32_t flags)
{
	struct kvm_vm *vm = container_of(host, struct kvm_vm, bus_host);

	return bell->length ? request(vm, bell, flags) : request_any(vm, *bell, flags);
}

int doorbell_add(struct bus_host *host, bool port, uint64_t address, unsigned length, bool match,
	uint64_t value, int eventfd)
{
	const struct doorbell bell = {port, match, address, value, length, eventfd};

	return change(host, &bell, 0);
}

void doorbell_remove(struct bus_host *host, bool port, uint64_t address, unsigned length,
	bool match, uint64_t value, int eventfd)
{
	const struct doorbell bell = {port, match, address, value, length, eventfd};

	change(host, &bell, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
