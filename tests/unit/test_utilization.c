/* SPDX-License-Identifier: Apache-2.0 */
/* What Pacemaker is told, by what duetd answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "duetd/utilization.h"

#include <stdlib.h>

#define HOST                                                                                       \
	"{\"memory\": 8589934592, \"available\": 4294967296, \"reserve\": 536870912, \"cpus\": 4}"
#define VM(name, more) "[{\"name\": \"" name "\", \"memory\": 1073741824, " more "}]"

static void look(struct utilization *known, const char *host, const char *vms, unsigned looks)
{
	json_t *of_host = json_loads(host, 0, NULL), *of_vms = json_loads(vms, 0, NULL);

	utilization_look(known, of_host, of_vms, looks);
	json_decref(of_host);
	json_decref(of_vms);
}

static uint64_t told(struct utilization *known, unsigned of, enum utilization_kind kind)
{
	uint64_t number;

	assert_true(of < known->count);
	assert_true(utilization_tell(&known->of[of], kind, &number));
	return number;
}

/* MiB of one machine with these numbers. */
static uint64_t memory_of(const char *vms)
{
	struct utilization *known = malloc(sizeof(*known));
	uint64_t number;

	utilization_init(known);
	look(known, HOST, vms, 1);
	assert_int_equal(known->count, 2);
	number = told(known, 1, UTILIZATION_MEMORY);
	free(known);
	return number;
}

static void weighs_a_machine(void **state)
{
	/* The kit's word, and what its kernel has in use; without the kit a quarter more. */
	assert_int_equal(memory_of(VM("a", "\"working_set\": 167772160, \"resident\": 1")), 170);
	assert_int_equal(memory_of(VM("a", "\"working_set\": 1, \"guest_memory\": 943718400, "
					   "\"available\": 775946240")),
		170);
	assert_int_equal(
		memory_of(VM("a", "\"guest_memory\": 943718400, \"available\": 775946240")), 213);
	assert_int_equal(memory_of(VM("a", "\"resident\": 335544320")), 340);
	/* Pinned; more than it has; next to nothing; nonsense. */
	assert_int_equal(memory_of(VM("a", "\"passthrough\": true, \"resident\": 1")), 1024);
	assert_int_equal(memory_of(VM("a", "\"working_set\": 1e17")), 1024);
	assert_int_equal(memory_of(VM("a", "\"resident\": 1")), 64);
	assert_int_equal(memory_of(VM("a", "\"working_set\": -5, \"resident\": \"much\"")), 64);
}

static void weighs_the_host(void **state)
{
	struct utilization *known = malloc(sizeof(*known));

	utilization_init(known);
	look(known, HOST, VM("a", "\"resident\": 536870912, \"busy\": 1.5"), 1);
	assert_string_equal(known->of[0].name, "");
	assert_int_equal(told(known, 0, UTILIZATION_MEMORY), 4096);
	assert_int_equal(told(known, 0, UTILIZATION_CPU), 400);
	assert_int_equal(told(known, 1, UTILIZATION_CPU), 150);
	free(known);
}

static void tells_what_is_far_off(void **state)
{
	struct utilization *known = malloc(sizeof(*known));
	uint64_t number;

	utilization_init(known);
	look(known, HOST, VM("a", "\"busy\": 1"), 4);
	assert_int_equal(told(known, 1, UTILIZATION_CPU), 100);
	/* A moment of four: 125, then the mean comes back. */
	look(known, HOST, VM("a", "\"busy\": 1.2"), 4);
	assert_false(utilization_tell(&known->of[1], UTILIZATION_CPU, &number));
	look(known, HOST, VM("a", "\"busy\": 2"), 4);
	assert_int_equal(told(known, 1, UTILIZATION_CPU), 129);
	assert_false(utilization_tell(&known->of[1], UTILIZATION_CPU, &number));
	utilization_untold(&known->of[1]);
	assert_int_equal(told(known, 1, UTILIZATION_CPU), 129);
	free(known);
}

static void forgets_who_is_gone(void **state)
{
	struct utilization *known = malloc(sizeof(*known));
	uint64_t number;

	utilization_init(known);
	look(known, HOST,
		"[{\"name\": \"a\", \"memory\": 1, \"busy\": 1}, {\"name\": \"b\", "
		"\"memory\": 1, \"busy\": 3}]",
		1);
	assert_int_equal(known->count, 3);
	look(known, HOST, VM("b", "\"busy\": 3"), 1);
	assert_int_equal(known->count, 2);
	assert_string_equal(known->of[1].name, "b");
	/* One that does not answer, and names that are none. */
	look(known, HOST, "[{\"name\": \"b\"}, {\"name\": \"../c\", \"memory\": 5}, {}, 7]", 1);
	assert_int_equal(known->count, 1);
	/* No answer of duetd's: all stays. */
	look(known, HOST, VM("b", "\"busy\": 3"), 1);
	look(known, "{}", "[]", 1);
	look(known, HOST, "{}", 1);
	assert_int_equal(known->count, 2);
	assert_true(utilization_tell(&known->of[1], UTILIZATION_CPU, &number));
	free(known);
}

static void holds_so_many(void **state)
{
	struct utilization *known = malloc(sizeof(*known));
	json_t *vms = json_array(), *host = json_loads(HOST, 0, NULL);

	utilization_init(known);
	for (int i = 0; i < UTILIZATION_VMS_MAX + 9; i++)
		json_array_append_new(vms, json_pack("{s:o, s:i}", "name", json_sprintf("vm%d", i),
						   "memory", 1 << 20));
	utilization_look(known, host, vms, 1);
	assert_int_equal(known->count, UTILIZATION_VMS_MAX + 1);
	json_decref(vms);
	json_decref(host);
	free(known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weighs_a_machine),
		cmocka_unit_test(weighs_the_host),
		cmocka_unit_test(tells_what_is_far_off),
		cmocka_unit_test(forgets_who_is_gone),
		cmocka_unit_test(holds_so_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
