/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch of exits on a made-up exit area: no /dev/kvm is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/bus.h"
#include "kvm/internal.h"

#include <stdlib.h>
#include <string.h>

struct seen {
	unsigned count, sizes[16];
	uint64_t offsets[16], values[16];
};

struct fake {
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
	struct bus_range ports, mmio;
	struct seen seen;
	unsigned eoi_vector;
	_Alignas(4096) uint8_t area[8192];
	_Alignas(4096) uint8_t ring[4096];
};

static void note(struct seen *seen, uint64_t offset, unsigned size, uint64_t value)
{
	if (seen->count == 16)
		return;
	seen->sizes[seen->count] = size;
	seen->offsets[seen->count] = offset;
	seen->values[seen->count++] = value;
}

static uint64_t read_device(void *opaque, uint64_t offset, unsigned size)
{
	struct fake *fake = opaque;

	note(&fake->seen, offset, size, 0);
	return 0x8877665544332211ULL >> (8 * (offset % 8));
}

static void write_device(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct fake *fake = opaque;

	note(&fake->seen, offset, size, value);
}

static const struct bus_ops device_ops = {.read = read_device, .write = write_device};

static int set_up(void **state)
{
	struct fake *fake = aligned_alloc(4096, (sizeof(*fake) + 4095) / 4096 * 4096);

	memset(fake, 0, sizeof(*fake));
	pthread_mutex_init(&fake->vm.ring_lock, NULL);
	fake->vcpu.vm = &fake->vm;
	fake->vcpu.fd = -1;
	fake->vcpu.run = (struct kvm_run *)fake->area;
	fake->vcpu.ring = (struct kvm_coalesced_mmio_ring *)fake->ring;
	fake->ports = (struct bus_range){.name = "ports", .ops = &device_ops, .device = fake};
	fake->mmio = (struct bus_range){.name = "mmio", .ops = &device_ops, .device = fake};
	assert_int_equal(bus_new(&fake->vcpu.ports, "ports"), 0);
	assert_int_equal(bus_new(&fake->vcpu.mmio, "mmio"), 0);
	assert_int_equal(bus_map(fake->vcpu.ports, &fake->ports, 0x100, 8), 0);
	assert_int_equal(bus_map(fake->vcpu.mmio, &fake->mmio, 0x10000, 0x1000), 0);
	*state = fake;
	return 0;
}

static int tear_down(void **state)
{
	struct fake *fake = *state;

	bus_free(fake->vcpu.ports);
	bus_free(fake->vcpu.mmio);
	free(fake);
	return 0;
}

static uint8_t *io_exit(struct fake *fake, bool out, uint16_t port, uint8_t size, uint32_t count)
{
	struct kvm_run *run = fake->vcpu.run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = out ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.port = port;
	run->io.size = size;
	run->io.count = count;
	run->io.data_offset = 4096;
	return fake->area + 4096;
}

static void test_string_out(void **state)
{
	struct fake *fake = *state;

	memcpy(io_exit(fake, true, 0x102, 2, 3), "\x01\x02\x03\x04\x05\x06", 6);
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_int_equal(fake->seen.count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fake->seen.offsets[i], 2);
		assert_int_equal(fake->seen.sizes[i], 2);
	}
	assert_int_equal(fake->seen.values[2], 0x0605);
	assert_int_equal(kvm_vcpu_exits(&fake->vcpu, EXIT_PORT), 1);
}

static void test_in(void **state)
{
	struct fake *fake = *state;
	uint8_t *data = io_exit(fake, false, 0x104, 4, 2);

	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_memory_equal(data, "\x55\x66\x77\x88\x55\x66\x77\x88", 8);
}

static void test_unclaimed(void **state)
{
	struct fake *fake = *state;
	uint8_t *data = io_exit(fake, false, 0x99, 2, 1);

	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_memory_equal(data, "\xff\xff", 2);
	assert_int_equal(kvm_vcpu_exits(&fake->vcpu, EXIT_UNCLAIMED), 1);
	assert_int_equal(kvm_vcpu_exits(&fake->vcpu, EXIT_PORT), 0);
}

static void mmio_exit(struct fake *fake, bool write, uint64_t address, uint32_t length)
{
	struct kvm_run *run = fake->vcpu.run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = address;
	run->mmio.len = length;
	run->mmio.is_write = write;
	memcpy(run->mmio.data, "\x10\x20\x30\x40\x50\x60\x70\x80", 8);
}

