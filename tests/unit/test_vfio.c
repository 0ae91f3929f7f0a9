/* SPDX-License-Identifier: Apache-2.0 */
/* Passthrough on a host function in memory: configuration space, BARs, interrupts, resets. */
#include "vfio_rig.h"

#include "base/bytes.h"
#include "pci/registers.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOT    1
#define MSI     0x50
#define MSIX    0x70
#define POWER   0x40
#define EXPRESS 0xa0
#define VECTORS 5
#define TABLE   0x2000 /* in BAR 0 */
#define PENDING 0x3000

struct rig {
	struct fake_machine machine;
	struct fake_function hardware;
	struct device *device;
};

static void put_msi(struct rig *rig)
{
	/* Four messages, 64 bits, masks of each. */
	static const uint8_t msi[24] = {0x05, 0, 0x84, 0x01};

	fake_function_capability(&rig->hardware, MSI, msi, sizeof(msi));
}

static void put_msix(struct rig *rig, uint32_t table, uint32_t pending)
{
	uint8_t msix[12] = {0x11, 0, VECTORS - 1};

	store_le32(msix + 4, table);
	store_le32(msix + 8, pending);
	fake_function_capability(&rig->hardware, MSIX, msix, sizeof(msix));
}

static int set_up(void **state)
{
	static const uint8_t power[8] = {0x01, 0, 3};
	static const uint8_t express[60] = {
		0x10, 0, 0x02, 0, 0xc1, 0x80, 0, 0x10, 0x37, [12] = 1, [36] = 0x1f};
	struct rig *rig = calloc(1, sizeof(*rig));

	fake_machine_init(&rig->machine);
	fake_function_init(&rig->hardware);
	fake_function_capability(&rig->hardware, POWER, power, sizeof(power));
	fake_function_capability(&rig->hardware, EXPRESS, express, sizeof(express));
	rig->hardware.sizes[0] = 0x4000;
	store_le32(rig->hardware.config + PCI_REG_BAR0, PCI_BAR_FLAG_64);
	rig->hardware.sizes[2] = 0x20;
	store_le32(rig->hardware.config + PCI_REG_BAR0 + 8, PCI_BAR_FLAG_PORT);
	put_msi(rig);
	put_msix(rig, TABLE, PENDING);
	rig->hardware.config[PCI_REG_INTERRUPT_PIN] = 1;
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	if (rig->device)
		fake_machine_end_device(&rig->machine, rig->device);
	assert_int_equal(fake_host_windows(&rig->machine.host), 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	fake_function_free(&rig->hardware);
	fake_machine_free(&rig->machine);
	free(rig);
	return 0;
}

static int try(struct rig *rig, struct error *err)
{
	assert_int_equal(
		vfio_new_on(&rig->device, "vfio0", &rig->hardware.hardware, "0000:01:10.0", err),
		0);
	return rig->device->ops->realize(rig->device, &rig->machine.place, err);
}

static void create(struct rig *rig)
{
	struct error err = {0};

	assert_int_equal(try(rig, &err), 0);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
}

static uint32_t get(struct rig *rig, unsigned offset, unsigned size)
{
	return fake_guest_config_read(&rig->machine, SLOT, offset, size);
}

static void put(struct rig *rig, unsigned offset, unsigned size, uint32_t value)
{
	fake_guest_config_write(&rig->machine, SLOT, offset, size, value);
}

static uint16_t hardware_command(struct rig *rig)
{
	return load_le16(rig->hardware.config + PCI_REG_COMMAND);
}

static unsigned find_capability(struct rig *rig, uint8_t id)
{
	unsigned at = get(rig, PCI_REG_CAPABILITIES, 1);

	while (at && get(rig, at, 1) != id)
		at = get(rig, at + 1, 1);
	return at;
}

static void test_configuration_space(void **state)
{
	struct rig *rig = *state;

	create(rig);
	assert_int_equal(get(rig, PCI_REG_VENDOR, 4), 0x10ca8086);
	assert_int_equal(find_capability(rig, 0x05), MSI);
	assert_int_equal(find_capability(rig, 0x11), MSIX);
	assert_int_equal(find_capability(rig, 0x10), EXPRESS);
	assert_int_equal(find_capability(rig, 0x01), 0); /* power management is hidden */
	assert_int_equal(get(rig, POWER, 4), 0);
	assert_int_equal(get(rig, MSI + 2, 2), 0x0084); /* no masks, off */
	assert_int_equal(get(rig, EXPRESS + 2, 2), 0x0092);
	assert_int_equal(get(rig, EXPRESS + 4, 4), 0x000080c1); /* no reset by the guest */
	assert_int_equal(get(rig, EXPRESS + 12, 4), 0);         /* no link */
	put(rig, EXPRESS + 8, 2, 0x8000);
	assert_int_equal(get(rig, EXPRESS + 8, 2), 0x37);
}

/* Of all that a guest can write only bus mastering arrives. */
static void test_what_reaches_the_hardware(void **state)
{
	struct rig *rig = *state;

	create(rig);
	assert_int_equal(hardware_command(rig), PCI_CMD_MEMORY | PCI_CMD_IO);
	for (unsigned at = 0; at < PCI_CONFIG_SIZE; at += 4)
		put(rig, at, 4, 0xffffffff);
	for (unsigned at = 0; at < PCI_CONFIG_SIZE; at++)
		if (at != PCI_REG_COMMAND && rig->hardware.config_touched[at])
			fail_msg("the guest's write to 0x%x reached the hardware", at);
	assert_int_equal(rig->hardware.config_touched[PCI_REG_COMMAND],
		PCI_CMD_MEMORY | PCI_CMD_IO | PCI_CMD_MASTER);
	put(rig, PCI_REG_COMMAND, 2, 0);
	assert_int_equal(hardware_command(rig), PCI_CMD_MEMORY | PCI_CMD_IO);
}

static uint64_t place_bar(struct rig *rig, uint64_t address)
{
	put(rig, PCI_REG_COMMAND, 2, 0);
	put(rig, PCI_REG_BAR0, 4, (uint32_t)address);
	put(rig, PCI_REG_BAR0 + 4, 4, (uint32_t)(address >> 32));
	put(rig, PCI_REG_COMMAND, 2, PCI_CMD_MEMORY | PCI_CMD_IO);
	return address;
}

static void test_windows_follow_the_bar(void **state)
{
	struct rig *rig = *state;
	const struct fake_window *window = rig->machine.host.windows;

	create(rig);
	assert_int_equal(fake_host_windows(&rig->machine.host), 0);
	place_bar(rig, 0x1000100000);
	/* All but the pages of the table and the pending bits. */
	assert_int_equal(fake_host_windows(&rig->machine.host), 1);
	assert_int_equal(window->address, 0x1000100000);
	assert_int_equal(window->length, TABLE);
	assert_ptr_equal(window->memory, rig->hardware.memory[0]);
	place_bar(rig, 0x1000200000);
	assert_int_equal(window->address, 0x1000200000);
	put(rig, PCI_REG_COMMAND, 2, 0);
	assert_int_equal(fake_host_windows(&rig->machine.host), 0);
}

static void test_bar_on_memory_is_refused(void **state)
{
	struct rig *rig = *state;
	uint64_t before = pci_misplaced_bars(rig->machine.place.pci);

	create(rig);
	place_bar(rig, 0x100000);
	assert_int_equal(fake_host_windows(&rig->machine.host), 0);
	assert_int_equal(pci_misplaced_bars(rig->machine.place.pci), before + 1);
	place_bar(rig, FAKE_RAM_SIZE - 0x4000); /* its last pages */
	assert_int_equal(fake_host_windows(&rig->machine.host), 0);
	place_bar(rig, 0x1000100000);
	assert_int_equal(fake_host_windows(&rig->machine.host), 1);
}

static void test_trapped_accesses(void **state)
{
	struct rig *rig = *state;
	uint64_t at;

	create(rig);
	at = place_bar(rig, 0x1000100000);
	/* Beside the table in its page: the hardware's; the table itself: never. */
	fake_guest_write(&rig->machine, at + TABLE + 0x800, 4, 0x12345678);
	assert_int_equal(load_le32(rig->hardware.memory[0] + TABLE + 0x800), 0x12345678);
	assert_int_equal(fake_guest_read(&rig->machine, at + TABLE + 0x800, 2), 0x5678);
	fake_guest_write(&rig->machine, at + TABLE, 4, 0xfee00000);
	fake_guest_write(&rig->machine, at + TABLE + 1, 1, 0xff);
	fake_guest_write(&rig->machine, at + TABLE + 16 * VECTORS - 4, 8, UINT64_MAX);
	for (unsigned i = 0; i < 16 * VECTORS + 4; i++)
		assert_int_equal(rig->hardware.memory[0][TABLE + i], 0);
	assert_int_equal(fake_guest_read(&rig->machine, at + TABLE, 4), 0xfee00000);
}

static void enable_msix(struct rig *rig, uint64_t at)
{
	for (unsigned i = 0; i < VECTORS; i++) {
		fake_guest_write(&rig->machine, at + TABLE + 16 * i, 4, 0xfee00000);
		fake_guest_write(&rig->machine, at + TABLE + 16 * i + 8, 4, 0x40 + i);
		fake_guest_write(&rig->machine, at + TABLE + 16 * i + 12, 4, 0);
	}
	put(rig, MSIX + 2, 2, 0x8000);
}

static void test_msix(void **state)
{
	struct rig *rig = *state;
	uint64_t at;

	create(rig);
	at = place_bar(rig, 0x1000100000);
	enable_msix(rig, at);
	assert_int_equal(rig->hardware.kind, VFIO_INTERRUPT_MSIX);
	assert_int_equal(rig->hardware.count, VECTORS);
	fake_function_interrupt(&rig->hardware, 3);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x43), 1);
	/* Masked it waits, and shows. */
	fake_guest_write(&rig->machine, at + TABLE + 16 * 2 + 12, 4, 1);
	fake_function_interrupt(&rig->hardware, 2);
	assert_int_equal(fake_guest_read(&rig->machine, at + PENDING, 8), 1 << 2);
	fake_guest_write(&rig->machine, at + TABLE + 16 * 2 + 12, 4, 0);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x42), 1);
	put(rig, MSIX + 2, 2, 0);
	assert_int_equal(rig->hardware.kind, VFIO_INTERRUPT_INTX);
}

