/* SPDX-License-Identifier: Apache-2.0 */
/* A disk's limits, on a real file; the buckets themselves are test_bucket's. */
#include "backend/block_private.h"
#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ULL

struct rig {
	char path[32];
	struct loop *loop;
	struct block *block;
	unsigned order[64], done, dropped;
	unsigned stop_at;
	struct loop_timer timer;
};

struct read {
	struct block_request request;
	struct rig *rig;
	unsigned number;
	struct iovec segment;
	uint8_t data[512];
};

static void read_done(struct block_request *request, int result)
{
	struct read *read = container_of(request, struct read, request);
	struct rig *rig = read->rig;

	if (result == -ECANCELED)
		rig->dropped++;
	else
		assert_int_equal(result, 0);
	rig->order[rig->done++] = read->number;
	if (rig->done == rig->stop_at)
		loop_stop(rig->loop);
}

static void rig_open_limited(struct rig *rig, struct bucket_limits limits)
{
	struct block_options options = {.path = rig->path, .limits = limits};
	struct error err = {0};
	int fd;

	*rig = (struct rig){.path = "/tmp/duet-iops-XXXXXX"};
	fd = mkstemp(rig->path);
	assert_int_equal(ftruncate(fd, 65536), 0);
	close(fd);
	assert_int_equal(loop_new(&rig->loop, 64, &err), 0);
	assert_int_equal(block_open(&rig->block, &options, &err), 0);
	block_attach(rig->block, rig->loop);
}

static void rig_open(struct rig *rig, uint64_t iops)
{
	rig_open_limited(rig, (struct bucket_limits){.operations = {.amount = iops}});
}

static void rig_close(struct rig *rig)
{
	assert_int_equal(block_in_flight(rig->block), 0);
	block_close(rig->block);
	loop_free(rig->loop);
	unlink(rig->path);
}

static void submit(struct rig *rig, struct read *reads, unsigned count)
{
	rig->stop_at = count;
	for (unsigned i = 0; i < count; i++) {
		struct read *read = &reads[i];

		*read = (struct read){.rig = rig, .number = i};
		read->segment = (struct iovec){read->data, sizeof(read->data)};
		/* A flush counts as well. */
		read->request =
			(struct block_request){.kind = i % 8 == 7 ? BLOCK_FLUSH : BLOCK_READ,
				.length = sizeof(read->data),
				.segments = &read->segment,
				.count = 1,
				.done = read_done};
		block_submit(rig->block, &read->request);
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

/* 17 requests at 100 a second: the last begins 16 intervals after the first, at the earliest. */
static void limits_and_serves_all(void **state)
{
	struct read reads[17];
	uint32_t seen = 0;
	struct rig rig;
	uint64_t start;

	(void)state;
	rig_open(&rig, 100);
	start = now_ns();
	submit(&rig, reads, ARRAY_SIZE(reads));
	assert_int_equal(loop_run(rig.loop), 0);
	assert_true(now_ns() - start >= 16 * 10 * MS - 2 * MS);
	/* Begun in order; two that a late timer begins at once may end in either. */
	for (unsigned i = 0; i < ARRAY_SIZE(reads); i++)
		seen |= 1U << rig.order[i];
	assert_int_equal(seen, (1U << ARRAY_SIZE(reads)) - 1);
	rig_close(&rig);
}

/* 512 bytes each at 25,600 a second, but for the flushes, which move none. */
static void limits_bytes(void **state)
{
	struct read reads[17];
	struct rig rig;
	uint64_t start;

	(void)state;
	rig_open_limited(&rig, (struct bucket_limits){.bytes = {.amount = 25600, .burst = 512}});
	start = now_ns();
	submit(&rig, reads, ARRAY_SIZE(reads));
	assert_int_equal(loop_run(rig.loop), 0);
	assert_in_range(now_ns() - start, 13 * 20 * MS, 1000 * MS);
	rig_close(&rig);
}

/* Ten go at once, once. */
static void bursts_once(void **state)
{
	struct read reads[12];
	struct rig rig;
	uint64_t start;

	(void)state;
	rig_open_limited(
		&rig, (struct bucket_limits){.operations = {.amount = 10, .burst = 1, .once = 10}});
	start = now_ns();
	submit(&rig, reads, ARRAY_SIZE(reads));
	assert_int_equal(loop_run(rig.loop), 0);
	assert_in_range(now_ns() - start, 98 * MS, 180 * MS);
	rig_close(&rig);
}

/* At one a second these would take longer than the test may. */
static void hurries_what_waits(void **state)
{
	struct read reads[60];
	struct rig rig;

	(void)state;
	rig_open(&rig, 1);
	submit(&rig, reads, ARRAY_SIZE(reads));
	block_hurry(rig.block);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.done, ARRAY_SIZE(reads));
	/* And once more, with nothing that waits. */
	block_hurry(rig.block);
	rig_close(&rig);
}

/* A guest that resets its disk again and again gets no more out of it than one a second. */
static void drops_what_waits(void **state)
{
	struct read reads[60];
	struct rig rig;

	(void)state;
	rig_open(&rig, 1);
	submit(&rig, reads, ARRAY_SIZE(reads));
	block_drop(rig.block);
	assert_int_equal(rig.dropped, 0);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.done, ARRAY_SIZE(reads));
	assert_int_equal(rig.dropped, ARRAY_SIZE(reads) - 1);
	rig_close(&rig);
}

