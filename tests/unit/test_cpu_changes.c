/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of what a guest is shown of its CPU: as text, and on a table of CPUID. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "x86/cpu_changes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void reads_what_it_writes(void **state)
{
	static const char text[] = "cpuid:0x7:0x1:ebx:0x10001:0x1+msr:0x10a:0xffffffffffffffff:0x8+"
				   "cpuid:0x80000001:0x0:edx:0x20000000:0x0";
	struct cpu_change changes[CPU_CHANGES_MAX];
	char one[CPU_CHANGE_TEXT_SIZE], all[sizeof(text) + 1] = "";
	unsigned count;

	(void)state;
	assert_int_equal(cpu_changes_parse(changes, &count, text, NULL), 0);
	assert_int_equal(count, 3);
	assert_int_equal(changes[0].index, 7);
	assert_int_equal(changes[0].subleaf, 1);
	assert_int_equal(changes[0].reg, 1);
	assert_true(changes[1].msr && changes[1].filter == UINT64_MAX && changes[1].value == 8);
	for (unsigned i = 0; i < count; i++) {
		strcat(all, i ? "+" : "");
		strcat(all, cpu_change_format(&changes[i], one));
	}
	assert_string_equal(all, text);
	assert_int_equal(cpu_changes_parse(changes, &count, NULL, NULL), 0);
	assert_int_equal(count, 0);
	/* The longest there is has room. */
	changes[0] = (struct cpu_change){.index = UINT32_MAX,
		.subleaf = UINT32_MAX,
		.filter = UINT32_MAX,
		.value = UINT32_MAX};
	assert_string_equal(cpu_change_format(&changes[0], one),
		"cpuid:0xffffffff:0xffffffff:eax:0xffffffff:0xffffffff");
}

static void refuses_what_is_none(void **state)
{
	static const char *const bad[] = {"x", "cpuid", "cpuid:1:0:eax:1", "cpuid:1:0:eax:1:0:0",
		"cpuid:1:0:esi:1:0", "cpuid:g:0:eax:1:0", "cpuid:1:0:eax:0:0", "cpuid:1:0:eax:1:2",
		"cpuid:1:0:eax:100000000:0", "cpuid:100000000:0:eax:1:0", "msr:1:1:0:0", "msr:1:1",
		"msr::1:0", "msr:-1:1:0", "msr:1:1:+msr:1:1:0", "msr:1:10000000000000000:0", ":",
		"msr:00000000000000000000000000000000001:1:0", "+msr:1:1:0"};
	struct cpu_change changes[CPU_CHANGES_MAX];
	struct error err = {0};
	char many[CPU_CHANGES_MAX * 12 + 20] = "msr:1:1:0";
	unsigned count;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		if (cpu_changes_parse(changes, &count, bad[i], &err) != -EINVAL)
			fail_msg("%s", bad[i]);
	for (unsigned i = 1; i < CPU_CHANGES_MAX; i++)
		strcat(many, "+msr:1:1:0");
	assert_int_equal(cpu_changes_parse(changes, &count, many, &err), 0);
	assert_int_equal(count, CPU_CHANGES_MAX);
	strcat(many, "+msr:1:1:0");
	assert_int_equal(cpu_changes_parse(changes, &count, many, &err), -EINVAL);
	assert_string_equal(err.text, "more than 128 changes");
}

static int apply(struct kvm_cpuid2 *cpuid, const char *text, struct error *err)
{
	struct cpu_change changes[CPU_CHANGES_MAX];
	unsigned count;

	assert_int_equal(cpu_changes_parse(changes, &count, text, NULL), 0);
	return cpu_changes_cpuid(cpuid, changes, count, err);
}

/* Bits go; none comes that is not there, and nothing else is touched. */
static void takes_bits_away(void **state)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 3 * sizeof(struct kvm_cpuid_entry2));
	struct error err = {0};

	(void)state;
	assert_non_null(cpuid);
	cpuid->nent = 3;
	cpuid->entries[0] = (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 0xff, .ecx = 0xf0};
	cpuid->entries[1] = (struct kvm_cpuid_entry2){
		.function = 7, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0xff};
	cpuid->entries[2] = (struct kvm_cpuid_entry2){.function = 1, .ecx = 0xff};
	assert_int_equal(apply(cpuid, "cpuid:7:0:ebx:f00f:1+msr:1:1:1", &err), 0);
	assert_int_equal(cpuid->entries[0].ebx, 0xf1);
	assert_int_equal(cpuid->entries[0].ecx, 0xf0);
	assert_int_equal(apply(cpuid, "cpuid:7:1:eax:80:0", &err), 0);
	assert_int_equal(cpuid->entries[1].eax, 0x7f);
	/* A leaf without subleaves is the same whichever is asked for. */
	assert_int_equal(apply(cpuid, "cpuid:1:5:ecx:f:0", &err), 0);
	assert_int_equal(cpuid->entries[2].ecx, 0xf0);
	assert_int_equal(apply(cpuid, "cpuid:7:0:ecx:ff:11", &err), -ENOTSUP);
	assert_string_equal(err.text, "CPUID leaf 0x7, 0x0: the guest's CPU has no bits 0x1 of "
				      "ecx; bits can only be taken away");
	assert_int_equal(cpuid->entries[0].ecx, 0xf0);
	/* Of a leaf that is not there nothing is left to be taken away. */
	assert_int_equal(apply(cpuid, "cpuid:8:0:ecx:1:0", &err), 0);
	assert_int_equal(apply(cpuid, "cpuid:8:0:ecx:1:1", &err), -ENOTSUP);
	free(cpuid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(refuses_what_is_none),
		cmocka_unit_test(takes_bits_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