static void test_msi(void **state)
{
	struct rig *rig = *state;

	create(rig);
	put(rig, MSI + 4, 4, 0xfee01000);
	put(rig, MSI + 12, 2, 0x60);
	put(rig, MSI + 2, 2, 0x0011); /* on, two of four */
	assert_int_equal(rig->hardware.kind, VFIO_INTERRUPT_MSI);
	assert_int_equal(rig->hardware.count, 2);
	fake_function_interrupt(&rig->hardware, 1);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x61), 1);
	put(rig, MSI + 12, 2, 0x70); /* the message changes while it is on */
	fake_function_interrupt(&rig->hardware, 0);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x70), 1);
	put(rig, MSI + 2, 2, 0x0071); /* 128 of four */
	assert_int_equal(rig->hardware.count, 4);
	put(rig, MSI + 2, 2, 0);
	assert_int_equal(rig->hardware.count, 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
}

/* A message that the host refuses silences its vector alone, and holds no route. */
static void test_msi_refused(void **state)
{
	struct rig *rig = *state;

	create(rig);
	put(rig, MSI + 4, 4, 0xfee01000);
	put(rig, MSI + 12, 2, 0x60);
	rig->machine.host.attach_error = -ENOMEM;
	put(rig, MSI + 2, 2, 0x0011);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	rig->machine.host.attach_error = 0;
	put(rig, MSI + 12, 2, 0x70);
	put(rig, MSI + 8, 4, 1);
	assert_int_equal(fake_host_attached(&rig->machine.host), 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	put(rig, MSI + 8, 4, 0);
	for (unsigned i = 0; i < 2; i++)
		fake_function_interrupt(&rig->hardware, i);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x70), 1);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x71), 1);
	put(rig, MSI + 2, 2, 0);
}

