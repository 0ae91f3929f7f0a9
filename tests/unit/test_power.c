/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest that restarts, panics or faults means for its machine: told by a word in its memory.
 */
#include "base/bytes.h"
#include "machine/internal.h"
#include "x86/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WORD 0x472

/* A machine with memory and a life, but without vCPUs. */
static int set_up(void **state)
{
	static const struct lifecycle_ops ops;
	struct machine *machine = calloc(1, sizeof(*machine));
	struct loop *loop;

	assert_non_null(machine);
	assert_int_equal(loop_new(&loop, 8, NULL), 0);
	lifecycle_init(&machine->life, &ops, loop, &machine->devices);
	gate_init(&machine->gate);
	memory_init(&machine->memory);
	assert_int_equal(
		memory_add(&machine->memory, GPA(0), 1 << 20, MEMORY_ANONYMOUS, "low", NULL), 0);
	assert_int_equal(machine_prepare_restart(machine, NULL), 0);
	*state = machine;
	return 0;
}

static int tear_down(void **state)
{
	struct machine *machine = *state;
	struct loop *loop = machine->life.loop;

	lifecycle_destroy(&machine->life);
	gate_destroy(&machine->gate);
	memory_free(&machine->memory);
	loop_free(loop);
	free(machine);
	return 0;
}

/* As Linux does before it restarts. */
static void announce(struct machine *machine, uint16_t word)
{
	uint8_t bytes[2];

	store_le16(bytes, word);
	assert_int_equal(memory_write(&machine->memory, GPA(WORD), bytes, sizeof(bytes)), 0);
}

static void expect(struct machine *machine, enum machine_end end, const char *words)
{
	const char *why;

	assert_int_equal(machine_outcome(machine, &why), end);
	assert_non_null(strstr(why, words));
	assert_false(machine->life.reset_asked);
}

static void test_reset(void **state)
{
	struct machine *machine = *state;

	announce(machine, 0);
	machine_power_events.reset(machine);
	assert_true(machine->life.reset_asked);
}

/* A reset by hardware that no kernel announced. */
static void test_reset_unannounced(void **state)
{
	struct machine *machine = *state;

	machine_power_events.reset(machine);
	assert_true(machine->life.reset_asked);
}

static void test_panic(void **state)
{
	struct machine *machine = *state;

	announce(machine, 0x1234);
	machine_power_events.reset(machine);
	expect(machine, MACHINE_PANICKED, "panicked");
}

static void test_triple_fault(void **state)
{
	struct machine *machine = *state;

	machine_triple_fault(machine, 3);
	expect(machine, MACHINE_TRIPLE_FAULT, "vCPU 3 shut down");
}

static void test_triple_fault_that_was_announced(void **state)
{
	struct machine *machine = *state;

	announce(machine, 0);
	machine_triple_fault(machine, 0);
	assert_true(machine->life.reset_asked);
}

static void test_triple_fault_by_which_it_exits(void **state)
{
	struct machine *machine = *state;

	machine->config.on_reset = RESET_EXIT;
	announce(machine, 0);
	machine_triple_fault(machine, 0);
	expect(machine, MACHINE_RESET, "asked for a reset");
}

static void test_triple_fault_of_a_panic(void **state)
{
	struct machine *machine = *state;

	announce(machine, 0x1234);
	machine_triple_fault(machine, 0);
	expect(machine, MACHINE_PANICKED, "panicked");
}

/* Who jumps to the BIOS finds two instructions that pulse the keyboard controller's reset line. */
static void test_reset_vector(void **state)
{
	static const uint8_t code[] = {0xb0, 0xfe, 0xe6, LAYOUT_KEYBOARD_CMD};
	struct machine *machine = *state;
	uint8_t found[sizeof(code)];

	assert_int_equal(memory_read(&machine->memory, GPA(0xffff0), found, sizeof(found)), 0);
	assert_memory_equal(found, code, sizeof(code));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reset),
		TEST(test_reset_unannounced),
		TEST(test_panic),
		TEST(test_triple_fault),
		TEST(test_triple_fault_that_was_announced),
		TEST(test_triple_fault_by_which_it_exits),
		TEST(test_triple_fault_of_a_panic),
		TEST(test_reset_vector),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
