/* SPDX-License-Identifier: Apache-2.0 */
/* The log of writes by the vCPUs' rings, before a KVM of the test's own: ioctl() ends up here, and
 * the rings are its memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvm/internal.h"

#include <stdlib.h>
#include <string.h>

#define LOW_PAGES  DIRTY_RING_ENTRIES
#define HIGH_PAGES 100 /* its bitmap ends within a word */

/* KVM's side of a ring. */
struct ring {
	struct kvm_dirty_gfn entries[DIRTY_RING_ENTRIES];
	uint32_t dirty, reset;
};

static struct {
	struct kvm_vm vm;
	struct kvm_vcpu vcpus[2];
	struct kvm_run run;
	struct ring rings[2];
	unsigned resets, interruptions;
	int reset_error;
	bool stuck; /* it leaves what was gathered where it is */
	unsigned enabled;
	int enable_error;
	uint32_t flags[2];
	uint64_t low[LOW_PAGES / 64], high[2];
} rig;

static int reset_rings(void)
{
	unsigned count = 0;

	rig.resets++;
	if (rig.interruptions) {
		rig.interruptions--;
		errno = EINTR;
		return -1;
	}
	errno = rig.reset_error;
	if (rig.reset_error)
		return -1;
	for (unsigned i = 0; i < 2 && !rig.stuck; i++) {
		struct ring *ring = &rig.rings[i];
		struct kvm_dirty_gfn *entry;

		while ((entry = &ring->entries[ring->reset % DIRTY_RING_ENTRIES])->flags ==
			KVM_DIRTY_GFN_F_RESET) {
			entry->flags = 0;
			ring->reset++;
			count++;
		}
	}
	return (int)count;
}

int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	const struct kvm_userspace_memory_region *region = argument;

	switch (request) {
	case KVM_RESET_DIRTY_RINGS:
		return reset_rings();
	case KVM_SET_USER_MEMORY_REGION:
		rig.flags[region->slot] = region->flags;
		return 0;
	case KVM_ENABLE_CAP:
		assert_int_equal(
			((const struct kvm_enable_cap *)argument)->cap, KVM_CAP_DIRTY_LOG_RING);
		assert_int_equal(((const struct kvm_enable_cap *)argument)->args[0],
			sizeof(rig.rings[0].entries));
		rig.enabled++;
		errno = rig.enable_error;
		return rig.enable_error ? -1 : 0;
	case KVM_GET_REGS:
		return 0;
	case KVM_GET_DIRTY_LOG:
		assert_false(rig.vm.dirty.by_ring);
		assert_int_equal(((const struct kvm_dirty_log *)argument)->slot, 1);
		rig.high[0] = 0x1234;
		return 0;
	default:
		fail_msg("request 0x%lx of %d", request, fd);
		return -1;
	}
}

static int set_up(void **state)
{
	memset(&rig, 0, sizeof(rig));
	pthread_mutex_init(&rig.vm.slots_lock, NULL);
	pthread_mutex_init(&rig.vm.dirty.lock, NULL);
	rig.vm.dirty.by_ring = true;
	rig.vm.slots[0] = (struct slot){.size = LOW_PAGES * MEMORY_PAGE};
	rig.vm.slots[1] = (struct slot){.gpa = 1ULL << 32, .size = HIGH_PAGES * MEMORY_PAGE};
	rig.vm.slots[FIRST_DEVICE_SLOT] = (struct slot){.gpa = 1ULL << 40, .size = 1 << 20};
	for (unsigned i = 0; i < 2; i++) {
		rig.vcpus[i] = (struct kvm_vcpu){.vm = &rig.vm,
			.run = &rig.run,
			.index = i,
			.next = rig.vm.vcpus,
			.dirty.entries = rig.rings[i].entries};
		rig.vm.vcpus = &rig.vcpus[i];
	}
	return 0;
}

static int tear_down(void **state)
{
	kvm_vm_dirty_log(&rig.vm, false);
	assert_int_equal(rig.flags[0], 0);
	return 0;
}

