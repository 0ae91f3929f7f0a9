/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM answers duetd: what is taken from it, and that nothing goes beyond what it may mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "duetd/answers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB (1ULL << 20)

static const struct vcpu_view *uses_of(struct answer *answer, const char *place)
{
	char text[512];

	snprintf(text, sizeof(text),
		"{\"state\": \"Running\", \"memory_mib\": 1, \"cpus\": 2, \"place\": %s}", place);
	assert_int_equal(answer_read(answer, text, NULL), 0);
	return answer->view.vcpu;
}

/* A whole map alone, and no more of it than there are vCPUs, nodes and memory. */
static void takes_where_memory_is(void **state)
{
	struct answer answer;
	const struct vcpu_view *vcpu = uses_of(&answer,
		"{\"complete\": true, \"uses\": [[4096, 8192], [1, -1, \"x\", 9999999999], [7]]}");

	assert_int_equal(vcpu[0].uses[0], 4096);
	assert_int_equal(vcpu[0].uses[1], 8192);
	assert_int_equal(vcpu[1].uses[0], 1);
	assert_int_equal(vcpu[1].uses[1], 0);
	assert_int_equal(vcpu[1].uses[2], 0);
	assert_int_equal(vcpu[1].uses[3], MIB);
	assert_int_equal(vcpu[2].uses[0], 0);
	vcpu = uses_of(&answer, "{\"complete\": true, \"uses\": [[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]}");
	assert_int_equal(vcpu[0].uses[VIEW_NODES_MAX - 1], 1);
	assert_int_equal(vcpu[1].uses[0], 0);
	assert_int_equal(uses_of(&answer, "{\"uses\": [[1]]}")[0].uses[0], 0);
	assert_int_equal(uses_of(&answer, "{\"complete\": true, \"uses\": 3}")[0].uses[0], 0);
	assert_int_equal(uses_of(&answer, "[]")[0].uses[0], 0);
}

static void takes_all_there_is(void **state)
{
	struct answer answer;

	assert_int_equal(
		answer_read(&answer,
			"{\"id\": \"a\", \"state\": \"Running\", \"memory_mib\": 512, \"cpus\": 2,"
			" \"share\": 250,"
			" \"threads\": [101, 102], \"sharing\": {\"state\": \"off\","
			" \"offered_bytes\": 999999999999}, \"passthrough\": true, \"balloon\":"
			" {\"target_mib\": 64, \"actual_mib\": 60, \"total_memory\": 400000000,"
			" \"free_memory\": 100000000, \"available_memory\": 200000000,"
			" \"swap_in\": 8192, \"swap_out\": 4096, \"major_faults\": 7},"
			" \"balloon_own_mib\": 16,"
			" \"hints\": {\"vcpus\": [{\"index\": 1, \"runnable\": 3,"
			" \"burst_ns\": 250000}, {\"index\": 0}], \"machine\":"
			" {\"working_set_bytes\": 1048576, \"refaults\": 9, \"heartbeat\": 1,"
			" \"pressure\": {\"memory_some\": 120, \"memory_full\": 20}}}}",
			NULL),
		0);
	assert_true(answer.running);
	assert_true(answer.view.passthrough);
	assert_true(answer.view.can_share);
	assert_int_equal(answer.view.offered, 512 * MIB);
	assert_int_equal(answer.view.memory, 512 * MIB);
	assert_int_equal(answer.view.vcpus, 2);
	assert_int_equal(answer.view.share, 250);
	assert_int_equal(answer.threads[0], 101);
	assert_int_equal(answer.threads[1], 102);
	assert_true(answer.view.has_balloon && answer.view.says_memory);
	assert_int_equal(answer.view.balloon, 60 * MIB);
	assert_int_equal(answer.view.balloon_target, 64 * MIB);
	assert_true(answer.says_own && answer.own == 16 * MIB);
	assert_int_equal(answer.view.guest_available, 200000000);
	assert_int_equal(answer.counters.swap_in, 2);
	assert_int_equal(answer.counters.swap_out, 1);
	assert_int_equal(answer.counters.major_faults, 7);
	assert_true(answer.view.says_hints);
	assert_int_equal(answer.view.working_set, MIB);
	assert_int_equal(answer.view.memory_some, 120);
	assert_int_equal(answer.view.memory_full, 20);
	assert_int_equal(answer.counters.refaults, 9);
	assert_false(answer.view.vcpu[0].says);
	assert_true(answer.view.vcpu[1].says);
	assert_int_equal(answer.view.vcpu[1].runnable, 3);
	assert_int_equal(answer.view.vcpu[1].burst, 250000);
}