static bool wait_for_line(struct rig *rig)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (unsigned i = 0; i < FAKE_PATIENCE_MS; i++) {
		if (fake_host_line(&rig->machine.host, pci_slot_gsi(SLOT)))
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

static void test_intx(void **state)
{
	struct rig *rig = *state;
	unsigned gsi = pci_slot_gsi(SLOT);

	create(rig);
	put(rig, PCI_REG_COMMAND, 2, PCI_CMD_MEMORY);
	assert_int_equal(rig->hardware.kind, VFIO_INTERRUPT_INTX);
	fake_host_end_line(&rig->machine.host, gsi); /* somebody else's interrupt */
	assert_int_equal(rig->hardware.unmasks, 0);
	for (unsigned round = 1; round < 4; round++) {
		fake_function_interrupt(&rig->hardware, 0);
		assert_true(wait_for_line(rig));
		fake_host_end_line(&rig->machine.host, gsi);
		assert_false(fake_host_line(&rig->machine.host, gsi));
		assert_int_equal(rig->hardware.unmasks, round);
	}
	put(rig, PCI_REG_COMMAND, 2, PCI_CMD_MEMORY | PCI_CMD_INTX_DISABLE);
	assert_int_equal(rig->hardware.kind, VFIO_INTERRUPT_NONE);
}

/* A guest may reset its machine as often as it likes. */
static void test_failing_resets_are_told_a_few_times(void **state)
{
	struct rig *rig = *state;
	char text[8192] = {0};
	unsigned lines = 0;
	int ends[2], before = dup(STDERR_FILENO);

	create(rig);
	rig->hardware.reset_result = -EIO;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	dup2(ends[1], STDERR_FILENO);
	for (unsigned i = 0; i < 50; i++)
		rig->device->ops->reset(rig->device);
	dup2(before, STDERR_FILENO);
	assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		lines++;
	assert_non_null(strstr(text, "reset of the host's function 0000:01:10.0 failed"));
	assert_int_equal(lines, LOG_GUEST_BURST);
	close(ends[0]);
	close(ends[1]);
	close(before);
}

static void test_reset(void **state)
{
	struct rig *rig = *state;
	unsigned resets;

	create(rig);
	assert_int_equal(rig->hardware.resets, 1);
	enable_msix(rig, place_bar(rig, 0x1000100000));
	put(rig, PCI_REG_COMMAND, 2, PCI_CMD_MEMORY | PCI_CMD_MASTER);
	resets = rig->hardware.resets;
	rig->device->ops->reset(rig->device);
	assert_int_equal(rig->hardware.resets, resets + 1);
	assert_int_equal(rig->hardware.count, 0);
	assert_int_equal(hardware_command(rig), PCI_CMD_MEMORY | PCI_CMD_IO);
	assert_int_equal(fake_host_windows(&rig->machine.host), 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	assert_non_null(strstr(rig->device->ops->unmovable(rig->device), "0000:01:10.0"));
}

static void test_host_without_vectors(void **state)
{
	struct rig *rig = *state;

	create(rig);
	rig->hardware.fail = -ENOSPC;
	put(rig, MSI + 2, 2, 1);
	assert_int_equal(rig->hardware.count, 0);
	rig->hardware.fail = 0;
	put(rig, MSI + 2, 2, 0);
	put(rig, MSI + 2, 2, 1);
	assert_int_equal(rig->hardware.count, 1);
}

/* VFIO says how many it could have had, and sets up none. */
static void test_host_with_few_vectors(void **state)
{
	struct rig *rig = *state;
	uint64_t at = 0x1000100000;

	create(rig);
	rig->hardware.fail = 2;
	enable_msix(rig, place_bar(rig, at));
	assert_int_equal(rig->hardware.count, 2);
	fake_function_interrupt(&rig->hardware, 1);
	assert_int_equal(fake_host_take_msi(&rig->machine.host, 0x41), 1);
	assert_int_equal(((struct vfio_function *)rig->device)->interrupts.failures, 1);
	put(rig, MSIX + 2, 2, 0);
	put(rig, MSI + 2, 2, 0x21); /* four */
	assert_int_equal(rig->hardware.kind, VFIO_INTERRUPT_MSI);
	assert_int_equal(rig->hardware.count, 2);
	assert_int_equal(((struct vfio_function *)rig->device)->interrupts.failures, 2);
}

static void test_odd_hardware(void **state)
{
	struct rig *rig = *state;
	struct error err = {0};

	rig->hardware.config[PCI_REG_HEADER_TYPE] = 1;
	assert_int_equal(try(rig, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "bridge"));
}

static void test_table_outside_its_bar(void **state)
{
	struct rig *rig = *state;
	struct error err = {0};

	store_le32(rig->hardware.config + MSIX + 4, 0x4000);
	assert_int_equal(try(rig, &err), -EINVAL);
	assert_non_null(strstr(err.text, "vfio,host=0000:01:10.0"));
}

/* A chain that bites its tail, and capabilities that lie on each other. */
static void test_chain_that_never_ends(void **state)
{
	struct rig *rig = *state;

	rig->hardware.config[POWER + 1] = MSI;
	rig->hardware.config[MSI + 16] = 0x10;
	rig->hardware.config[EXPRESS + 1] = MSI + 8;
	rig->hardware.config[MSI + 8] = 0x10;
	create(rig);
	assert_int_equal(find_capability(rig, 0x11), MSIX);
	assert_int_equal(find_capability(rig, 0x05), MSI);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_configuration_space, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_reaches_the_hardware, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_windows_follow_the_bar, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bar_on_memory_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_trapped_accesses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_msix, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_msi_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_msi, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_intx, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_failing_resets_are_told_a_few_times, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_host_without_vectors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_host_with_few_vectors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_odd_hardware, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_table_outside_its_bar, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_chain_that_never_ends, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