static void push(unsigned vcpu, uint32_t slot, uint64_t page)
{
	struct ring *ring = &rig.rings[vcpu];
	struct kvm_dirty_gfn *entry = &ring->entries[ring->dirty++ % DIRTY_RING_ENTRIES];

	assert_int_equal(entry->flags, 0); /* else there is no room */
	*entry = (struct kvm_dirty_gfn){KVM_DIRTY_GFN_F_DIRTY, slot, page};
}

static void begin(void)
{
	assert_int_equal(kvm_vm_dirty_log(&rig.vm, true), 0);
	assert_int_equal(rig.flags[0], KVM_MEM_LOG_DIRTY_PAGES);
	assert_int_equal(rig.flags[1], KVM_MEM_LOG_DIRTY_PAGES);
}

static void take(void)
{
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 0, rig.low), 0);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 1, rig.high), 0);
}

static void test_each_page_once(void **state)
{
	begin();
	push(0, 0, 3);
	push(0, 0, 64);
	push(1, 1, 99);
	push(1, 0, 3);
	take();
	assert_int_equal(rig.low[0], 1ULL << 3);
	assert_int_equal(rig.low[1], 1);
	assert_int_equal(rig.high[1], 1ULL << 35);
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), 2);
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[1]), 2);
	/* Who reads the pages now is told of what is written from now on. */
	assert_int_equal(rig.rings[0].reset, 2);
	assert_int_equal(rig.rings[1].reset, 2);
	take();
	assert_int_equal(rig.low[0] | rig.low[1] | rig.high[1], 0);
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), 2);
}

static void test_one_region_leaves_the_others(void **state)
{
	begin();
	push(0, 0, 0);
	push(0, 1, 0);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 1, rig.high), 0);
	assert_int_equal(rig.high[0], 1);
	push(1, 0, 1);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 0, rig.low), 0);
	assert_int_equal(rig.low[0], 3);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 2, rig.low), -ENOENT);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 1000, rig.low), -ENOENT);
}

static void test_around_the_end(void **state)
{
	uint64_t page = 0;

	begin();
	for (unsigned round = 0; round < 7; round++) {
		for (unsigned i = 0; i < DIRTY_RING_ENTRIES / 2 + 11; i++)
			push(0, 0, page++ % LOW_PAGES);
		take();
		for (unsigned i = DIRTY_RING_ENTRIES / 2 + 11; i; i--)
			rig.low[(page - i) % LOW_PAGES / 64] ^= 1ULL << (page - i) % 64;
		for (unsigned i = 0; i < LOW_PAGES / 64; i++)
			assert_int_equal(rig.low[i], 0);
	}
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), page);
}

static void test_a_full_ring(void **state)
{
	begin();
	for (uint64_t page = 0; page < DIRTY_RING_ENTRIES; page++)
		push(0, 0, page);
	push(1, 1, 5);
	rig.run.exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	assert_int_equal(exit_dispatch(&rig.vcpus[0]), KVM_RUN_AGAIN);
	assert_int_equal(kvm_vcpu_exits(&rig.vcpus[0], EXIT_DIRTY_FULL), 1);
	/* There is room again, and the other vCPU's were left alone. */
	push(0, 1, 6);
	assert_int_equal(rig.rings[1].entries[0].flags, KVM_DIRTY_GFN_F_DIRTY);
	take();
	for (unsigned i = 0; i < LOW_PAGES / 64; i++)
		assert_int_equal(rig.low[i], UINT64_MAX);
	assert_int_equal(rig.high[0], 3 << 5);
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), DIRTY_RING_ENTRIES + 1);
}

/* Nothing is written to outside of a bitmap, and a move does not rely on what is not whole. */
static void test_pages_that_are_not_there(void **state)
{
	static const struct {
		uint32_t slot;
		uint64_t page;
	} wrong[] = {{0, LOW_PAGES}, {1, HIGH_PAGES}, {0, UINT64_MAX}, {2, 0}, {1U << 16, 0},
		{FIRST_DEVICE_SLOT, 0}, {UINT32_MAX, UINT64_MAX}};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		begin();
		push(1, wrong[i].slot, wrong[i].page);
		assert_int_equal(kvm_vm_dirty_take(&rig.vm, 0, rig.low), -EPROTO);
		assert_int_equal(kvm_vm_dirty_take(&rig.vm, 1, rig.high), -EPROTO);
		/* A log that is begun anew is whole. */
		assert_int_equal(kvm_vm_dirty_log(&rig.vm, false), 0);
		begin();
		take();
	}
}

