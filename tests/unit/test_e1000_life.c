/* SPDX-License-Identifier: Apache-2.0 */
/* An 82540EM from its creation to its end: never realized, reset, saved and restored. */
#include "board_fixture.h"
#include "device_stats.h"
#include "e1000_rig.h"
#include "late_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Half a packet does not live on over a reset; in a moved machine it does. */
static void test_reset_and_save(void **state)
{
	uint8_t got[200];
	struct e1000_rig rig, other;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	card_describe(&rig, CARD_TX_DATA, 50, 0, 0);
	card_go(&rig);
	card_settle(&rig);
	card_put(&rig, E1000_CTRL, CTRL_RST);
	card_rings_up(&rig, 0);
	card_pattern(rig.machine.ram + CARD_TX_DATA, 200, 2);
	card_describe(&rig, CARD_TX_DATA, 50, 0, 0);
	card_go(&rig);
	card_settle(&rig);
	card_put(&rig, E1000_IMS, 4);
	card_put(&rig, E1000_ICS, 4);
	fake_stop(rig.device);
	e1000_rig_init(&other);
	fake_stop(other.device);
	assert_int_equal(fixture_move(rig.device, other.device), 0);
	memcpy(other.machine.ram, rig.machine.ram, FAKE_RAM_SIZE);
	assert_int_equal(other.device->ops->start(other.device, NULL), 0);
	assert_true(fake_host_line(&other.machine.host, pci_slot_gsi(CARD_SLOT)));
	assert_int_equal(card_get(&other, E1000_ICR) & 4, 4);
	other.transmit_tail = rig.transmit_tail;
	card_describe(&other, CARD_TX_DATA + 50, 100 | EOP_RS, 0, 0);
	card_go(&other);
	assert_int_equal(network_takes(&other, got, sizeof(got)), 150);
	assert_memory_equal(got, other.machine.ram + CARD_TX_DATA, 150);
	assert_int_equal(rig.device->ops->start(rig.device, NULL), 0);
	e1000_rig_free(&other);
	e1000_rig_free(&rig);
}

/* Its descriptor is done, and who waits for that would wait for ever. */
static void test_save_tells_of_a_frame_that_waits(void **state)
{
	struct e1000_rig rig, other;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	/* More than the back end takes while nobody reads. */
	for (unsigned i = 0; i < CARD_COUNT - 1; i++)
		card_describe(&rig, CARD_TX_DATA, 60000 | EOP_RS, 0, 0);
	card_go(&rig);
	card_settle(&rig);
	assert_int_not_equal(card_get(&rig, E1000_TDH), card_get(&rig, E1000_TDT));
	assert_true(card_transmit_descriptor(&rig, card_get(&rig, E1000_TDH) + CARD_COUNT - 1)[12] &
		    TXD_DD);
	card_get(&rig, E1000_ICR);
	fake_stop(rig.device);
	assert_int_equal(card_get(&rig, E1000_ICR), 0);
	e1000_rig_init(&other);
	fake_stop(other.device);
	assert_int_equal(fixture_move(rig.device, other.device), 0);
	assert_int_equal(card_get(&other, E1000_ICR), ICR_TXDW);
	e1000_rig_free(&other);
	e1000_rig_free(&rig);
}

/* By the linker's --wrap. */
int __real_memory_write(const struct memory *memory, gpa_t gpa, const void *from, size_t length);
int __wrap_memory_write(const struct memory *memory, gpa_t gpa, const void *from, size_t length);

int __wrap_memory_write(const struct memory *memory, gpa_t gpa, const void *from, size_t length)
{
	late_page_write();
	return __real_memory_write(memory, gpa, from, length);
}

static void count_nothing(
	struct stats_sink *sink, const char *group, const char *name, uint64_t value)
{
}

/* Whoever ends the machine, or looks at it, goes on meanwhile; at rest it is only afterwards. */
static void test_buffer_that_is_yet_to_come(void **state)
{
	struct stats_sink sink = {.count = count_nothing};
	uint8_t frame[100] = {2, 0, 0, 1, 2, 3};
	struct fake_rest rest;
	struct e1000_rig rig;
	uint16_t length;

	e1000_rig_init(&rig);
	card_rings_up(&rig, 0);
	late_page_begin();
	network_sends(&rig, frame, sizeof(frame));
	late_page_await();
	rig.device->ops->stats(rig.device, &sink);
	fake_rest_ask(&rest, rig.device);
	assert_false(fake_rest_is_reached(&rest));
	late_page_come();
	fake_rest_await(&rest, rig.device);
	card_await_receive(&rig, &length);
	assert_int_equal(device_stat(rig.device, NULL, "frames_received"), 1);
	assert_int_equal(rig.device->ops->start(rig.device, NULL), 0);
	e1000_rig_free(&rig);
}

static void test_never_realized(void **state)
{
	struct e1000_rig rig = {0};

	e1000_rig_make(&rig);
	rig.device->ops->free(rig.device);
	close(rig.other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_and_save),
		cmocka_unit_test(test_save_tells_of_a_frame_that_waits),
		cmocka_unit_test(test_buffer_that_is_yet_to_come),
		cmocka_unit_test(test_never_realized),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