/* What a page-crossing access leaves on one side is of any length. */
static void test_odd_length(void **state)
{
	struct fake *fake = *state;

	mmio_exit(fake, true, 0x10ff9, 7);
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_int_equal(fake->seen.count, 3);
	assert_int_equal(fake->seen.sizes[0], 4);
	assert_int_equal(fake->seen.values[0], 0x40302010);
	assert_int_equal(fake->seen.sizes[1], 2);
	assert_int_equal(fake->seen.values[1], 0x6050);
	assert_int_equal(fake->seen.offsets[2], 0xfff);
	assert_int_equal(fake->seen.values[2], 0x70);
	assert_int_equal(kvm_vcpu_exits(&fake->vcpu, EXIT_MMIO), 1);
}

static void test_mmio_read(void **state)
{
	struct fake *fake = *state;

	mmio_exit(fake, false, 0x10000, 8);
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_memory_equal(fake->vcpu.run->mmio.data, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	mmio_exit(fake, false, 0x10000, 0); /* nonsense must not hang */
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
}

static void coalesce(struct fake *fake, unsigned index, bool port, uint64_t address, uint8_t value)
{
	struct kvm_coalesced_mmio *entry = &fake->vcpu.ring->coalesced_mmio[index];

	entry->phys_addr = address;
	entry->len = 1;
	entry->pio = port;
	entry->data[0] = value;
}

static void test_coalesced_writes_go_first(void **state)
{
	struct fake *fake = *state;
	const uint32_t entries =
		(4096 - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);

	atomic_store(&fake->vm.coalescing, true);
	fake->vcpu.ring->first = entries - 1; /* around the end */
	fake->vcpu.ring->last = 2;
	coalesce(fake, entries - 1, true, 0x100, 1);
	coalesce(fake, 0, false, 0x10000, 2);
	coalesce(fake, 1, true, 0x101, 3);
	*io_exit(fake, true, 0x102, 1, 1) = 4;
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_int_equal(fake->seen.count, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fake->seen.values[i], i + 1);
	assert_int_equal(fake->vcpu.ring->first, 2);
}

static void eoi(void *opaque, unsigned vector)
{
	((struct fake *)opaque)->eoi_vector = vector;
}

static void test_ends_and_eoi(void **state)
{
	static const struct {
		uint32_t reason;
		enum kvm_run_result result;
		enum kvm_exit_cause cause;
	} cases[] = {
		{KVM_EXIT_HLT, KVM_RUN_HALTED, EXIT_HALT},
		{KVM_EXIT_SHUTDOWN, KVM_RUN_SHUTDOWN, EXIT_SHUTDOWN},
		{KVM_EXIT_IOAPIC_EOI, KVM_RUN_AGAIN, EXIT_MSI_EOI},
		{KVM_EXIT_INTERNAL_ERROR, KVM_RUN_ERROR, EXIT_INTERNAL},
		{KVM_EXIT_FAIL_ENTRY, KVM_RUN_ERROR, EXIT_INTERNAL},
		{KVM_EXIT_S390_TSCH, KVM_RUN_ERROR, EXIT_INTERNAL},
		{0xffffffff, KVM_RUN_ERROR, EXIT_INTERNAL},
	};
	struct fake *fake = *state;

	kvm_vm_set_eoi(&fake->vm, eoi, fake);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const uint64_t before = kvm_vcpu_exits(&fake->vcpu, cases[i].cause);

		fake->vcpu.run->exit_reason = cases[i].reason;
		fake->vcpu.run->eoi.vector = 0x51;
		assert_int_equal(exit_dispatch(&fake->vcpu), cases[i].result);
		assert_int_equal(kvm_vcpu_exits(&fake->vcpu, cases[i].cause), before + 1);
		if (cases[i].result == KVM_RUN_ERROR)
			assert_non_null(strstr(kvm_vcpu_error(&fake->vcpu), "vCPU 0"));
	}
	assert_int_equal(fake->eoi_vector, 0x51);
}

static void test_system_events(void **state)
{
	struct fake *fake = *state;

	fake->vcpu.run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	fake->vcpu.run->system_event.type = KVM_SYSTEM_EVENT_RESET;
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_RESET);
	fake->vcpu.run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_POWEROFF);
	fake->vcpu.run->system_event.type = KVM_SYSTEM_EVENT_CRASH;
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_CRASH);
	fake->vcpu.run->exit_reason = KVM_EXIT_X86_RDMSR;
	assert_int_equal(exit_dispatch(&fake->vcpu), KVM_RUN_AGAIN);
	assert_int_equal(fake->vcpu.run->msr.error, 1);
	for (unsigned cause = 0; cause < EXIT_CAUSES; cause++)
		assert_non_null(kvm_exit_names[cause]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_string_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unclaimed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_odd_length, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mmio_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_coalesced_writes_go_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ends_and_eoi, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_system_events, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
