/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "board_fixture.h"

#define LEVEL      0x8000U
#define REMOTE_IRR 0x4000U
#define MASKED     0x10000U

struct chip {
	struct board_fixture fixture;
	struct device *device;
	unsigned sent;
	uint64_t address;
	uint32_t data;
	uint64_t route_address[24];
	uint32_t route_data[24];
	bool route_masked[24];
	int route_error;   /* what set_route() returns */
	uint32_t ended;    /* pins */
	bool lower_at_end; /* as a device does that asks its hardware anew */
};

static int send_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct chip *chip = opaque;

	chip->sent++;
	chip->address = address;
	chip->data = data;
	return 0;
}

static int set_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked)
{
	struct chip *chip = opaque;

	chip->route_address[pin] = address;
	chip->route_data[pin] = data;
	chip->route_masked[pin] = masked;
	return chip->route_error;
}

static void pin_ended(void *opaque, unsigned pin)
{
	struct chip *chip = opaque;

	chip->ended |= 1U << pin;
	if (chip->lower_at_end)
		ioapic_set_line(chip->device, pin, false);
}

static int set_up(void **state)
{
	struct chip *chip = calloc(1, sizeof(*chip));
	const struct ioapic_host host = {.send_msi = send_msi,
		.set_route = set_route,
		.pin_ended = pin_ended,
		.opaque = chip};

	fixture_open(&chip->fixture);
	assert_int_equal(ioapic_new(&chip->device, &host, NULL), 0);
	assert_int_equal(chip->device->ops->realize(chip->device, &chip->fixture.place, NULL), 0);
	chip->device->ops->reset(chip->device);
	*state = chip;
	return 0;
}

static int tear_down(void **state)
{
	struct chip *chip = *state;

	chip->device->ops->free(chip->device);
	fixture_close(&chip->fixture);
	free(chip);
	return 0;
}

static void put(struct chip *chip, unsigned index, uint32_t value)
{
	bus_write(chip->fixture.place.mmio, LAYOUT_IOAPIC, 4, index);
	bus_write(chip->fixture.place.mmio, LAYOUT_IOAPIC + 0x10, 4, value);
}

static uint32_t get(struct chip *chip, unsigned index)
{
	uint64_t value;

	bus_write(chip->fixture.place.mmio, LAYOUT_IOAPIC, 4, index);
	bus_read(chip->fixture.place.mmio, LAYOUT_IOAPIC + 0x10, 4, &value);
	return (uint32_t)value;
}

static void test_registers(void **state)
{
	struct chip *chip = *state;

	assert_int_equal(get(chip, 1), 0x170020);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_int_equal(get(chip, 0x10 + 2 * pin), MASKED);
	put(chip, 0, 0xffffffff);
	assert_int_equal(get(chip, 0), 0x0f000000);
	put(chip, 0x10, 0xffffffff);
	put(chip, 0x11, 0xffffffff);
	assert_int_equal(get(chip, 0x10), 0x1afff); /* not: status, remote IRR, reserved */
	assert_int_equal(get(chip, 0x11), 0xff000000);
	put(chip, 0x40, 0); /* beyond the last pin */
	assert_int_equal(get(chip, 0xff), 0);
}

static void test_edge(void **state)
{
	struct chip *chip = *state;

	ioapic_set_line(chip->device, 4, true); /* masked: lost */
	ioapic_set_line(chip->device, 4, false);
	put(chip, 0x19, 3U << 24);
	put(chip, 0x18, 0x800 | 0x100 | 0x31); /* logical, lowest priority */
	assert_int_equal(chip->sent, 0);
	ioapic_set_line(chip->device, 4, true);
	ioapic_set_line(chip->device, 4, true);
	assert_int_equal(chip->sent, 1);
	assert_int_equal(chip->address, 0xfee00000 | 3 << 12 | 1 << 3 | 1 << 2);
	assert_int_equal(chip->data, 0x131);
	assert_int_equal(get(chip, 0x18) & REMOTE_IRR, 0);
	ioapic_set_line(chip->device, 4, false);
	ioapic_set_line(chip->device, 4, true);
	assert_int_equal(chip->sent, 2);
	ioapic_set_line(chip->device, 24, true); /* no such pin */
}

static void test_level(void **state)
{
	struct chip *chip = *state;

	ioapic_set_line(chip->device, 9, true);
	put(chip, 0x22, LEVEL | 0x41);
	assert_int_equal(chip->sent, 1); /* the level was up when the mask went */
	assert_int_equal(chip->data, 0xc041);
	assert_int_equal(chip->route_data[9], 0xc041);
	assert_false(chip->route_masked[9]);
	assert_int_equal(get(chip, 0x22), LEVEL | REMOTE_IRR | 0x41);
	ioapic_set_line(chip->device, 9, false);
	ioapic_set_line(chip->device, 9, true);
	assert_int_equal(chip->sent, 1); /* in service */
	ioapic_eoi(chip->device, 0x42);
	assert_int_equal(chip->sent, 1); /* another's */
	ioapic_eoi(chip->device, 0x41);
	assert_int_equal(chip->sent, 2); /* still up */
	ioapic_set_line(chip->device, 9, false);
	ioapic_eoi(chip->device, 0x41);
	assert_int_equal(chip->sent, 2);
	assert_int_equal(get(chip, 0x22), LEVEL | 0x41);
}

