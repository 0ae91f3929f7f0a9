/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes after its machine, with one allocation or one call of the system failing on
 * either side, each in turn: each time there is one healthy machine at the end. */
#include "migrate_rig.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct tally {
	unsigned stays, moved;
};

static void assert_one(struct rig *rig)
{
	const bool moved = rig->end == SOURCE_MOVED;

	if (!moved && rig->end != SOURCE_STAYS)
		fail_msg("%s %llu of the %s: %s; %s; %s",
			rig->fault == RIG_NO_CALL ? "call" : "allocation",
			(unsigned long long)rig->at, rig->of_target ? "target" : "source",
			rig->source_err.text, rig->target_err.text, rig->arrival_err.text);
	assert_int_equal(rig->runs_there && rig->disks_there, moved);
	assert_int_equal(rig->runs_here && rig->disks_here, !moved);
	assert_true(rig->runs_here != rig->runs_there && rig->disks_here != rig->disks_there);
	if (moved)
		assert_true(rig->arrival_result == 0 && rig_same_memory(rig));
	else
		assert_true(*rig->source_err.text);
}

/* Whether there was one of that number. */
static bool fail_one(enum rig_fault fault, bool of_target, uint64_t at, struct tally *tally)
{
	struct rig rig = {.low = 64 * MEMORY_PAGE,
		.writes = 4000,
		.limit = 1,
		.wait = 20,
		.streams = 2,
		.fault = fault,
		.of_target = of_target,
		.at = at,
		.compress = fault == RIG_NO_MEMORY};
	bool reached;

	rig_open(&rig);
	memset(memory_region(&rig.here, 0)->mapped_at, 0x17, rig.low);
	rig_migrate(&rig);
	assert_one(&rig);
	tally->moved += rig.end == SOURCE_MOVED;
	tally->stays += rig.end == SOURCE_STAYS;
	reached = at < (fault == RIG_NO_CALL ? rig.called : rig.allocated)[of_target];
	rig_close(&rig);
	return reached;
}

static void fail_each(enum rig_fault fault, bool of_target)
{
	struct tally tally = {0};
	uint64_t at = 0;

	if (!rig_has_late())
		skip();
	while (fail_one(fault, of_target, at, &tally))
		at++;
	/* Some before it was given away, and some after that. */
	assert_true(tally.stays > 3 && tally.moved > 1);
}

static void test_each_allocation_of_the_source_fails(void **state)
{
	fail_each(RIG_NO_MEMORY, false);
}

static void test_each_allocation_of_the_target_fails(void **state)
{
	fail_each(RIG_NO_MEMORY, true);
}

static void test_each_call_of_the_source_fails(void **state)
{
	fail_each(RIG_NO_CALL, false);
}

static void test_each_call_of_the_target_fails(void **state)
{
	fail_each(RIG_NO_CALL, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_allocation_of_the_source_fails),
		cmocka_unit_test(test_each_allocation_of_the_target_fails),
		cmocka_unit_test(test_each_call_of_the_source_fails),
		cmocka_unit_test(test_each_call_of_the_target_fails),
	};

	/* Of a line that is cut it says so each time. */
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
