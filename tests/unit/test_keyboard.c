/* SPDX-License-Identifier: Apache-2.0 */
/* The keyboard controller and its keyboard, as a driver finds and uses them. */
#include "board_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA       LAYOUT_KEYBOARD_DATA
#define CMD        LAYOUT_KEYBOARD_CMD
#define FULL       0x01
#define INTERRUPT  0x01
#define DISABLED   0x10
#define TRANSLATE  0x40
#define NO_AUX     0x20
#define SYSTEM     0x04
#define ACK        0xfa
#define LINE(rig)  ((rig)->fixture.lines >> LAYOUT_KEYBOARD_GSI & 1)
#define RISES(rig) ((rig)->fixture.rises[LAYOUT_KEYBOARD_GSI])

struct rig {
	struct board_fixture fixture;
	struct device *device;
};

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	fixture_open(&rig->fixture);
	assert_int_equal(keyboard_new(&rig->device, true, &fixture_events, &rig->fixture, NULL), 0);
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->fixture.place, NULL), 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	rig->device->ops->free(rig->device);
	fixture_close(&rig->fixture);
	free(rig);
	return 0;
}

static uint8_t status(struct rig *rig)
{
	return (uint8_t)fixture_in(&rig->fixture, CMD, 1);
}

static void command(struct rig *rig, uint8_t value)
{
	fixture_out(&rig->fixture, CMD, 1, value);
	assert_int_equal(status(rig) & 0x0a, 8); /* taken, and it was a command */
}

static void data(struct rig *rig, uint8_t value)
{
	fixture_out(&rig->fixture, DATA, 1, value);
	assert_int_equal(status(rig) & 0x0a, 0);
}

/* The next byte, which must be there. */
static uint8_t take(struct rig *rig)
{
	assert_true(status(rig) & FULL);
	return (uint8_t)fixture_in(&rig->fixture, DATA, 1);
}

static void expect(struct rig *rig, const uint8_t *bytes, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(take(rig), bytes[i]);
	assert_false(status(rig) & FULL);
}

#define EXPECT(rig, ...)                                                                           \
	do {                                                                                       \
		const uint8_t bytes_[] = {__VA_ARGS__};                                            \
		expect(rig, bytes_, sizeof(bytes_));                                               \
	} while (0)

static void set_config(struct rig *rig, uint8_t value)
{
	command(rig, 0x60);
	data(rig, value);
	command(rig, 0x20);
	assert_int_equal(take(rig), (value & 0x77) | NO_AUX);
}

static void enable(struct rig *rig, uint8_t config)
{
	set_config(rig, config);
	data(rig, 0xf4);
	EXPECT(rig, ACK);
}

/* As Linux's i8042 goes about it. */
static void test_probe(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(status(rig) & 0xf3, 0x10); /* empty, not locked */
	command(rig, 0x20);
	EXPECT(rig, INTERRUPT | SYSTEM | NO_AUX | TRANSLATE);
	command(rig, 0xaa);
	EXPECT(rig, 0x55);
	command(rig, 0xab);
	EXPECT(rig, 0);
	set_config(rig, DISABLED | TRANSLATE);
	/* No auxiliary port: what comes back does not come from one, and its test fails. */
	command(rig, 0xd3);
	data(rig, 0x5a);
	assert_int_equal(status(rig) & 0x21, FULL);
	EXPECT(rig, 0x5a);
	command(rig, 0xa9);
	EXPECT(rig, 1);
	command(rig, 0xa8);
	command(rig, 0x20);
	EXPECT(rig, DISABLED | TRANSLATE | NO_AUX);
	command(rig, 0xd4);
	data(rig, 0xff);
	assert_false(status(rig) & FULL);
	command(rig, 0xc0);
	EXPECT(rig, 0x80);
	command(rig, 0xd0);
	EXPECT(rig, 3);
	command(rig, 0xd2);
	data(rig, 0x77);
	EXPECT(rig, 0x77);
	assert_int_equal(RISES(rig), 3); /* before they were turned off */
	assert_int_equal(rig->fixture.resets, 0);
}

