/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of requests of the cooperation device, and what they tell: runs of pages. */
#include "coop_rig.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void answers_batches(void **state)
{
	struct duet_coop_request many[DUET_COOP_BATCH_MAX + 1] = {{.function = DUET_COOP_NOP}};
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL | VIRTIO_FEATURE(VIRTIO_F_RING_PACKED), 1);
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i].arguments[0] = i * 3;
	many[7].function = DUET_COOP_YIELD;
	many[8].function = 12345;
	assert_int_equal(coop_rig_request(rig, many, DUET_COOP_BATCH_MAX),
		DUET_COOP_BATCH_MAX * sizeof(struct duet_coop_answer));
	for (unsigned i = 0; i < DUET_COOP_BATCH_MAX; i++) {
		bool refused = i == 7 || i == 8;

		assert_int_equal(coop_rig_answer(rig, i)->status, refused ? -DUET_COOP_ENOSYS : 0);
		assert_int_equal(coop_rig_answer(rig, i)->values[0], refused ? 0 : i * 3);
	}
	assert_int_equal(coop_rig_answer(rig, DUET_COOP_BATCH_MAX)->status, (int)0xeeeeeeee);
	assert_int_equal(coop_rig_request(rig, many, DUET_COOP_BATCH_MAX + 1), 0);
	assert_int_equal(coop_rig_counted(rig, "requests", "nop"), DUET_COOP_BATCH_MAX - 2);
	assert_int_equal(coop_rig_counted(rig, "requests", "malformed"), 1);
	coop_rig_free(rig);
}

/* As drivers give them; coop_rig_request() cuts its own in two. */
static void answers_batches_in_one_piece(void **state)
{
	struct duet_coop_request three[3] = {{.function = DUET_COOP_NOP}};
	static const struct ring_buffer whole[] = {
		{COOP_RIG_DATA, sizeof(three), false}, {COOP_RIG_ANSWERS, 4096, true}};
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(three); i++)
		three[i].arguments[0] = 70 + i;
	three[1].function = 12345;
	memcpy(device_rig_at(&rig->device, COOP_RIG_DATA), three, sizeof(three));
	memset(device_rig_at(&rig->device, COOP_RIG_ANSWERS), 0xee, 4096);
	assert_int_equal(device_rig_request(&rig->device, DUET_COOP_REQUESTS, whole, 2, false),
		3 * sizeof(struct duet_coop_answer));
	assert_int_equal(coop_rig_answer(rig, 1)->status, -DUET_COOP_ENOSYS);
	assert_int_equal(coop_rig_answer(rig, 0)->values[0], 70);
	assert_int_equal(coop_rig_answer(rig, 2)->status, 0);
	assert_int_equal(coop_rig_answer(rig, 2)->values[0], 72);
	assert_int_equal(coop_rig_answer(rig, 3)->status, (int)0xeeeeeeee);
	coop_rig_free(rig);
}

/* Too little room for the answers, a piece of a request, none. */
static void refuses_bad_batches(void **state)
{
	static const struct ring_buffer bad[][2] = {
		{{COOP_RIG_DATA, 112, false}, {COOP_RIG_ANSWERS, 79, true}},
		{{COOP_RIG_DATA, 57, false}, {COOP_RIG_ANSWERS, 4096, true}},
		{{COOP_RIG_DATA, 55, false}, {COOP_RIG_ANSWERS, 4096, true}},
	};
	static const struct ring_buffer one = {COOP_RIG_ANSWERS, 4096, true};
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(device_rig_request(&rig->device, 0, bad[i], 2, false), 0);
	assert_int_equal(device_rig_request(&rig->device, 0, &one, 1, false), 0);
	assert_int_equal(coop_rig_counted(rig, "requests", "malformed"), 4);
	coop_rig_free(rig);
}

static void add_used(void *opaque, const struct virtio_coop_run *run)
{
	*(uint64_t *)opaque += run->used * 1000 + run->vcpu;
}