/* As the main thread does while requests wait: slower, faster, none, and again. Nothing is lost. */
static void changes_while_requests_wait(void **state)
{
	const struct bucket_limits limits[] = {
		{.operations = {.amount = 1, .period = 1000000 * MS}},
		{.bytes = {.amount = 1}},
		{.operations = {.amount = 100000}},
	};
	const struct bucket_limits none = {.operations = {.amount = 0}};
	struct read reads[60];
	struct rig rig;

	(void)state;
	rig_open(&rig, 0);
	for (unsigned round = 0; round < 20; round++) {
		assert_int_equal(block_set_limits(rig.block, rig.loop, &limits[round % 3]), 0);
		rig.done = 0;
		submit(&rig, reads, ARRAY_SIZE(reads));
		if (round & 1)
			assert_int_equal(block_set_limits(rig.block, rig.loop, &limits[0]), 0);
		assert_int_equal(block_set_limits(rig.block, rig.loop, &none), 0);
		assert_int_equal(loop_run(rig.loop), 0);
		assert_int_equal(rig.done, ARRAY_SIZE(reads));
		assert_null(rig.block->throttle);
	}
	assert_int_equal(rig.dropped, 0);
	/* One on its way when the disk is closed. */
	assert_int_equal(block_set_limits(rig.block, rig.loop, &limits[0]), 0);
	rig_close(&rig);
}

static void pass_time(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct rig, timer)->loop);
}

/* Those that wait for the old limit go by the new one. */
static void wakes_who_waits(void **state)
{
	struct bucket_limits fast = {.operations = {.amount = 100, .burst = 1}};
	struct read reads[10];
	struct rig rig;

	(void)state;
	rig_open(&rig, 1);
	submit(&rig, reads, ARRAY_SIZE(reads));
	rig.timer.expired = pass_time;
	loop_timer_after(rig.loop, &rig.timer, 30 * MS);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.done, 1);
	assert_int_equal(block_set_limits(rig.block, rig.loop, &fast), 0);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(rig.done, ARRAY_SIZE(reads));
	assert_non_null(rig.block->throttle);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_and_serves_all),
		cmocka_unit_test(limits_bytes),
		cmocka_unit_test(bursts_once),
		cmocka_unit_test(hurries_what_waits),
		cmocka_unit_test(drops_what_waits),
		cmocka_unit_test(changes_while_requests_wait),
		cmocka_unit_test(wakes_who_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
