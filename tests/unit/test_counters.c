/* SPDX-License-Identifier: Apache-2.0 */
/* Perf events of this thread, which stands for a vCPU's. Software ones are everywhere; hardware
 * ones that count in a guest alone count nothing here, where they can be had at all. */
#include "machine/counters.h"

#include "base/checked.h"
#include "base/clock.h"
#include "state/state.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define VCPUS 2

/* A kernel may allow none at all; then there is nothing to test. */
static void need_events(void)
{
	if (counters_probe(DUET_COOP_TASK_CLOCK) < 0)
		skip();
}

static struct counters *make(void)
{
	struct counters *counters;

	assert_int_equal(counters_new(&counters, VCPUS, NULL), 0);
	return counters;
}

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static void work(uint64_t ns)
{
	uint64_t end = thread_ns() + ns;

	while (thread_ns() < end)
		;
}

static uint64_t count(struct counters *counters, uint64_t name)
{
	uint64_t values[3];

	assert_int_equal(counters_read(counters, 0, name, values), 0);
	assert_true(values[2] <= values[1]);
	return values[0];
}

/* Between the thread's own time, which leaves out what interrupts and the host take, and the time
 * that passed. */
static void test_task_clock(void **state)
{
	struct counters *counters = make();
	uint64_t name, counted, start = clock_ns(), passed;

	(void)state;
	need_events();
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &name), 0);
	counted = count(counters, name);
	work(50000000);
	counted = count(counters, name) - counted;
	passed = clock_ns() - start;
	assert_in_range(counted, 49000000, passed);
	counters_free(counters);
}

static void test_context_switches(void **state)
{
	struct counters *counters = make();
	uint64_t name;

	(void)state;
	need_events();
	assert_int_equal(counters_open(counters, 0, DUET_COOP_CONTEXT_SWITCHES, &name), 0);
	for (unsigned i = 0; i < 20; i++)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	assert_true(count(counters, name) >= 20);
	counters_free(counters);
}

static void test_page_faults(void **state)
{
	const size_t pages = 64, size = pages * 4096;
	struct counters *counters = make();
	uint64_t name;
	char *area;

	(void)state;
	need_events();
	assert_int_equal(counters_open(counters, 0, DUET_COOP_PAGE_FAULTS, &name), 0);
	area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(area != MAP_FAILED);
	madvise(area, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages; i++)
		area[i * 4096] = 1;
	assert_true(count(counters, name) >= pages);
	munmap(area, size);
	counters_free(counters);
}

static void test_migrations(void **state)
{
	struct counters *counters = make();
	cpu_set_t all, one;
	uint64_t name;

	(void)state;
	need_events();
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	if (CPU_COUNT(&all) < 2)
		skip();
	assert_int_equal(counters_open(counters, 0, DUET_COOP_MIGRATIONS, &name), 0);
	for (int cpu = 0, moved = 0; cpu < CPU_SETSIZE && moved < 2; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
		moved++;
	}
	assert_true(count(counters, name) >= 1);
	sched_setaffinity(0, sizeof(all), &all);
	counters_free(counters);
}

/* Guest-only events count nothing of a thread that never enters a guest, or are not to be had. */
static void test_hardware(void **state)
{
	struct counters *counters = make();
	uint64_t name;
	int ret = counters_open(counters, 0, DUET_COOP_INSTRUCTIONS, &name);

	(void)state;
	assert_true(ret == 0 || ret == -ENOTSUP || ret == -EPERM || ret == -EAGAIN);
	if (ret == 0) {
		work(1000000);
		assert_int_equal(count(counters, name), 0);
	}
	counters_free(counters);
}

