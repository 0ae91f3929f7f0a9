/* SPDX-License-Identifier: Apache-2.0 */
/* What duetd remembers of its decisions: what changed, once, and no more than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "duetd/decisions.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1ULL << 20)
#define VMS 400

static struct rig {
	struct decisions *decisions;
	struct vm_view vms[VMS];
	struct vm_plan plans[VMS];
	struct view view;
	struct plan plan;
} rig;

static int set_up(void **state)
{
	memset(&rig, 0, sizeof(rig));
	rig.decisions = decisions_new();
	rig.view = (struct view){.vms = rig.vms, .count = 2};
	rig.plan.vms = rig.plans;
	for (unsigned i = 0; i < VMS; i++) {
		snprintf(rig.vms[i].name, sizeof(rig.vms[i].name), "vm%u", i);
		rig.vms[i].memory = 512 * MIB;
		rig.vms[i].vcpus = 1;
	}
	return rig.decisions ? 0 : -1;
}

static int tear_down(void **state)
{
	decisions_free(rig.decisions);
	return 0;
}

static void take(void)
{
	decisions_take(rig.decisions, &rig.view, &rig.plan);
}

static void allow(unsigned vm, unsigned mib, enum reason why)
{
	rig.plans[vm].set_memory = true;
	rig.plans[vm].allowed = mib * MIB;
	rig.plans[vm].memory_why = why;
}

static unsigned count(void)
{
	unsigned count = 0;

	while (decisions_nth(rig.decisions, count))
		count++;
	return count;
}

static void notes_what_changes(void **state)
{
	const struct decision *last;

	take();
	assert_int_equal(count(), 0);
	allow(1, 256, REASON_STATIC);
	take();
	take();
	assert_int_equal(count(), 1);
	last = decisions_nth(rig.decisions, 0);
	assert_string_equal(last->vm, "vm1");
	assert_int_equal(last->mechanism, MECHANISM_MEMORY);
	assert_int_equal(last->times, 1);
	assert_non_null(strstr(last->words, "may hold 256 of its 512 MiB"));
	assert_true(last->first > 0 && last->last == last->first);
	rig.plans[0].set_cpu = true;
	rig.plans[0].weight = 321;
	rig.plans[0].cpu_why = REASON_SHARE;
	take();
	assert_int_equal(count(), 2);
	assert_string_equal(decisions_nth(rig.decisions, 0)->vm, "vm0");
	assert_int_equal(decisions_nth(rig.decisions, 0)->mechanism, MECHANISM_CPU);
	assert_string_equal(decisions_nth(rig.decisions, 1)->vm, "vm1");
}

static void counts_what_goes_on_for_one_reason(void **state)
{
	for (unsigned mib = 500; mib > 400; mib -= 10) {
		allow(0, mib, REASON_STEP);
		take();
	}
	assert_int_equal(count(), 1);
	assert_int_equal(decisions_nth(rig.decisions, 0)->times, 10);
	assert_non_null(strstr(decisions_nth(rig.decisions, 0)->words, "may hold 410 of"));
	allow(0, 512, REASON_GROWS);
	take();
	assert_int_equal(count(), 2);
	assert_int_equal(decisions_nth(rig.decisions, 0)->times, 1);
	/* Reclaim is done anew each time, whatever it may hold. */
	rig.plans[1].set_memory = true;
	rig.plans[1].memory_why = REASON_PRESSURE;
	rig.plans[1].reclaim = 4096;
	take();
	take();
	assert_int_equal(decisions_nth(rig.decisions, 0)->times, 2);
}

/* As when a VM has come: all others are one further. */
static void knows_vms_by_their_names(void **state)
{
	struct vm_view last = rig.vms[2];

	rig.view.count = 3;
	for (unsigned i = 0; i < 3; i++)
		allow(i, 100 + i, REASON_STATIC);
	take();
	assert_int_equal(count(), 3);
	memmove(rig.vms + 1, rig.vms, 2 * sizeof(last));
	memmove(rig.plans + 1, rig.plans, 2 * sizeof(rig.plans[0]));
	rig.vms[0] = last;
	allow(0, 102, REASON_STATIC);
	take();
	assert_int_equal(count(), 3);
	rig.view.count = 1;
	take();
	/* One that has been away is new. */
	rig.view.count = 2;
	take();
	assert_int_equal(count(), 4);
	assert_string_equal(decisions_nth(rig.decisions, 0)->vm, "vm0");
}

static void keeps_no_more_than_there_is_room_for(void **state)
{
	rig.view.count = VMS;
	for (unsigned i = 0; i < VMS; i++)
		allow(i, 100, REASON_STATIC);
	take();
	assert_int_equal(count(), DECISIONS_MAX);
	assert_string_equal(decisions_nth(rig.decisions, 0)->vm, "vm399");
	assert_string_equal(decisions_nth(rig.decisions, DECISIONS_MAX - 1)->vm, "vm144");
	/* The one it belonged to has been pushed out: it is a new one, not another's. */
	allow(0, 90, REASON_STATIC);
	take();
	assert_string_equal(decisions_nth(rig.decisions, 0)->vm, "vm0");
	assert_int_equal(decisions_nth(rig.decisions, 0)->times, 1);
	decisions_note(rig.decisions, MECHANISM_CPU, "policy off");
	assert_string_equal(decisions_nth(rig.decisions, 0)->words, "policy off");
	assert_string_equal(decisions_nth(rig.decisions, 0)->vm, "");
	assert_int_equal(count(), DECISIONS_MAX);
}

#define decisions_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		decisions_test(notes_what_changes),
		decisions_test(counts_what_goes_on_for_one_reason),
		decisions_test(knows_vms_by_their_names),
		decisions_test(keeps_no_more_than_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
