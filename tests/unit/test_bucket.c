/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets by a clock of the test's own. */
#include "base/bucket.h"
#include "base/numbers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MS     1000000ULL
#define SECOND (1000 * MS)

static struct bucket full(struct bucket_limit limit, uint64_t now)
{
	struct bucket bucket;

	bucket_init(&bucket, &limit, now);
	return bucket;
}

/* How many are served until @until by who always waits and whose timers are @late. */
static uint64_t served(struct bucket *bucket, uint64_t from, uint64_t until, uint64_t late)
{
	uint64_t now = from, count = 0, wait;
	bool waited = false;

	while (now < until) {
		wait = bucket_wait(bucket, now, waited);
		if (wait) {
			now += wait + late;
			waited = true;
			continue;
		}
		bucket_take(bucket, 1);
		count++;
	}
	return count;
}

static void is_even(void **state)
{
	struct bucket bucket = full((struct bucket_limit){.amount = 1000}, 5 * MS);
	uint64_t now = 5 * MS;

	/* What idleness saved up: 2 ms. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(bucket_wait(&bucket, now, false), 0);
		bucket_take(&bucket, 1);
	}
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(bucket_wait(&bucket, now, false), MS);
		assert_int_equal(bucket_wait(&bucket, now + MS - 1, true), 1);
		now += MS;
		assert_int_equal(bucket_wait(&bucket, now, true), 0);
		bucket_take(&bucket, 1);
	}
}

/* Rates that do not divide a second, looked at every now and then: not one token too many or few in
 * a day. */
static void does_not_drift(void **state)
{
	static const uint64_t rates[] = {1, 3, 7, 10, 13, 999, 30011};

	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t seconds = 86400 / rates[i] + 7;
		struct bucket bucket =
			full((struct bucket_limit){.amount = rates[i], .burst = 1}, 0);

		assert_int_equal(served(&bucket, 0, seconds * SECOND, 0), rates[i] * seconds);
		bucket = full((struct bucket_limit){.amount = rates[i], .burst = 1}, 0);
		bucket_take(&bucket, 1);
		for (uint64_t now = 0; now < 10 * SECOND; now += 77777777 / rates[i])
			bucket_wait(&bucket, now, false);
		assert_int_equal(bucket_wait(&bucket, 10 * SECOND, false), 0);
	}
}

/* Within 5 %, with timers as late as a busy host's. */
static void keeps_the_rate_with_late_timers(void **state)
{
	static const struct {
		struct bucket_limit limit;
		uint64_t late, a_minute;
	} cases[] = {
		{{.amount = 10}, 0, 600},
		{{.amount = 10}, 4 * MS, 600},
		{{.amount = 100}, 9 * MS, 6000},
		{{.amount = 10, .period = 10 * MS, .burst = 10}, MS, 60000},
		{{.amount = 10, .period = 10 * MS}, 5 * MS, 60000},
		{{.amount = 1, .period = 10 * SECOND}, 100 * MS, 6},
		{{.amount = 1000003}, 60000, 60000180},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bucket bucket = full(cases[i].limit, 0);
		uint64_t count = served(&bucket, 0, 60 * SECOND, cases[i].late);

		assert_in_range(
			count, cases[i].a_minute * 95 / 100, cases[i].a_minute * 105 / 100 + 1);
	}
}

/* A minute's sleep is a burst of 20 ms and of what was to be saved up. */
static void makes_up_for_little(void **state)
{
	struct bucket bucket = full((struct bucket_limit){.amount = 10000}, 0);
	unsigned count = 0;

	for (; bucket_wait(&bucket, 60 * SECOND, true) == 0; count++)
		bucket_take(&bucket, 1);
	assert_int_equal(count, 220);
	bucket = full((struct bucket_limit){.amount = 10000}, 0);
	for (count = 0; bucket_wait(&bucket, 60 * SECOND, false) == 0; count++)
		bucket_take(&bucket, 1);
	assert_int_equal(count, 20);
}