static void test_interface_off(void **state)
{
	struct rig *rig = *state;

	command(rig, 0xad);
	command(rig, 0x20);
	assert_true(take(rig) & DISABLED);
	command(rig, 0xae);
	command(rig, 0x20);
	assert_false(take(rig) & DISABLED);
	/* Whoever writes to the keyboard turns it on. */
	set_config(rig, DISABLED);
	data(rig, 0xee);
	EXPECT(rig, 0xee);
	/* Replies stay with the keyboard meanwhile. */
	data(rig, 0xf2);
	assert_int_equal(take(rig), ACK);
	command(rig, 0xad);
	assert_int_equal(take(rig), 0xab);
	assert_false(status(rig) & FULL);
	command(rig, 0xae);
	EXPECT(rig, 0x83);
}

static void test_keyboard_answers(void **state)
{
	struct rig *rig = *state;

	set_config(rig, 0);
	data(rig, 0xff);
	EXPECT(rig, ACK, 0xaa);
	data(rig, 0xf2);
	EXPECT(rig, ACK, 0xab, 0x83);
	data(rig, 0xed);
	EXPECT(rig, ACK);
	data(rig, 7);
	EXPECT(rig, ACK);
	data(rig, 0xf3);
	EXPECT(rig, ACK);
	data(rig, 0x7f);
	EXPECT(rig, ACK);
	data(rig, 0xf0);
	EXPECT(rig, ACK);
	data(rig, 0);
	EXPECT(rig, ACK, 2);
	data(rig, 0xf0);
	EXPECT(rig, ACK);
	data(rig, 3);
	EXPECT(rig, 0xfe);
	/* A command where an operand should be is one. */
	data(rig, 0xed);
	EXPECT(rig, ACK);
	data(rig, 0xee);
	EXPECT(rig, 0xee);
	data(rig, 0xfe);
	EXPECT(rig, 0xee);
	data(rig, 0x55);
	EXPECT(rig, 0xfe);
	data(rig, 0xf6);
	EXPECT(rig, ACK);
	/* The next command takes back what was not sent. */
	data(rig, 0xf2);
	data(rig, 0xee);
	EXPECT(rig, ACK, 0xee);
	set_config(rig, TRANSLATE);
	data(rig, 0xf2);
	EXPECT(rig, ACK, 0xab, 0x41);
	data(rig, 0xf0);
	EXPECT(rig, ACK);
	data(rig, 0);
	EXPECT(rig, ACK, 0x41);
}

static void test_interrupts(void **state)
{
	struct rig *rig = *state;

	set_config(rig, INTERRUPT);
	assert_int_equal(RISES(rig), 1); /* for the configuration byte */
	data(rig, 0xf2);
	assert_true(LINE(rig));
	/* One for each byte. */
	EXPECT(rig, ACK, 0xab, 0x83);
	assert_int_equal(RISES(rig), 4);
	assert_false(LINE(rig));
	data(rig, 0xee);
	command(rig, 0x60);
	data(rig, 0);
	assert_false(LINE(rig));
	command(rig, 0x60);
	data(rig, INTERRUPT);
	assert_true(LINE(rig));
	EXPECT(rig, 0xee);
}

static void test_ctrl_alt_del(void **state)
{
	struct rig *rig = *state;

	/* Before a driver has enabled it nobody listens. */
	assert_false(keyboard_ctrl_alt_del(rig->device));
	enable(rig, INTERRUPT | TRANSLATE);
	assert_true(keyboard_ctrl_alt_del(rig->device));
	assert_true(LINE(rig));
	EXPECT(rig, 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d);
	enable(rig, INTERRUPT);
	assert_true(keyboard_ctrl_alt_del(rig->device));
	EXPECT(rig, 0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14);
	/* As often as there is room for all of it. */
	for (unsigned i = 0; i < 3; i++)
		assert_true(keyboard_ctrl_alt_del(rig->device));
	assert_false(keyboard_ctrl_alt_del(rig->device));
	/* A reply goes first. */
	assert_int_equal(take(rig), 0x14);
	data(rig, 0xee);
	assert_int_equal(take(rig), 0x11);
	assert_int_equal(take(rig), 0xee);
	assert_int_equal(take(rig), 0xe0);
	data(rig, 0xf5);
	EXPECT(rig, 0x71, ACK);
	assert_false(keyboard_ctrl_alt_del(rig->device));
	enable(rig, 0);
	assert_false(keyboard_ctrl_alt_del(rig->device));
	enable(rig, INTERRUPT);
	command(rig, 0xad);
	assert_false(keyboard_ctrl_alt_del(rig->device));
}

