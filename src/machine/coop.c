/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host as the cooperation device sees it: each function is one of the machine's mechanisms. One
 * that is not built in is null, and the device does not offer its feature.
 */
#include "base/checked.h"
#include "machine/internal.h"

#include <errno.h>

static struct machine *machine_of(struct virtio_coop_host *host)
{
	return container_of(host, struct machine, coop_host);
}

static bool is_current(struct virtio_coop_host *host, unsigned vcpu)
{
	struct machine *machine = machine_of(host);

	return vcpu < machine->config.cpus && atomic_load_explicit(&machine->vcpus[vcpu].self,
						      memory_order_relaxed) == pthread_self();
}

static int yield(
	struct virtio_coop_host *host, unsigned waiter, unsigned holder, uint64_t patience_ns)
{
	return machine_boost(machine_of(host), waiter, holder, patience_ns);
}

static const struct virtio_coop_host_ops coop_ops = {
	.is_current = is_current,
	.yield = yield,
};

struct virtio_coop_host *machine_coop_host(struct machine *machine)
{
	machine->coop_host.ops = &coop_ops;
	return &machine->coop_host;
}

/* By the guest's own clock: it goes on while the machine stands still, and where it is moved to. */
void machine_coop_stopped(struct machine *machine)
{
	uint64_t now;

	if (machine->coop && kvm_vm_clock(machine->vm, &now) == 0)
		virtio_coop_stopped(machine->coop, now);
}

void machine_coop_goes_on(struct machine *machine)
{
	uint64_t now;

	if (machine->coop && kvm_vm_clock(machine->vm, &now) == 0)
		virtio_coop_goes_on(machine->coop, now);
}