static void bursts(void **state)
{
	struct bucket bucket =
		full((struct bucket_limit){.amount = 100, .burst = 50, .once = 1000}, SECOND);
	unsigned count = 0;

	for (; bucket_wait(&bucket, SECOND, false) == 0; count++)
		bucket_take(&bucket, 1);
	assert_int_equal(count, 1050);
	assert_int_equal(bucket_wait(&bucket, SECOND, false), 10 * MS);
	/* The second kind does not come again. */
	for (count = 0; bucket_wait(&bucket, 3600 * SECOND, false) == 0; count++)
		bucket_take(&bucket, 1);
	assert_int_equal(count, 50);
}

/* One that is larger than all of the bucket goes, and is paid for. */
static void pays_for_what_is_large(void **state)
{
	struct bucket bucket = full((struct bucket_limit){.amount = 1000, .burst = 100}, 0);

	assert_int_equal(bucket_wait(&bucket, 0, false), 0);
	bucket_take(&bucket, 1099);
	assert_int_equal(bucket_wait(&bucket, 0, false), SECOND);
	assert_int_equal(bucket_wait(&bucket, SECOND, true), 0);
	bucket_take(&bucket, 100000);
	bucket_forgive(&bucket, SECOND / 2);
	assert_int_equal(bucket_wait(&bucket, SECOND, false), SECOND / 2);
}

static void changes(void **state)
{
	struct bucket bucket = full((struct bucket_limit){.amount = 10, .burst = 10}, 0);
	struct bucket_limit faster = {.amount = 100, .period = 100 * MS, .burst = 5};
	struct bucket_limit none = {0};

	/* Half of a token, and a debt of three and a half, stay what they are. */
	bucket_take(&bucket, 10);
	bucket_change(&bucket, &faster, 50 * MS);
	assert_int_equal(bucket_wait(&bucket, 50 * MS, false), MS / 2);
	bucket_take(&bucket, 4);
	bucket_change(&bucket, &(struct bucket_limit){.amount = 1}, 50 * MS);
	assert_int_equal(bucket_wait(&bucket, 50 * MS, false), 4500 * MS);
	bucket_change(&bucket, &none, 50 * MS);
	assert_false(bucket_limits(&bucket));
	assert_int_equal(bucket_wait(&bucket, 50 * MS, false), 0);
	bucket_take(&bucket, 1000);
	bucket_change(&bucket, &faster, 50 * MS);
	assert_int_equal(served(&bucket, 50 * MS, 50 * MS + 1, 0), 5);
}

/* A burst of once is not had again by who changes something else: only a limit that is another one
 * brings its own. */
static void keeps_what_is_left_of_a_burst(void **state)
{
	struct bucket_limits limits = {.bytes = {.amount = 1000, .burst = 1, .once = 100},
		.operations = {.amount = 1000, .burst = 1000}};
	struct bucket_pair pair;

	bucket_pair_init(&pair, &limits, 0);
	bucket_pair_take(&pair, 60, 1);
	bucket_pair_change(&pair, &limits, 0);
	assert_int_equal(pair.bytes.once, 40);
	limits.operations.amount = 10;
	bucket_pair_change(&pair, &limits, 0);
	assert_int_equal(pair.bytes.once, 40);
	/* Nor is what idleness saved up lost or had twice. */
	bucket_pair_take(&pair, 41, 1);
	bucket_pair_change(&pair, &limits, 0);
	assert_int_equal(bucket_wait(&pair.bytes, 0, false), MS);
	limits.bytes.once = 7;
	bucket_pair_change(&pair, &limits, 0);
	assert_int_equal(pair.bytes.once, 7);
	limits.bytes.amount = 0;
	bucket_pair_change(&pair, &limits, 0);
	limits.bytes.amount = 1000;
	bucket_pair_change(&pair, &limits, 0);
	assert_int_equal(pair.bytes.once, 7);
}

/* The largest numbers there are. */
static void does_not_overflow(void **state)
{
	static const uint64_t numbers[] = {1, 2, 1000, BUCKET_MAX - 1, BUCKET_MAX, UINT64_MAX};
	const unsigned count = sizeof(numbers) / sizeof(numbers[0]);

	for (unsigned i = 0; i < count * count * count; i++) {
		struct bucket_limit limit = {.amount = numbers[i % count],
			.period = numbers[i / count % count],
			.burst = numbers[i / count / count],
			.once = 1};
		struct bucket bucket = full(limit, 1);

		assert_int_equal(bucket_wait(&bucket, UINT64_MAX, true), 0);
		bucket_take(&bucket, UINT64_MAX);
		bucket_take(&bucket, UINT64_MAX);
		assert_true(bucket_wait(&bucket, UINT64_MAX, true) <= INT64_MAX);
		bucket_change(&bucket, &(struct bucket_limit){.amount = 1, .period = UINT64_MAX},
			UINT64_MAX);
		assert_true(bucket_wait(&bucket, UINT64_MAX, true) <= INT64_MAX);
		bucket_forgive(&bucket, UINT64_MAX);
	}
}