static void test_resets_the_machine(void **state)
{
	struct rig *rig = *state;

	command(rig, 0xff);
	command(rig, 0xd1);
	data(rig, 0xdf);
	assert_int_equal(rig->fixture.resets, 0);
	command(rig, 0xfe);
	assert_int_equal(rig->fixture.resets, 1);
	command(rig, 0xd1);
	data(rig, 0xde);
	assert_int_equal(rig->fixture.resets, 2);
	/* No timer chip, here either. */
	assert_int_equal(fixture_in(&rig->fixture, LAYOUT_PIT + 2, 1), 0);
}

static void *press(void *opaque)
{
	return keyboard_ctrl_alt_del(opaque) ? opaque : NULL;
}

static struct device *pressed;

/* Reads a word of the guest's, and may have to wait for it: the main thread presses keys
 * meanwhile. */
static void press_meanwhile(void *opaque)
{
	struct board_fixture *fixture = opaque;
	pthread_t thread;
	void *listens = NULL;

	fixture->resets++;
	assert_int_equal(pthread_create(&thread, NULL, press, pressed), 0);
	pthread_join(thread, &listens);
	assert_non_null(listens);
}

static void test_who_presses_keys_does_not_wait_for_a_reset(void **state)
{
	static const struct power_events events = {.reset = press_meanwhile};
	struct rig rig;

	fixture_open(&rig.fixture);
	assert_int_equal(keyboard_new(&rig.device, true, &events, &rig.fixture, NULL), 0);
	assert_int_equal(rig.device->ops->realize(rig.device, &rig.fixture.place, NULL), 0);
	pressed = rig.device;
	/* It would wait for ever. */
	alarm(20);
	data(&rig, 0xf4); /* enable */
	assert_int_equal(take(&rig), ACK);
	command(&rig, 0xfe);
	command(&rig, 0xd1);
	data(&rig, 0xfe);
	alarm(0);
	assert_int_equal(rig.fixture.resets, 2);
	rig.device->ops->free(rig.device);
	fixture_close(&rig.fixture);
}

static void test_reset(void **state)
{
	struct rig *rig = *state;

	enable(rig, INTERRUPT);
	assert_true(keyboard_ctrl_alt_del(rig->device));
	rig->device->ops->reset(rig->device);
	assert_false(status(rig) & FULL);
	assert_false(keyboard_ctrl_alt_del(rig->device));
	command(rig, 0x20);
	EXPECT(rig, INTERRUPT | SYSTEM | NO_AUX | TRANSLATE);
}

/* In the middle of the keys, and of a command. */
static void test_moves(void **state)
{
	struct rig *rig = *state, *other;

	set_up((void **)&other);
	enable(rig, INTERRUPT | TRANSLATE);
	assert_true(keyboard_ctrl_alt_del(rig->device));
	assert_int_equal(take(rig), 0x1d);
	command(rig, 0x60);
	assert_int_equal(fixture_move(rig->device, other->device), 0);
	data(other, INTERRUPT | TRANSLATE);
	EXPECT(other, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d);
	assert_true(keyboard_ctrl_alt_del(other->device));
	tear_down((void **)&other);
}

static void test_refuses_broken_state(void **state)
{
	uint8_t bytes[64] = {0};
	struct state_reader reader = {
		.bytes = bytes, .length = 64, .section_end = 64, .version = 1};
	struct rig *rig = *state;
	struct error err = {0};

	bytes[9] = 5; /* replies */
	assert_int_equal(rig->device->ops->restore(rig->device, &reader, &err), -EINVAL);
	assert_string_equal(err.text, "saved keyboard is broken");
	reader = (struct state_reader){.bytes = bytes, .length = 9, .section_end = 9, .version = 1};
	assert_int_equal(rig->device->ops->restore(rig->device, &reader, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_probe, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_interface_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keyboard_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_interrupts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ctrl_alt_del, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_resets_the_machine, set_up, tear_down),
		cmocka_unit_test(test_who_presses_keys_does_not_wait_for_a_reset),
		cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_moves, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refuses_broken_state, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