static void takes_runs(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	uint64_t used = 0;

	coop_rig_up(rig, COOP_F_ALL, 1);
	/* Nobody has asked. */
	assert_int_equal(COOP_SHARE(0x1000, 1, 0, 0, 0), -DUET_COOP_EINVAL);
	assert_int_equal(COOP_SHARE(0x1000, 1, 0, 0, 1), -DUET_COOP_EINVAL);
	coop_rig_wish(rig, VIRTIO_COOP_SHARE);
	coop_rig_wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(COOP_SHARE(0x1000, 2, 99, 99, 1), 0);
	assert_int_equal(COOP_SHARE(0x1000, FAKE_RAM_SIZE / 4096, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(COOP_SHARE(0x1000, 1ULL << 52, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(COOP_SHARE(0x1000, ~0ULL, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(COOP_SHARE(~0xfffULL, 1, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(COOP_SHARE(0x1001, 1, 0, 0, 1), -DUET_COOP_EINVAL);
	assert_int_equal(COOP_SHARE(0x8000, 3, 0, 0, 1), 0);
	assert_false(coop_rig_runs(rig, VIRTIO_COOP_SHARE).complete);
	assert_int_equal(COOP_SHARE(0, 0, 0, 0, 1), 0);
	assert_int_equal(COOP_SHARE(0x8000, 3, 0, 0, 1), -DUET_COOP_EINVAL);
	assert_true(coop_rig_runs(rig, VIRTIO_COOP_SHARE).complete);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).count, 2);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).pages, 5);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).refused, 8);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, COOP_RIG_VCPUS, 1, 1), -DUET_COOP_EINVAL);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, 1ULL << 32, 1, 1), -DUET_COOP_EINVAL);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, 2, 5, 1), 0);
	virtio_coop_each_run(rig->device.device, VIRTIO_COOP_LOCALITY, add_used, &used);
	assert_int_equal(used, 5002);
	/* A new answer takes the old one's place; an old one comes too late. */
	coop_rig_wish(rig, VIRTIO_COOP_SHARE);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).count, 2);
	assert_int_equal(COOP_SHARE(0x1000, 9, 0, 0, 1), -DUET_COOP_EINVAL);
	assert_int_equal(COOP_SHARE(0x1000, 9, 0, 0, 2), 0);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).pages, 9);
	assert_true(driver_reset(&rig->device.driver));
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).count, 0);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).told, 0);
	coop_rig_free(rig);
}

/* As many as a device keeps, of both kinds together. */
static void bounds_runs(void **state)
{
	struct duet_coop_request many[DUET_COOP_BATCH_MAX];
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);

	coop_rig_up(rig, COOP_F_ALL, 1);
	coop_rig_wish(rig, VIRTIO_COOP_SHARE);
	coop_rig_wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, 2, 5, 1), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct duet_coop_request){
			.function = DUET_COOP_SHARE, .arguments = {0, 1, 0, 0, 1}};
	for (unsigned i = 0; i < VIRTIO_COOP_RUNS_MAX / DUET_COOP_BATCH_MAX; i++) {
		coop_rig_request(rig, many, DUET_COOP_BATCH_MAX);
		assert_int_equal(coop_rig_answer(rig, DUET_COOP_BATCH_MAX - 2)->status, 0);
	}
	assert_int_equal(coop_rig_answer(rig, DUET_COOP_BATCH_MAX - 1)->status, -DUET_COOP_ENOSPC);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, 2, 5, 1), -DUET_COOP_ENOSPC);
	assert_int_equal(coop_rig_runs(rig, VIRTIO_COOP_SHARE).count, VIRTIO_COOP_RUNS_MAX - 1);
	coop_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_batches),
		cmocka_unit_test(answers_batches_in_one_piece),
		cmocka_unit_test(refuses_bad_batches),
		cmocka_unit_test(takes_runs),
		cmocka_unit_test(bounds_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