static void test_refused(void **state)
{
	struct counters *counters = make();
	uint64_t name, values[3];

	(void)state;
	need_events();
	assert_int_equal(counters_open(counters, VCPUS, DUET_COOP_TASK_CLOCK, &name), -EINVAL);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_COUNTERS, &name), -EINVAL);
	assert_int_equal(
		counters_open(counters, 0, (enum duet_coop_counter)UINT32_MAX, &name), -EINVAL);
	assert_int_equal(counters_read(counters, 0, 0, values), -EINVAL);
	assert_int_equal(counters_read(counters, 0, 1, values), -EINVAL);
	assert_int_equal(counters_read(counters, VCPUS, 1, values), -EINVAL);
	assert_int_equal(counters_close(counters, 0, 0), -EINVAL);
	assert_int_equal(counters_close(counters, UINT32_MAX, 1), -EINVAL);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &name), 0);
	assert_int_equal(counters_read(counters, 1, name, values), -EINVAL);
	counters_free(counters);
}

static void test_names_end(void **state)
{
	struct counters *counters = make();
	uint64_t first, second, values[3];

	(void)state;
	need_events();
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &first), 0);
	assert_int_equal(counters_close(counters, 0, first), 0);
	assert_int_equal(counters_close(counters, 0, first), -EINVAL);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_PAGE_FAULTS, &second), 0);
	assert_int_not_equal(first, second);
	counters_reset(counters);
	assert_int_equal(counters_read(counters, 0, second, values), -EINVAL);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &first), 0);
	assert_int_not_equal(first, second);
	counters_free(counters);
}

static unsigned open_files(void)
{
	unsigned found = 0;

	for (int fd = 0; fd < 256; fd++)
		found += lseek(fd, 0, SEEK_CUR) >= 0 || errno != EBADF;
	return found;
}

/* A guest that hibernated remembers names of a process that has ended. */
static void test_names_are_of_one_process(void **state)
{
	struct counters *earlier = make(), *later;
	uint64_t names[8], name, values[3];

	(void)state;
	need_events();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(counters_open(earlier, 0, DUET_COOP_TASK_CLOCK, &names[i]), 0);
	counters_free(earlier);
	later = make();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(counters_open(later, 0, DUET_COOP_PAGE_FAULTS, &name), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(counters_read(later, 0, names[i], values), -EINVAL);
	counters_free(later);
}

static void test_full(void **state)
{
	unsigned before = open_files();
	struct counters *counters = make();
	uint64_t names[COUNTERS_OPEN_MAX], name;

	(void)state;
	need_events();
	for (unsigned i = 0; i < COUNTERS_OPEN_MAX; i++)
		assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &names[i]), 0);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &name), -ENOSPC);
	/* Another vCPU has places of its own. */
	assert_int_equal(counters_open(counters, 1, DUET_COOP_TASK_CLOCK, &name), 0);
	assert_int_equal(counters_close(counters, 0, names[7]), 0);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &name), 0);
	counters_reset(counters);
	assert_int_equal(open_files(), before);
	assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &name), 0);
	counters_free(counters);
	assert_int_equal(open_files(), before);
}