static void does_with_little(void **state)
{
	struct answer answer;

	assert_int_equal(
		answer_read(&answer, "{\"state\": \"Not started\", \"memory_mib\": 1, \"cpus\": 1}",
			NULL),
		0);
	assert_false(answer.running);
	assert_false(answer.view.has_balloon || answer.view.says_memory || answer.view.says_hints);
	assert_int_equal(answer.threads[0], 0);
	assert_int_equal(answer.view.share, 100);
}

static void refuses_what_is_no_answer(void **state)
{
	static const char *const texts[] = {"", "hello", "[]", "{}", "{\"state\": \"Running\"}",
		"{\"state\": 1, \"memory_mib\": 1, \"cpus\": 1}",
		"{\"state\": \"Running\", \"memory_mib\": 0, \"cpus\": 1}",
		"{\"state\": \"Running\", \"memory_mib\": -5, \"cpus\": 1}",
		"{\"state\": \"Running\", \"memory_mib\": 1.5, \"cpus\": 1}",
		"{\"state\": \"Running\", \"memory_mib\": 1, \"cpus\": 1"};

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		struct answer answer;
		struct error err = {0};

		assert_int_equal(answer_read(&answer, texts[i], &err), -EBADMSG);
		assert_true(strlen(err.text) > 0);
	}
}

static void keeps_numbers_within_what_they_mean(void **state)
{
	const char *huge = "9223372036854775807";
	struct answer answer;
	char text[2048];

	snprintf(text, sizeof(text),
		"{\"state\": \"Running\", \"memory_mib\": 512, \"cpus\": 100000, \"share\": %s,"
		" \"threads\": [%s, -1, \"x\", 5], \"balloon\": {\"target_mib\": %s, "
		"\"actual_mib\": %s,"
		" \"total_memory\": %s, \"free_memory\": %s, \"available_memory\": %s}, \"hints\":"
		" {\"vcpus\": [{\"index\": %s, \"runnable\": 1}, {\"index\": -1, \"runnable\": 1},"
		" {\"index\": 3, \"runnable\": %s, \"burst_ns\": %s}, 7], \"machine\":"
		" {\"working_set_bytes\": %s, \"pressure\": {\"memory_some\": %s}}}}",
		huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge);
	assert_int_equal(answer_read(&answer, text, NULL), 0);
	assert_int_equal(answer.view.share, 10000);
	assert_int_equal(answer.view.vcpus, VIEW_VCPUS_MAX);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(answer.threads[i], 0);
	assert_int_equal(answer.threads[3], 5);
	assert_int_equal(answer.view.balloon, 512 * MIB);
	assert_int_equal(answer.view.balloon_target, 512 * MIB);
	assert_int_equal(answer.view.guest_total, 512 * MIB);
	assert_int_equal(answer.view.guest_free, 512 * MIB);
	assert_int_equal(answer.view.guest_available, 512 * MIB);
	assert_int_equal(answer.view.working_set, 512 * MIB);
	assert_int_equal(answer.view.memory_some, 10000);
	for (unsigned i = 0; i < VIEW_VCPUS_MAX; i++)
		assert_int_equal(answer.view.vcpu[i].says, i == 3);
	assert_int_equal(answer.view.vcpu[3].runnable, 1 << 20);
	assert_int_equal(answer.view.vcpu[3].burst, 1000000000);
}

static void makes_rates(void **state)
{
	struct answer now = {.counters = {.swap_in = 30, .swap_out = 5, .refaults = 10}};
	const struct answer_counters before = {.swap_in = 10, .swap_out = 50, .refaults = 10};

	answer_rates(&now, &before, 2000000000);
	assert_true(now.view.swap_in == 10);
	assert_true(now.view.swap_out == 2.5); /* it began anew */
	assert_true(now.view.refaults == 0);
	answer_rates(&now, &before, 0);
	assert_true(now.view.swap_in == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_where_memory_is),
		cmocka_unit_test(takes_all_there_is),
		cmocka_unit_test(does_with_little),
		cmocka_unit_test(refuses_what_is_no_answer),
		cmocka_unit_test(keeps_numbers_within_what_they_mean),
		cmocka_unit_test(makes_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
