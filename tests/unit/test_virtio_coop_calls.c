/* SPDX-License-Identifier: Apache-2.0 */
/* Fast calls of the cooperation device, and the version without which there are none. */
#include "coop_rig.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void agrees_on_a_version(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	const uint64_t none[5] = {42};

	/* No driver yet, none that has said its version, one that speaks another. */
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	coop_rig_up(rig, COOP_F_ALL, 0);
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	assert_int_equal(coop_rig_request_one(rig, DUET_COOP_NOP, none), -DUET_COOP_EPERM);
	coop_rig_set_version(rig, DUET_COOP_VERSION + 1);
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	assert_int_equal(coop_rig_request_one(rig, DUET_COOP_NOP, none), -DUET_COOP_EPERM);
	coop_rig_set_version(rig, DUET_COOP_VERSION);
	assert_int_equal(coop_rig_config(rig, COOP_FIELD(driver_version), 4), DUET_COOP_VERSION);
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_NOP, 42, 0), 0);
	assert_int_equal(coop_rig_request_one(rig, DUET_COOP_NOP, none), 0);
	assert_int_equal(coop_rig_answer(rig, 0)->values[0], 42);
	/* Nothing else of the configuration can be written. */
	fake_guest_write(&rig->device.machine, rig->device.driver.config, 4, 5);
	assert_int_equal(coop_rig_config(rig, COOP_FIELD(version), 4), DUET_COOP_VERSION);
	assert_true(driver_reset(&rig->device.driver));
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	coop_rig_free(rig);
}

static void calls_fast(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL, 1);
	for (unsigned i = 0; i < COOP_RIG_VCPUS; i++) {
		assert_int_equal(coop_rig_call(rig, i, DUET_COOP_NOP, 42 + i, 0), 0);
		assert_int_equal(coop_rig_page(rig, i)->call.values[0], 42 + i);
	}
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_SHARE, 0, 0), -DUET_COOP_ENOSYS);
	assert_int_equal(coop_rig_call(rig, 1, 77, 0, 0), -DUET_COOP_ENOSYS);
	assert_int_equal(coop_rig_call(rig, 1, UINT32_MAX, 0, 0), -DUET_COOP_ENOSYS);
	assert_int_equal(coop_rig_counted(rig, "calls", "nop"), COOP_RIG_VCPUS);
	assert_int_equal(coop_rig_counted(rig, "calls", "refused"), 3);
	/* Another one's page, a vCPU that is not, another width: nothing happens. */
	coop_rig_page(rig, 1)->call.status = 1;
	coop_rig_ring(rig, 1, 2);
	rig->host.current = 0;
	coop_rig_ring(rig, 1, 1);
	coop_rig_ring(rig, 200, 1);
	assert_int_equal(coop_rig_page(rig, 1)->call.status, 1);
	coop_rig_free(rig);
}

static void yields(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL & ~COOP_F(YIELD), 1);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_YIELD, 2, 500), -DUET_COOP_EPERM);
	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_YIELD, 2, 500), 0);
	assert_int_equal(rig->host.last[0], 1);
	assert_int_equal(rig->host.last[1], 2);
	assert_int_equal(rig->host.last[2], 500);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_YIELD, 1, 0), -DUET_COOP_EINVAL);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_YIELD, 1ULL << 32, 0), -DUET_COOP_EINVAL);
	rig->host.fails = -EAGAIN;
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_YIELD, 0, 0), -DUET_COOP_EAGAIN);
	rig->host.fails = -EDOM;
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_YIELD, 0, 0), -DUET_COOP_EIO);
	coop_rig_free(rig);
}

static void counts(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	uint64_t name;

	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_OPEN, DUET_COOP_COUNTERS, 0),
		-DUET_COOP_EINVAL);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_OPEN, 2, 0), 0);
	name = coop_rig_page(rig, 1)->call.values[0];
	rig->host.count = 5000;
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_READ, name, 0), 0);
	assert_int_equal(name, 1102);
	assert_int_equal(coop_rig_page(rig, 1)->call.values[0], 6102);
	assert_int_equal(coop_rig_page(rig, 1)->call.values[1], 1);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_READ, 0, 0), -DUET_COOP_EINVAL);
	/* It is that vCPU's alone. */
	assert_int_equal(
		coop_rig_call(rig, 0, DUET_COOP_COUNTER_CLOSE, name, 0), -DUET_COOP_EINVAL);
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_COUNTER_CLOSE, 0, 0), -DUET_COOP_EINVAL);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_CLOSE, name, 0), 0);
	assert_int_equal(
		coop_rig_call(rig, 1, DUET_COOP_COUNTER_CLOSE, name, 0), -DUET_COOP_EINVAL);
	assert_int_equal(rig->host.open, 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_OPEN, 0, 0), 0);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_OPEN, 0, 0), -DUET_COOP_ENOSPC);
	rig->host.fails = -EMFILE;
	assert_int_equal(coop_rig_call(rig, 2, DUET_COOP_COUNTER_OPEN, 0, 0), -DUET_COOP_ENOSPC);
	rig->host.fails = 0;
	/* A new driver does not meet the old one's; its first call clears up. */
	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(rig->host.open, 16);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_NOP, 0, 0), 0);
	assert_int_equal(rig->host.open, 0);
	assert_int_equal(coop_rig_call(rig, 2, DUET_COOP_COUNTER_OPEN, 0, 0), 0);
	coop_rig_free(rig);
}