static void test_flags_that_are_none(void **state)
{
	static const uint32_t odd[] = {
		0, KVM_DIRTY_GFN_F_RESET, KVM_DIRTY_GFN_F_MASK, 0x80, UINT32_MAX};

	begin();
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		rig.rings[0].entries[0].flags = odd[i];
		rig.rings[0].reset = 1; /* not KVM's own */
		take();
		assert_int_equal(rig.low[0], 0);
		assert_int_equal(rig.rings[0].entries[0].flags, odd[i]);
	}
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), 0);
}

/* However fast it is filled, or if it is not emptied: it ends. */
static void test_a_ring_that_has_no_end(void **state)
{
	begin();
	for (uint64_t page = 0; page < DIRTY_RING_ENTRIES; page++)
		push(0, 0, page % LOW_PAGES);
	rig.stuck = true;
	take();
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), DIRTY_RING_ENTRIES);
	take();
	assert_int_equal(kvm_vcpu_dirtied(&rig.vcpus[0]), DIRTY_RING_ENTRIES);
}

static void test_what_was_written_before(void **state)
{
	/* KVM makes none without a log; an earlier one may have left some, and a vCPU finds its
	 * ring full all the same. */
	for (uint64_t page = 0; page < DIRTY_RING_ENTRIES; page++)
		push(0, 0, page);
	push(1, 0, 1);
	rig.run.exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	assert_int_equal(exit_dispatch(&rig.vcpus[0]), KVM_RUN_AGAIN);
	push(0, 0, 2);
	begin();
	take();
	assert_int_equal(rig.low[0], 0);
	push(0, 0, 3);
	assert_int_equal(kvm_vm_dirty_log(&rig.vm, false), 0);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 0, rig.low), -ENOENT);
	begin();
	take();
	assert_int_equal(rig.low[0], 0);
}

static void test_a_kernel_that_does_not_empty_it(void **state)
{
	begin();
	push(0, 0, 1);
	rig.interruptions = 3;
	take();
	assert_int_equal(rig.low[0], 2);
	rig.reset_error = EIO;
	push(0, 0, 2);
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 0, rig.low), -EIO);
	rig.run.exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	assert_int_equal(exit_dispatch(&rig.vcpus[0]), KVM_RUN_ERROR);
	assert_non_null(strstr(kvm_vcpu_error(&rig.vcpus[0]), "vCPU 0"));
	/* What was gathered is not lost. */
	rig.reset_error = 0;
	take();
	assert_int_equal(rig.low[0], 4);
}

/* Only where they are asked for, and where KVM gives them. */
static void test_whether_there_are_rings(void **state)
{
	static const struct {
		bool asked, has;
		int error;
		bool by_ring;
		unsigned calls;
	} cases[] = {{false, true, 0, false, 0}, {true, false, 0, false, 0},
		{true, true, EINVAL, false, 1}, {true, true, 0, true, 1}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig.enabled = 0;
		rig.vm.options.dirty_ring = cases[i].asked;
		rig.vm.host.dirty_ring = cases[i].has;
		rig.enable_error = cases[i].error;
		dirty_set_up(&rig.vm);
		assert_int_equal(kvm_vm_dirty_by_ring(&rig.vm), cases[i].by_ring);
		assert_int_equal(rig.enabled, cases[i].calls);
	}
}

static void test_without_rings(void **state)
{
	rig.vm.dirty.by_ring = false;
	begin();
	assert_false(kvm_vm_dirty_by_ring(&rig.vm));
	assert_int_equal(kvm_vm_dirty_take(&rig.vm, 1, rig.high), 0);
	assert_int_equal(rig.high[0], 0x1234);
	assert_int_equal(rig.resets, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_page_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_one_region_leaves_the_others, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_around_the_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_full_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pages_that_are_not_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flags_that_are_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_ring_that_has_no_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_was_written_before, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_kernel_that_does_not_empty_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_whether_there_are_rings, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_without_rings, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
