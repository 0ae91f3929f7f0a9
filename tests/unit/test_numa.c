/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's nodes: how vCPUs and memory are divided, and what is refused. */
#include "machine/numa.h"

#include "base/checked.h"
#include "cli/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GIB (1ULL << 30)

/* Completes a machine of @words and --kernel k. */
static int parse(
	struct run_options *options, struct error *err, const char *const *words, unsigned count)
{
	const char *args[16] = {"--kernel", "k"};

	for (unsigned i = 0; i < count; i++)
		args[2 + i] = words[i];
	return run_options_parse(options, 2 + count, args, err);
}

#define PARSE(options, err, ...)                                                                   \
	parse(options, err, (const char *const[]){__VA_ARGS__},                                    \
		ARRAY_SIZE(((const char *const[]){__VA_ARGS__})))

static void assert_refused(const char *why, int got, const struct error *err)
{
	assert_int_equal(got, -EINVAL);
	if (!strstr(err->text, why))
		fail_msg("%s, not: %s", err->text, why);
}

#define REFUSED(why, ...)                                                                          \
	do {                                                                                       \
		struct run_options options;                                                        \
		struct error err = {0};                                                            \
		int ret = PARSE(&options, &err, __VA_ARGS__);                                      \
		run_options_free(&options);                                                        \
		assert_refused(why, ret, &err);                                                    \
	} while (0)

static void wrong_divisions_name_the_remedy(void **state)
{
	REFUSED("--cpus 2 can", "--numa", "2");
	REFUSED("--cpus 2 can", "--numa", "2", "--cpus", "3");
	REFUSED("--cpus 4 can", "--numa", "2", "--cpus", "6");
	REFUSED("--cpus 8 can", "--numa", "4", "--cpus", "9");
	REFUSED("--memory 510M can", "--numa", "3", "--cpus", "3");
	REFUSED("--memory 1024M can", "--numa", "2", "--cpus", "2", "--memory", "1025M");
	REFUSED("--numa 9", "--numa", "9");
	REFUSED("--numa 0", "--numa", "0");
	REFUSED("--numa-distance", "--numa-distance", "10");
	REFUSED("--numa-distance", "--numa-distance", "255");
}

static void wrong_host_nodes(void **state)
{
	static const char *const wrong[] = {
		"0", "0+", "+0", "0+1+2", "0,1", "0+64", "-1+0", "0+ 1", "a", "0+1x", "0++1"};

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		REFUSED("with + between them", "--numa", "2", "--cpus", "2", "--numa-host",
			wrong[i]);
}

static void assert_range(
	const struct acpi_range *range, uint64_t base, uint64_t size, unsigned node)
{
	assert_int_equal(range->base, base);
	assert_int_equal(range->size, size);
	assert_int_equal(range->node, node);
}

/* All of the memory, each byte in one node, none in the hole below 4 GiB. */
static void memory_is_divided(void **state)
{
	struct machine_config config = {.numa = 2, .cpus = 4, .memory = 2 * GIB};
	struct acpi_range ranges[ACPI_RANGES_MAX];

	assert_int_equal(numa_ranges(&config, ranges), 2);
	assert_range(&ranges[0], 0, GIB, 0);
	assert_range(&ranges[1], GIB, GIB, 1);
	config.memory = 5 * GIB;
	assert_int_equal(numa_ranges(&config, ranges), 3);
	assert_range(&ranges[0], 0, 5 * GIB / 2, 0);
	assert_range(&ranges[1], 5 * GIB / 2, GIB / 2, 1);
	assert_range(&ranges[2], 4 * GIB, 2 * GIB, 1);
	config.memory = 6 * GIB; /* the hole between two of them */
	assert_int_equal(numa_ranges(&config, ranges), 2);
	assert_range(&ranges[1], 4 * GIB, 3 * GIB, 1);
	config.numa = 1;
	assert_int_equal(numa_ranges(&config, ranges), 2);
	assert_range(&ranges[1], 4 * GIB, 3 * GIB, 0);
	config = (struct machine_config){.numa = 8, .memory = 16 * GIB};
	assert_int_equal(numa_ranges(&config, ranges), 9);
	assert_int_equal(numa_cpus_of_node(&(struct machine_config){.numa = 2, .cpus = 4}), 2);
}

/* What a file says is what the options said. */
static void a_file_carries_it(void **state)
{
	struct machine_config again;
	struct run_options options;
	struct error err = {0};
	char *text = NULL;

	assert_int_equal(PARSE(&options, &err, "--numa", "2", "--cpus", "4", "--numa-distance",
				 "31", "--numa-host", "0+1"),
		0);
	assert_int_equal(machine_config_write(&options.config, &text, &err), 0);
	machine_config_init(&again);
	assert_int_equal(machine_config_read(&again, text, strlen(text), "vm.json", &err), 0);
	assert_int_equal(again.numa, 2);
	assert_int_equal(again.numa_distance, 31);
	assert_string_equal(again.numa_host, "0+1");
	free(text);
	machine_config_free(&again);
	run_options_free(&options);
}

/* On this host: its first node, or a reason. One that it has not is refused by name. */
static void memory_is_bound(void **state)
{
	struct machine_config config = {.numa = 1, .cpus = 1, .memory = 16 << 20};
	struct error err = {0};
	struct memory memory;
	int ret;

	memory_init(&memory);
	assert_int_equal(
		memory_add(&memory, GPA(0), config.memory, MEMORY_ANONYMOUS, "low", NULL), 0);
	assert_int_equal(numa_bind(&memory, &config, &err), 0);
	config.numa_host = "63";
	ret = numa_bind(&memory, &config, &err);
	assert_true(ret < 0);
	assert_non_null(strstr(err.text, "--numa-host: the host"));
	if (ret != -EINVAL) {
		print_message("skipped: %s\n", err.text);
	} else {
		assert_non_null(strstr(err.text, "no node 63"));
		config.numa_host = "0";
		assert_int_equal(numa_bind(&memory, &config, &err), 0);
	}
	assert_int_equal(memory_prefer(&memory, GPA(config.memory), 4096, 0), -EFAULT);
	memory_free(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_divisions_name_the_remedy),
		cmocka_unit_test(wrong_host_nodes),
		cmocka_unit_test(memory_is_divided),
		cmocka_unit_test(a_file_carries_it),
		cmocka_unit_test(memory_is_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
