/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that changes under a driver's queues while the device is at rest: rings go on where they
 * are now, what has come can be used, what has gone is the driver's fault to use. */
#include "transport_rig.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define ROUNDS    8
#define MORE      (1ULL << 32) /* a region that comes and goes */
#define MORE_SIZE 0x10000ULL

static const uint64_t kinds[] = {FEATURES_ALL, FEATURES_ALL | FEATURE_PACKED};

static void *map(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

static void serve(struct transport_rig *rig)
{
	transport_request(rig, 0);
	transport_expect_answer(rig, 0);
	transport_request(rig, 1);
	transport_expect_answer(rig, 1);
}

/* RAM's first @size bytes, the same bytes at another place of this process. What is touched at the
 * old one is a crash. */
static void move_ram(struct transport_rig *rig, uint8_t *old[], unsigned round, uint64_t size)
{
	uint8_t *new = map(FAKE_RAM_SIZE);

	memcpy(new, rig->machine.ram, FAKE_RAM_SIZE);
	assert_int_equal(memory_remove(&rig->machine.memory, GPA(0)), 0);
	assert_int_equal(memory_add_fixed(&rig->machine.memory, GPA(0), size, new), 0);
	old[round] = rig->machine.ram;
	assert_int_equal(mprotect(old[round], FAKE_RAM_SIZE, PROT_NONE), 0);
	rig->machine.ram = new;
}

static void drop(uint8_t *old[], unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		munmap(old[i], FAKE_RAM_SIZE);
}

static void test_rings_go_on_where_they_are_now(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		uint8_t *old[ROUNDS];
		struct transport_rig rig;
		struct error err;

		transport_rig_init(&rig);
		transport_up(&rig, kinds[kind], 2, true);
		for (unsigned round = 0; round < ROUNDS; round++) {
			serve(&rig);
			fake_stop(rig.device);
			move_ram(&rig, old, round, FAKE_RAM_SIZE);
			transport_request(&rig, 1);
			assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
			transport_expect_answer(&rig, 1);
		}
		serve(&rig);
		assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
		transport_rig_free(&rig);
		drop(old, ROUNDS);
	}
}

static void test_rings_that_are_gone(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		uint8_t *old[2];
		struct transport_rig rig;
		struct error err;

		transport_rig_init(&rig);
		transport_up(&rig, kinds[kind], 2, true);
		serve(&rig);
		fake_stop(rig.device);
		move_ram(&rig, old, 0, TRANSPORT_RINGS);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
		transport_await_status(&rig, STATUS_NEEDS_RESET | 4);
		assert_true(fake_host_wait_msi(&rig.machine.host, 0x100));
		driver_kick(&rig.driver, 0);
		/* Where there is room again, the next driver is served. */
		fake_stop(rig.device);
		move_ram(&rig, old, 1, FAKE_RAM_SIZE);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
		assert_int_equal(
			driver_read(&rig.driver, COMMON_STATUS, 1), 15 | STATUS_NEEDS_RESET);
		transport_up(&rig, kinds[kind], 2, true);
		serve(&rig);
		transport_rig_free(&rig);
		drop(old, 2);
	}
}

static void offer_there(struct transport_rig *rig)
{
	const struct ring_buffer buffer = {MORE + 16, 32, true};

	assert_true(ring_driver_offer(&rig->rings[0], &buffer, 1, false, 5));
	driver_kick(&rig->driver, 0);
}

static void test_a_region_comes_and_goes(void **state)
{
	uint8_t *more = map(MORE_SIZE);

	(void)state;
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct transport_rig rig;
		struct error err;
		uint32_t written;
		uint64_t token;

		transport_rig_init(&rig);
		transport_up(&rig, kinds[kind], 2, true);
		serve(&rig);
		fake_stop(rig.device);
		assert_int_equal(
			memory_add_fixed(&rig.machine.memory, GPA(MORE), MORE_SIZE, more), 0);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
		memset(more, 0, MORE_SIZE);
		offer_there(&rig);
		assert_true(driver_await(&rig.rings[0], &token, &written));
		assert_int_equal(written, 32);
		assert_true(more[15] == 0 && more[16] == 0x5a && more[47] == 0x5a && more[48] == 0);
		fake_stop(rig.device);
		assert_int_equal(memory_remove(&rig.machine.memory, GPA(MORE)), 0);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
		serve(&rig);
		memset(more, 0, MORE_SIZE);
		offer_there(&rig);
		transport_await_status(&rig, STATUS_NEEDS_RESET | 4);
		assert_int_equal(more[16], 0);
		transport_rig_free(&rig);
	}
	munmap(more, MORE_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rings_go_on_where_they_are_now),
		cmocka_unit_test(test_rings_that_are_gone),
		cmocka_unit_test(test_a_region_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
