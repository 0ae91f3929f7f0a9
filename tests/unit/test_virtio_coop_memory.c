/* SPDX-License-Identifier: Apache-2.0 */
/* The cooperation device as its driver finds it, and the memory that both see. */
#include "coop_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void shows_itself(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	assert_int_equal(coop_rig_pci(rig, 2, 2), 0x1040 + DUET_COOP_DEVICE_ID);
	assert_int_equal(rig->id, DUET_COOP_SHM_ID);
	assert_int_equal(rig->length, COOP_RIG_VCPUS * DUET_COOP_PAGE_SIZE);
	assert_int_equal(coop_rig_config(rig, COOP_FIELD(version), 4), DUET_COOP_VERSION);
	assert_int_equal(
		coop_rig_config(rig, COOP_FIELD(version_oldest), 4), DUET_COOP_VERSION_OLDEST);
	assert_int_equal(coop_rig_config(rig, COOP_FIELD(driver_version), 4), 0);
	assert_int_equal(coop_rig_config(rig, COOP_FIELD(vcpus), 4), COOP_RIG_VCPUS);
	assert_int_equal(coop_rig_config(rig, COOP_FIELD(page_size), 4), DUET_COOP_PAGE_SIZE);
	assert_int_equal(
		driver_features(&rig->device.driver) & 0xffffff & ~COOP_F(COPY), COOP_F_ALL);
	coop_rig_free(rig);
}

static void memory_is_mapped_when_it_is_looked_at(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct fake_machine *machine = &rig->device.machine;
	struct fake_host *host = &machine->host;
	uint32_t command = coop_rig_pci(rig, 4, 2);

	/* A kernel that sizes BARs. */
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(fake_host_windows(host), 0);
		fake_guest_config_write(machine, COOP_RIG_SLOT, 4, 2, command & ~2U);
		fake_guest_config_write(machine, COOP_RIG_SLOT, 4, 2, command);
	}
	/* Behind the memory is not the memory. */
	fake_guest_write(machine, rig->memory + COOP_RIG_VCPUS * 4096, 4, 1);
	assert_int_equal(fake_host_windows(host), 0);
	fake_guest_write(machine, rig->memory + 0x1404, 4, 9);
	assert_int_equal(fake_host_windows(host), 1);
	assert_int_equal(fake_guest_read(machine, rig->memory + 0x1404, 4), 9);
	assert_int_equal(fake_host_windows(host), 1);
	fake_guest_config_write(machine, COOP_RIG_SLOT, 4, 2, command & ~2U);
	assert_int_equal(fake_host_windows(host), 0);
	fake_guest_config_write(machine, COOP_RIG_SLOT, 4, 2, command);
	assert_int_equal(fake_host_windows(host), 0);
	assert_int_equal(coop_rig_page(rig, 1)->guest.runnable, 9);
	coop_rig_free(rig);
}

static void memory_is_there_without_a_window(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct fake_machine *machine = &rig->device.machine;

	machine->host.window_error = -ENOSPC;
	fake_guest_write(machine, rig->memory + 0x1404, 4, 9);
	assert_int_equal(fake_guest_read(machine, rig->memory + 0x1404, 4), 9);
	assert_int_equal(fake_host_windows(&machine->host), 0);
	coop_rig_free(rig);
}

/* The memory follows its BAR; what is behind it, up to the BAR's end, is nothing. */
static void memory_moves(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct fake_machine *machine = &rig->device.machine;
	uint64_t before = rig->memory;

	coop_rig_page(rig, 1)->guest.runnable = 7;
	assert_int_equal(fake_guest_read(machine, rig->memory + 0x1404, 4), 7);
	fake_guest_write(machine, rig->memory + 0x1404, 4, 9);
	assert_int_equal(coop_rig_page(rig, 1)->guest.runnable, 9);
	assert_int_equal(fake_guest_read(machine, rig->memory + COOP_RIG_VCPUS * 4096, 8), 0);
	fake_guest_write(machine, rig->memory + COOP_RIG_VCPUS * 4096 - 4, 8, ~0ULL);
	fake_guest_config_write(machine, COOP_RIG_SLOT, 0x24, 4, (uint32_t)(before >> 32) + 1);
	coop_rig_find_shared(rig);
	assert_int_equal(rig->memory, before + (1ULL << 32));
	assert_int_equal(coop_rig_page(rig, 1)->guest.runnable, 9);
	assert_int_equal(fake_host_windows(&machine->host), 1);
	fake_guest_config_write(machine, COOP_RIG_SLOT, 4, 2, 0);
	assert_int_equal(fake_host_windows(&machine->host), 0);
	coop_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_itself),
		cmocka_unit_test(memory_moves),
		cmocka_unit_test(memory_is_mapped_when_it_is_looked_at),
		cmocka_unit_test(memory_is_there_without_a_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