static int batch(struct coop_rig *rig, uint64_t requests, uint64_t answers, uint64_t count)
{
	coop_rig_page(rig, 1)->call.arguments[2] = count;
	return coop_rig_call(rig, 1, DUET_COOP_BATCH, requests, answers);
}

/* As by the queue, which is not asked for it. */
static void calls_in_batches(void **state)
{
	const struct duet_coop_request three[3] = {{.function = DUET_COOP_NOP, .arguments = {70}},
		{.function = DUET_COOP_BATCH}, {.function = DUET_COOP_SHARE}};
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	memcpy(device_rig_at(&rig->device, COOP_RIG_DATA), three, sizeof(three));
	memset(device_rig_at(&rig->device, COOP_RIG_ANSWERS), 0xee, 4096);
	assert_int_equal(batch(rig, COOP_RIG_DATA, COOP_RIG_ANSWERS, 3), -DUET_COOP_EPERM);
	coop_rig_up(rig, COOP_F_ALL & ~COOP_F(HINTS), 1);
	assert_int_equal(batch(rig, COOP_RIG_DATA, COOP_RIG_ANSWERS, 3), 0);
	assert_int_equal(coop_rig_page(rig, 1)->call.values[0], 3);
	assert_int_equal(coop_rig_answer(rig, 0)->status, 0);
	assert_int_equal(coop_rig_answer(rig, 0)->values[0], 70);
	assert_int_equal(coop_rig_answer(rig, 1)->status, -DUET_COOP_ENOSYS);
	assert_int_equal(coop_rig_answer(rig, 2)->status, -DUET_COOP_EPERM);
	assert_int_equal(coop_rig_answer(rig, 3)->status, (int)0xeeeeeeee);
	assert_int_equal(coop_rig_counted(rig, "calls", "batch"), 1);
	assert_int_equal(coop_rig_counted(rig, "calls", "nop"), 1);
	coop_rig_free(rig);
}

static void refuses_bad_batches(void **state)
{
	static const uint64_t end = FAKE_RAM_SIZE - sizeof(struct duet_coop_request);
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(batch(rig, COOP_RIG_DATA, COOP_RIG_ANSWERS, 0), -DUET_COOP_EINVAL);
	assert_int_equal(batch(rig, COOP_RIG_DATA, COOP_RIG_ANSWERS, DUET_COOP_BATCH_MAX + 1),
		-DUET_COOP_EINVAL);
	assert_int_equal(batch(rig, COOP_RIG_DATA, COOP_RIG_ANSWERS, ~0ULL), -DUET_COOP_EINVAL);
	assert_int_equal(batch(rig, end, COOP_RIG_ANSWERS, 1), 0);
	assert_int_equal(batch(rig, end, COOP_RIG_ANSWERS, 2), -DUET_COOP_EFAULT);
	assert_int_equal(batch(rig, COOP_RIG_DATA, end, 2), -DUET_COOP_EFAULT);
	assert_int_equal(batch(rig, ~0ULL - 20, COOP_RIG_ANSWERS, 1), -DUET_COOP_EFAULT);
	/* The shared pages are the device's memory, not the guest's. */
	assert_int_equal(batch(rig, rig->memory, COOP_RIG_ANSWERS, 1), -DUET_COOP_EFAULT);
	coop_rig_free(rig);
}

/* What a run is, it is also in a batch; after a reset nobody asks. */
static void tells_runs_by_call(void **state)
{
	const struct duet_coop_request run = {
		.function = DUET_COOP_SHARE, .arguments = {0x1000, 2, 0, 0, 1}};
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	memcpy(device_rig_at(&rig->device, COOP_RIG_DATA), &run, sizeof(run));
	coop_rig_up(rig, COOP_F_ALL, 1);
	coop_rig_wish(rig, VIRTIO_COOP_SHARE);
	assert_int_equal(batch(rig, COOP_RIG_DATA, COOP_RIG_ANSWERS, 1), 0);
	assert_int_equal(coop_rig_answer(rig, 0)->status, 0);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).pages, 2);
	coop_rig_free(rig);
}

