/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as the cooperation device sees it: whose thread it is, and when it stood still. */
#include "machine/internal.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t clock_now;
static int clock_fails;

/* KVM's, by the linker's --wrap. */
int __wrap_kvm_vm_clock(struct kvm_vm *vm, uint64_t *clock_ns);
int __wrap_kvm_vm_clock(struct kvm_vm *vm, uint64_t *clock_ns)
{
	*clock_ns = clock_now;
	return clock_fails;
}

static void *ask(void *opaque)
{
	struct virtio_coop_host *host = opaque;

	return host->ops->is_current(host, 0) ? host : NULL;
}

static void knows_its_threads(void **state)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	struct virtio_coop_host *host = machine_coop_host(machine);
	pthread_t thread;
	void *is;

	machine->config.cpus = 2;
	assert_false(host->ops->is_current(host, 0));
	atomic_store(&machine->vcpus[0].self, pthread_self());
	assert_true(host->ops->is_current(host, 0));
	assert_false(host->ops->is_current(host, 1));
	assert_false(host->ops->is_current(host, 2));
	assert_false(host->ops->is_current(host, ~0U));
	assert_int_equal(pthread_create(&thread, NULL, ask, host), 0);
	assert_int_equal(pthread_join(thread, &is), 0);
	assert_null(is);
	free(machine);
}

static void tells_the_device_of_its_stops(void **state)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	const struct virtio_coop_options options = {
		.host = machine_coop_host(machine), .vcpus = 1, .time = true};
	struct error err;

	/* Without a device there is nobody to tell. */
	machine_coop_stopped(machine);
	machine_coop_goes_on(machine);
	assert_int_equal(virtio_coop_new(&machine->coop, "coop0", &options, &err), 0);
	clock_now = 1000;
	machine_coop_stopped(machine);
	clock_now = 1700;
	machine_coop_stopped(machine);
	machine_coop_goes_on(machine);
	assert_int_equal(virtio_coop_away(machine->coop), 700);
	/* A poke of a machine that runs. */
	clock_now = 5000;
	machine_coop_goes_on(machine);
	assert_int_equal(virtio_coop_away(machine->coop), 700);
	clock_fails = -EIO;
	machine_coop_stopped(machine);
	clock_fails = 0;
	clock_now = 6000;
	machine_coop_goes_on(machine);
	assert_int_equal(virtio_coop_away(machine->coop), 700);
	machine->coop->ops->free(machine->coop);
	free(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_its_threads),
		cmocka_unit_test(tells_the_device_of_its_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