static void test_eoi_register_and_edge_switch(void **state)
{
	struct chip *chip = *state;

	put(chip, 0x22, LEVEL | 0x41);
	ioapic_set_line(chip->device, 9, true);
	ioapic_set_line(chip->device, 9, false);
	bus_write(chip->fixture.place.mmio, LAYOUT_IOAPIC + 0x40, 4, 0x41);
	assert_int_equal(get(chip, 0x22) & REMOTE_IRR, 0);
	ioapic_set_line(chip->device, 9, true);
	put(chip, 0x22, MASKED | 0x41); /* edge: as drivers clear it without an EOI register */
	put(chip, 0x22, MASKED | LEVEL | 0x41);
	assert_int_equal(get(chip, 0x22), MASKED | LEVEL | 0x41);
	assert_true(chip->route_masked[9]);
	assert_int_equal(chip->sent, 2);
}

/* A driver writes another vector while the old one is in service: its end is still told to KVM and
 * counts, the next interrupt has the new one. */
static void test_vector_rewritten_while_in_service(void **state)
{
	struct chip *chip = *state;

	put(chip, 0x22, LEVEL | 0x41);
	ioapic_set_line(chip->device, 9, true);
	put(chip, 0x22, MASKED | LEVEL | 0x41);
	put(chip, 0x23, 2U << 24);
	put(chip, 0x22, LEVEL | 0x51);
	assert_int_equal(get(chip, 0x22), LEVEL | REMOTE_IRR | 0x51);
	assert_int_equal(chip->route_data[9], 0xc041);
	assert_int_equal(chip->route_address[9], 0xfee00000);
	assert_false(chip->route_masked[9]);
	ioapic_eoi(chip->device, 0x51); /* another pin's */
	assert_int_equal(chip->sent, 1);
	ioapic_eoi(chip->device, 0x41);
	assert_int_equal(chip->ended, 1U << 9);
	assert_int_equal(chip->sent, 2);
	assert_int_equal(chip->data, 0xc051);
	assert_int_equal(chip->address, 0xfee02000);
	assert_int_equal(chip->route_data[9], 0xc051);
	/* The register takes the vector that a driver reads in the entry, too. */
	put(chip, 0x22, LEVEL | 0x61);
	ioapic_set_line(chip->device, 9, false);
	bus_write(chip->fixture.place.mmio, LAYOUT_IOAPIC + 0x40, 4, 0x61);
	assert_int_equal(get(chip, 0x22), LEVEL | 0x61);
	assert_int_equal(chip->route_data[9], 0xc061);
}

static void test_move_of_a_rewritten_vector(void **state)
{
	struct chip *from = *state;
	struct chip *to;

	set_up((void **)&to);
	put(from, 0x22, LEVEL | 0x41);
	ioapic_set_line(from->device, 9, true);
	put(from, 0x22, LEVEL | 0x51);
	assert_int_equal(fixture_move(from->device, to->device), 0);
	assert_int_equal(to->route_data[9], 0xc041);
	ioapic_eoi(to->device, 0x41);
	assert_int_equal(to->data, 0xc051);
	assert_int_equal(to->sent, 1);
	tear_down((void **)&to);
}

static void test_move(void **state)
{
	struct chip *from = *state;
	struct chip *to;

	set_up((void **)&to);
	put(from, 0x23, 2U << 24);
	put(from, 0x22, LEVEL | 0x41);
	ioapic_set_line(from->device, 9, true);
	assert_int_equal(fixture_move(from->device, to->device), 0);
	assert_int_equal(get(to, 0x22), LEVEL | REMOTE_IRR | 0x41);
	assert_int_equal(to->route_data[9], 0xc041);
	assert_int_equal(to->sent, 0);
	ioapic_eoi(to->device, 0x41);
	assert_int_equal(to->sent, 1); /* the line is still up */
	tear_down((void **)&to);
}

/* The end is told before the level is looked at, and only to pins that were in service. */
static void test_end_is_told(void **state)
{
	struct chip *chip = *state;

	put(chip, 0x22, LEVEL | 0x41);
	put(chip, 0x24, LEVEL | 0x41);
	ioapic_set_line(chip->device, 9, true);
	ioapic_eoi(chip->device, 0x40);
	assert_int_equal(chip->ended, 0);
	ioapic_eoi(chip->device, 0x41);
	assert_int_equal(chip->ended, 1U << 9);
	assert_int_equal(chip->sent, 2);
	chip->lower_at_end = true;
	bus_write(chip->fixture.place.mmio, LAYOUT_IOAPIC + 0x40, 4, 0x41);
	assert_int_equal(chip->sent, 2);
	assert_int_equal(get(chip, 0x22) & REMOTE_IRR, 0);
}

/* The end of a level-triggered interrupt without a route would never be told. */
static void test_route_refused(void **state)
{
	struct chip *chip = *state;

	chip->route_error = -EINVAL;
	put(chip, 0x10 + 2 * 9, LEVEL | 0x31);
	for (unsigned i = 1; i <= 2; i++) {
		ioapic_set_line(chip->device, 9, true);
		assert_int_equal(chip->sent, i);
		assert_int_equal(get(chip, 0x10 + 2 * 9) & REMOTE_IRR, 0);
		ioapic_set_line(chip->device, 9, false);
	}
	/* Tried anew each time. */
	chip->route_error = 0;
	ioapic_set_line(chip->device, 9, true);
	assert_int_equal(chip->sent, 3);
	assert_int_equal(get(chip, 0x10 + 2 * 9) & REMOTE_IRR, REMOTE_IRR);
	ioapic_eoi(chip->device, 0x31);
	assert_int_equal(chip->sent, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_edge, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_level, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_eoi_register_and_edge_switch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_vector_rewritten_while_in_service, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_move_of_a_rewritten_vector, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_move, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_route_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