struct caller {
	struct coop_rig *rig;
	struct duet_coop_page *page;
	_Atomic bool stop;
	_Atomic unsigned served;
	_Atomic uint64_t wished; /* number */
};

/* vCPU 1, which opens counters and looks at each answer. */
static void *keep_calling(void *opaque)
{
	struct caller *caller = opaque;
	volatile struct duet_coop_call_part *part = &caller->page->call;

	while (!atomic_load(&caller->stop)) {
		/* As a guest's stores are, for which the device clears the page word by word. */
		atomic_store((_Atomic uint32_t *)&part->function, DUET_COOP_COUNTER_OPEN);
		atomic_store((_Atomic uint64_t *)&part->arguments[0], 0);
		coop_rig_ring(caller->rig, 1, 1);
		caller->served += atomic_load((_Atomic int32_t *)&part->status) == 0;
	}
	return NULL;
}

/* A driver that resets the device while another vCPU calls: no counter stays behind. */
static void is_reset_amid_calls(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct caller caller = {.rig = rig, .page = coop_rig_page(rig, 1)};
	pthread_t thread;

	rig->host.current = 1;
	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(pthread_create(&thread, NULL, keep_calling, &caller), 0);
	/* Between two of them there may be no time for a call. */
	for (unsigned i = 0; i < 200 || !atomic_load(&caller.served); i++) {
		coop_rig_up(rig, COOP_F_ALL, 1);
		if (i % 8 == 0)
			fake_machine_round(&rig->device.machine);
	}
	atomic_store(&caller.stop, true);
	pthread_join(thread, NULL);
	assert_true(rig->host.open <= 16);
	assert_true(driver_reset(&rig->device.driver));
	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_NOP, 0, 0), 0);
	assert_int_equal(rig->host.open, 0);
	coop_rig_free(rig);
}

/* vCPU 1, which tells of the last wish in batches that last. */
static void *keep_telling(void *opaque)
{
	struct caller *caller = opaque;
	struct duet_coop_request *runs = (void *)device_rig_at(&caller->rig->device, COOP_RIG_DATA);
	volatile struct duet_coop_call_part *part = &caller->page->call;

	while (!atomic_load(&caller->stop)) {
		for (unsigned i = 0; i < DUET_COOP_BATCH_MAX; i++)
			runs[i] = (struct duet_coop_request){.function = DUET_COOP_SHARE,
				.arguments = {0x1000, 1, 0, 0, atomic_load(&caller->wished)}};
		atomic_store((_Atomic uint32_t *)&part->function, DUET_COOP_BATCH);
		atomic_store((_Atomic uint64_t *)&part->arguments[0], COOP_RIG_DATA);
		atomic_store((_Atomic uint64_t *)&part->arguments[1], COOP_RIG_ANSWERS);
		atomic_store((_Atomic uint64_t *)&part->arguments[2], DUET_COOP_BATCH_MAX);
		coop_rig_ring(caller->rig, 1, 1);
		caller->served += coop_rig_answer(caller->rig, 0)->status == 0;
	}
	return NULL;
}

/* A reset forgets all runs, also those of a batch that is under way. */
static void is_reset_amid_batches(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct caller caller = {.rig = rig, .page = coop_rig_page(rig, 1)};
	pthread_t thread;

	rig->host.current = 1;
	coop_rig_up(rig, COOP_F_ALL, 1);
	memset(device_rig_at(&rig->device, COOP_RIG_ANSWERS), 0xee, 4096);
	assert_int_equal(pthread_create(&thread, NULL, keep_telling, &caller), 0);
	for (unsigned i = 0; i < 100 || !atomic_load(&caller.served); i++) {
		coop_rig_up(rig, COOP_F_ALL, 1);
		coop_rig_wish(rig, VIRTIO_COOP_SHARE);
		atomic_store(&caller.wished, coop_rig_runs(rig, VIRTIO_COOP_SHARE).wished);
		assert_true(driver_reset(&rig->device.driver));
		assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).count, 0);
	}
	atomic_store(&caller.stop, true);
	pthread_join(thread, NULL);
	coop_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_on_a_version),
		cmocka_unit_test(calls_fast),
		cmocka_unit_test(yields),
		cmocka_unit_test(counts),
		cmocka_unit_test(calls_in_batches),
		cmocka_unit_test(refuses_bad_batches),
		cmocka_unit_test(tells_runs_by_call),
		cmocka_unit_test(is_reset_amid_calls),
		cmocka_unit_test(is_reset_amid_batches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
