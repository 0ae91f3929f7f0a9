/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's list of devices. */
#include "base/checked.h"
#include "machine/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct device *freed[3];
static unsigned freed_count;

static void note(struct device *device)
{
	freed[freed_count++] = device;
}

static const struct device_ops ops = {.type = "noted", .free = note};

/* The interrupt controller comes first: the others lower their lines when they go. */
static void who_came_last_goes_first(void **state)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	struct device devices[3] = {{.ops = &ops}, {.ops = &ops}, {.ops = &ops}};

	(void)state;
	assert_non_null(machine);
	devices[0].next = &devices[1];
	devices[1].next = &devices[2];
	machine->devices = devices;
	machine_free_devices(machine);
	assert_int_equal(freed_count, ARRAY_SIZE(devices));
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		assert_ptr_equal(freed[i], &devices[2 - i]);
	assert_null(machine->devices);
	machine_free_devices(machine);
	assert_int_equal(freed_count, ARRAY_SIZE(devices));
	free(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_came_last_goes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
