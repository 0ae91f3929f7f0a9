/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host as the cooperation device sees it: each function is one of the machine's mechanisms.
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

static int counter_open(
	struct virtio_coop_host *host, unsigned vcpu, unsigned counter, uint64_t *name)
{
	return counters_open(
		machine_of(host)->counters, vcpu, (enum duet_coop_counter)counter, name);
}

static int counter_read(
	struct virtio_coop_host *host, unsigned vcpu, uint64_t name, uint64_t values[3])
{
	return counters_read(machine_of(host)->counters, vcpu, name, values);
}

static void counter_close(struct virtio_coop_host *host, unsigned vcpu, uint64_t name)
{
	counters_close(machine_of(host)->counters, vcpu, name);
}

/* What is not mapped now is faulted in. */
static void map_ahead(struct virtio_coop_host *host, unsigned vcpu, uint64_t gpa, uint64_t length)
{
	kvm_vcpu_map_ahead(machine_of(host)->vcpus[vcpu].kvm, gpa, length);
}

static const struct virtio_coop_host_ops coop_ops = {
	.is_current = is_current,
	.yield = yield,
	.counter_open = counter_open,
	.counter_read = counter_read,
	.counter_close = counter_close,
	.map_ahead = map_ahead,
};

bool machine_coop_counts(const struct machine *machine)
{
	return machine->counters;
}

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

	if (machine->coop && virtio_coop_stands(machine->coop) &&
		kvm_vm_clock(machine->vm, &now) == 0)
		virtio_coop_goes_on(machine->coop, now);
}