static void limits_both(void **state)
{
	struct bucket_limits limits = {
		.bytes = {.amount = 1000, .burst = 1000}, .operations = {.amount = 10, .burst = 2}};
	struct bucket_pair pair;

	bucket_pair_init(&pair, &limits, 0);
	bucket_pair_take(&pair, 1, 1);
	assert_int_equal(bucket_pair_wait(&pair, 0, false), 0);
	bucket_pair_take(&pair, 1, 1);
	assert_int_equal(bucket_pair_wait(&pair, 0, false), 100 * MS);
	assert_int_equal(bucket_pair_wait(&pair, 100 * MS, true), 0);
	bucket_pair_take(&pair, 2000, 0);
	assert_in_range(bucket_pair_wait(&pair, 100 * MS, false), 900 * MS, 1100 * MS);
	limits.bytes.amount = 0;
	bucket_pair_change(&pair, &limits, 100 * MS);
	assert_int_equal(bucket_pair_wait(&pair, 100 * MS, false), 0);
	assert_true(bucket_limits_any(&limits));
	limits.operations.amount = 0;
	assert_false(bucket_limits_any(&limits));
}

/* As people write them. */
static void reads_limits(void **state)
{
	static const struct {
		const char *text;
		struct bucket_limit limit;
		const char *back; /* null: the same */
	} good[] = {
		{"500", {.amount = 500}, NULL},
		{"50M", {.amount = 50 << 20}, NULL},
		{"10/100ms", {.amount = 10, .period = 100 * MS}, NULL},
		{"10/1s", {.amount = 10}, "10"},
		{"1/2s+3", {.amount = 1, .period = 2 * SECOND, .burst = 3}, NULL},
		{"1/2000ms", {.amount = 1, .period = 2 * SECOND}, "1/2s"},
		{"2048+4k+1g", {.amount = 2048, .burst = 4096, .once = 1 << 30}, "2K+4K+1G"},
		{"281474976710656", {.amount = BUCKET_MAX}, "256T"},
	};
	static const char *const bad[] = {"", "x", "-1", "1/", "1/10", "1/ms", "1/1h", "1+", "1+1+",
		"1+1+1+1", "1/1s/1s", "1+1/1s", " 1", "1 ", "50MB"};
	static const char *const too_far[] = {"0", "1+0", "1+1+0", "1/0s", "257T", "1/300000s",
		"1/18446744073709551615s", "99999999999999999999"};
	char text[LIMIT_TEXT_SIZE];
	struct bucket_limit limit;

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(parse_limit(good[i].text, &limit), 0);
		assert_memory_equal(&limit, &good[i].limit, sizeof(limit));
		assert_string_equal(
			format_limit(&limit, text), good[i].back ? good[i].back : good[i].text);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse_limit(bad[i], &limit), -EINVAL);
	for (unsigned i = 0; i < sizeof(too_far) / sizeof(too_far[0]); i++)
		assert_int_equal(parse_limit(too_far[i], &limit), -ERANGE);
	/* One that no text made: what is meant is written. */
	limit = (struct bucket_limit){.amount = 5000, .once = 7};
	assert_string_equal(format_limit(&limit, text), "5000+10+7");
	limit = (struct bucket_limit){.amount = 5, .once = 7};
	assert_string_equal(format_limit(&limit, text), "5+1+7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_even),
		cmocka_unit_test(does_not_drift),
		cmocka_unit_test(keeps_the_rate_with_late_timers),
		cmocka_unit_test(makes_up_for_little),
		cmocka_unit_test(bursts),
		cmocka_unit_test(pays_for_what_is_large),
		cmocka_unit_test(changes),
		cmocka_unit_test(keeps_what_is_left_of_a_burst),
		cmocka_unit_test(does_not_overflow),
		cmocka_unit_test(limits_both),
		cmocka_unit_test(reads_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