/* Of what it has duet keeps half for itself, however many vCPUs open counters. */
static void test_share_of_descriptors(void **state)
{
	struct rlimit before, few;
	struct counters *counters;
	uint64_t name, last = 0;

	(void)state;
	need_events();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){2 * (COUNTERS_OPEN_MAX + 1), before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	counters = make();
	for (unsigned i = 0; i < COUNTERS_OPEN_MAX; i++)
		assert_int_equal(counters_open(counters, 0, DUET_COOP_TASK_CLOCK, &name), 0);
	assert_int_equal(counters_open(counters, 1, DUET_COOP_TASK_CLOCK, &last), 0);
	assert_int_equal(counters_open(counters, 1, DUET_COOP_TASK_CLOCK, &name), -EAGAIN);
	assert_int_equal(counters_close(counters, 1, last), 0);
	assert_int_equal(counters_open(counters, 1, DUET_COOP_TASK_CLOCK, &name), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	counters_free(counters);
}

/* ---- another process ---- */

static void save(struct counters *counters, struct state_writer *writer)
{
	state_writer_init(writer);
	state_section_begin(writer, "counters", COUNTERS_STATE_VERSION);
	counters_save(counters, writer);
	state_section_close(writer);
	assert_int_equal(state_writer_finish(writer), 0);
}

static int restore(struct counters *counters, const struct state_writer *writer)
{
	struct state_reader reader;
	struct error err = {0};
	int ret;

	assert_int_equal(state_reader_init(&reader, writer->bytes, writer->length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	ret = counters_restore(counters, &reader, &err);
	return ret < 0 ? ret : state_section_end(&reader, &err);
}

static void test_moved(void **state)
{
	struct counters *from = make(), *to = make();
	struct state_writer writer;
	uint64_t name, faults, before, after;

	(void)state;
	need_events();
	assert_int_equal(counters_open(from, 0, DUET_COOP_TASK_CLOCK, &name), 0);
	assert_int_equal(counters_open(from, 0, DUET_COOP_PAGE_FAULTS, &faults), 0);
	work(5000000);
	save(from, &writer);
	before = count(from, name);
	counters_free(from);
	assert_int_equal(restore(to, &writer), 0);
	/* Its thread has not begun: as it was saved. */
	after = count(to, name);
	assert_true(after >= 5000000 && after <= before);
	counters_begin(to, 0);
	counters_begin(to, 1);
	work(5000000);
	assert_true(count(to, name) >= after + 5000000);
	assert_int_equal(counters_open(to, 0, DUET_COOP_MIGRATIONS, &name), 0);
	assert_int_not_equal(name, faults);
	counters_free(to);
	state_writer_free(&writer);
}

static void put_counter(struct state_writer *writer, uint64_t name, uint32_t kind)
{
	state_put_u64(writer, name);
	state_put_u32(writer, kind);
	for (unsigned i = 0; i < 3; i++)
		state_put_u64(writer, 1);
}

static int restore_of(uint32_t vcpus, uint64_t named, uint64_t name, uint32_t kind, unsigned times)
{
	struct counters *counters = make();
	struct state_writer writer;
	int ret;

	state_writer_init(&writer);
	state_section_begin(&writer, "counters", COUNTERS_STATE_VERSION);
	state_put_u32(&writer, vcpus);
	for (unsigned vcpu = 0; vcpu < VCPUS; vcpu++) {
		state_put_u64(&writer, named);
		for (unsigned i = 0; i < times; i++)
			put_counter(&writer, name + i, kind);
		state_put_u64(&writer, 0);
	}
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	ret = restore(counters, &writer);
	counters_free(counters);
	state_writer_free(&writer);
	return ret;
}

static void test_damaged(void **state)
{
	(void)state;
	assert_int_equal(restore_of(VCPUS, 20, 1, DUET_COOP_CYCLES, COUNTERS_OPEN_MAX), 0);
	assert_int_equal(restore_of(VCPUS, 20, 1, DUET_COOP_CYCLES, 17), -EINVAL);
	assert_int_equal(restore_of(VCPUS + 1, 20, 1, DUET_COOP_CYCLES, 1), -EINVAL);
	assert_int_equal(restore_of(VCPUS, 20, 1, DUET_COOP_COUNTERS, 1), -EINVAL);
	assert_int_equal(restore_of(VCPUS, 20, 21, DUET_COOP_CYCLES, 1), -EINVAL);
	assert_int_equal(restore_of(VCPUS, UINT64_MAX, UINT64_MAX, DUET_COOP_CYCLES, 2), -EINVAL);
}

/* Cut anywhere: refused, and nothing is left open. */
static void test_cut(void **state)
{
	struct counters *counters = make();
	struct state_reader reader = {.bytes = (const uint8_t *)"\2\0\0\0\1", .length = 5};
	struct error err = {0};

	(void)state;
	reader.section_end = reader.length;
	counters_restore(counters, &reader, &err);
	assert_true(reader.failed);
	counters_free(counters);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_task_clock),
		cmocka_unit_test(test_context_switches),
		cmocka_unit_test(test_page_faults),
		cmocka_unit_test(test_migrations),
		cmocka_unit_test(test_hardware),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_names_end),
		cmocka_unit_test(test_names_are_of_one_process),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_share_of_descriptors),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
