/* SPDX-License-Identifier: Apache-2.0 */
/* Directed yield: what is lent comes back, also when everybody lends at once, and is never more
 * than the lenders have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/schedule.h"
#include "machine/internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LENDERS 8
#define LOANS   200

/* A thread to lend to. */
struct holder {
	pthread_t thread;
	pthread_barrier_t ready;
	_Atomic int tid;
	_Atomic bool end;
};

static void *hold(void *opaque)
{
	struct holder *holder = opaque;

	atomic_store(&holder->tid, gettid());
	pthread_barrier_wait(&holder->ready);
	while (!atomic_load(&holder->end))
		usleep(100);
	return NULL;
}

static int holder_begin(struct holder *holder)
{
	atomic_store(&holder->end, false);
	pthread_barrier_init(&holder->ready, NULL, 2);
	assert_int_equal(pthread_create(&holder->thread, NULL, hold, holder), 0);
	pthread_barrier_wait(&holder->ready);
	return atomic_load(&holder->tid);
}

static void holder_end(struct holder *holder)
{
	atomic_store(&holder->end, true);
	pthread_join(holder->thread, NULL);
	pthread_barrier_destroy(&holder->ready);
}

static int nice_of(int tid)
{
	return getpriority(PRIO_PROCESS, (id_t)tid);
}

/* Linux's weights of the nice levels 0, -1, ... */
static const unsigned weights[] = {1024, 1277, 1586, 1991, 2501, 3121, 3906, 4904, 6100, 7620, 9548,
	11916, 14949, 18705, 23254, 29154, 36291, 46273, 56483, 71755};

static void test_never_more_than_is_lent(void **state)
{
	assert_int_equal(boost_nice(0, 0), 0);
	assert_int_equal(boost_nice(0, 1), -3);
	assert_int_equal(boost_nice(5, 1), 2);
	for (unsigned lenders = 0; lenders < 64; lenders++) {
		int nice = boost_nice(0, lenders);

		assert_in_range(-nice, 0, ARRAY_SIZE(weights) - 1);
		/* The table's own rounding is below half a percent at these levels. */
		assert_true(weights[-nice] <= 1024 * (lenders + 1) * 1005 / 1000);
	}
	assert_int_equal(boost_nice(0, 1000), -19);
	assert_int_equal(boost_nice(-19, 7), -19);
	assert_int_equal(boost_nice(-20, 7), -20);
}

static void test_means_leave_the_thread_as_it_was(void **state)
{
	int before = nice_of(0);
	struct boost_means means = boost_find_means();

	print_message(
		"here: nice %s, slice %s\n", means.nice ? "yes" : "no", means.slice ? "yes" : "no");
	assert_int_equal(nice_of(0), before);
}

static void test_a_loan(void **state)
{
	const struct boost_means means = boost_find_means();
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder), before = nice_of(tid);

	boost_init(&boost);
	boost_lend(&boost, tid, &means);
	assert_int_equal(nice_of(tid), means.nice ? boost_nice(before, 1) : before);
	boost_lend(&boost, tid, &means);
	assert_int_equal(nice_of(tid), means.nice ? boost_nice(before, 2) : before);
	boost_return(&boost, tid, &means);
	assert_int_equal(nice_of(tid), means.nice ? boost_nice(before, 1) : before);
	boost_return(&boost, tid, &means);
	assert_int_equal(nice_of(tid), before);
	assert_int_equal(boost.lenders, 0);
	assert_int_equal(boost.loans, 2);
	boost_destroy(&boost);
	holder_end(&holder);
}

struct lender {
	pthread_t thread;
	struct boost *boost;
	const struct boost_means *means;
	int tid;
};

static void *lend_often(void *opaque)
{
	struct lender *lender = opaque;

	for (unsigned i = 0; i < LOANS; i++) {
		boost_lend(lender->boost, lender->tid, lender->means);
		if (i % 16 == 0)
			usleep(10);
		boost_return(lender->boost, lender->tid, lender->means);
	}
	return NULL;
}

static void test_all_at_once(void **state)
{
	const struct boost_means means = boost_find_means();
	struct lender lenders[LENDERS];
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder), before = nice_of(tid);

	boost_init(&boost);
	for (unsigned i = 0; i < LENDERS; i++) {
		lenders[i] = (struct lender){.boost = &boost, .means = &means, .tid = tid};
		pthread_create(&lenders[i].thread, NULL, lend_often, &lenders[i]);
	}
	for (unsigned i = 0; i < LENDERS; i++)
		pthread_join(lenders[i].thread, NULL);
	assert_int_equal(boost.lenders, 0);
	assert_int_equal(boost.loans, LENDERS * LOANS);
	assert_int_equal(nice_of(tid), before);
	boost_destroy(&boost);
	holder_end(&holder);
}

/* Who renices a thread while it has a loan keeps his way. */
/* No loan comes to it, however nice these tests are run. */
#define OWNERS_NICE 19

static void test_owner_wins(void **state)
{
	const struct boost_means means = boost_find_means();
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder);

	boost_init(&boost);
	boost_lend(&boost, tid, &means);
	assert_int_equal(setpriority(PRIO_PROCESS, (id_t)tid, OWNERS_NICE), 0);
	boost_return(&boost, tid, &means);
	assert_int_equal(nice_of(tid), OWNERS_NICE);
	boost_lend(&boost, tid, &means);
	assert_int_equal(nice_of(tid), means.nice ? boost_nice(OWNERS_NICE, 1) : OWNERS_NICE);
	boost_return(&boost, tid, &means);
	assert_int_equal(nice_of(tid), OWNERS_NICE);
	boost_destroy(&boost);
	holder_end(&holder);
}

/* As duetd sets slices: what goes with it is what was read. */
static uint64_t slice_of(int tid)
{
	struct schedule found;

	assert_true(schedule_get(tid, &found));
	return found.slice_ns;
}

static void set_slice(int tid, uint64_t slice)
{
	struct schedule found;

	assert_true(schedule_get(tid, &found));
	found.slice_ns = slice;
	assert_int_equal(schedule_set(tid, &found), 0);
}

#define OWNERS_SLICE 700000

/* A slice that is set while the thread has a loan stays, and the loan goes. */
static void test_owners_slice_stays(void **state)
{
	const struct boost_means means = boost_find_means();
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder), before = nice_of(tid);

	if (!means.slice) {
		holder_end(&holder);
		skip();
	}
	boost_init(&boost);
	boost_lend(&boost, tid, &means);
	assert_int_equal(slice_of(tid), LENT_SLICE_NS);
	set_slice(tid, OWNERS_SLICE);
	boost_lend(&boost, tid, &means);
	assert_int_equal(slice_of(tid), LENT_SLICE_NS);
	assert_int_equal(nice_of(tid), means.nice ? boost_nice(before, 2) : before);
	boost_return(&boost, tid, &means);
	boost_return(&boost, tid, &means);
	assert_int_equal(slice_of(tid), OWNERS_SLICE);
	assert_int_equal(nice_of(tid), before);
	boost_destroy(&boost);
	holder_end(&holder);
}

/* A nice that is set meanwhile stays, and the loan's slice goes. */
static void test_owners_nice_keeps_no_lent_slice(void **state)
{
	const struct boost_means means = boost_find_means();
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder);

	if (!means.slice) {
		holder_end(&holder);
		skip();
	}
	boost_init(&boost);
	boost_lend(&boost, tid, &means);
	assert_int_equal(setpriority(PRIO_PROCESS, (id_t)tid, OWNERS_NICE), 0);
	boost_return(&boost, tid, &means);
	assert_int_equal(nice_of(tid), OWNERS_NICE);
	assert_int_equal(slice_of(tid), means.usual_slice_ns);
	boost_destroy(&boost);
	holder_end(&holder);
}

/* RLIMIT_NICE as this host may not have it: nobody gets below. */
#define LOWEST_NICE (-20)
#define NICE_WORD   4 /* of struct sched_attr: size, policy, flags, nice */
static int lowest = LOWEST_NICE;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
	long given[4];
	va_list list;

	va_start(list, number);
	for (unsigned i = 0; i < ARRAY_SIZE(given); i++)
		given[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_sched_setattr && ((const int32_t *)given[1])[NICE_WORD] < lowest) {
		errno = EPERM;
		return -1;
	}
	return __real_syscall(number, given[0], given[1], given[2], given[3]);
}

/* One loan is allowed and two are not: the first one is taken back all the same. */
static void test_a_limit_between_two_loans(void **state)
{
	const struct boost_means means = boost_find_means();
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder), before = nice_of(tid);
	int once = means.nice ? boost_nice(before, 1) : before;

	boost_init(&boost);
	lowest = once;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < LENDERS; i++)
			boost_lend(&boost, tid, &means);
		assert_int_equal(nice_of(tid), once);
		for (unsigned i = 1; i < LENDERS; i++)
			boost_return(&boost, tid, &means);
		assert_int_equal(nice_of(tid), once);
		boost_return(&boost, tid, &means);
		assert_int_equal(nice_of(tid), before);
	}
	lowest = LOWEST_NICE;
	boost_destroy(&boost);
	holder_end(&holder);
}

static void test_other_policies_and_the_dead(void **state)
{
	const struct boost_means means = {.nice = true, .slice = true};
	const struct sched_param idle = {.sched_priority = 0};
	struct holder holder;
	struct boost boost;
	int tid = holder_begin(&holder);

	boost_init(&boost);
	assert_int_equal(sched_setscheduler(tid, SCHED_IDLE, &idle), 0);
	boost_lend(&boost, tid, &means);
	assert_int_equal(sched_getscheduler(tid), SCHED_IDLE);
	boost_return(&boost, tid, &means);
	holder_end(&holder);
	boost_lend(&boost, tid, &means);
	boost_return(&boost, tid, &means);
	assert_int_equal(boost.lenders, 0);
	boost_destroy(&boost);
}

static struct machine *machine_of_two(int holder)
{
	struct machine *machine = calloc(1, sizeof(*machine));

	assert_non_null(machine);
	machine->config.cpus = 2;
	pthread_mutex_init(&machine->boost_lock, NULL);
	boost_init(&machine->vcpus[0].boost);
	boost_init(&machine->vcpus[1].boost);
	atomic_store(&machine->vcpus[1].tid, holder);
	return machine;
}

static void machine_gone(struct machine *machine)
{
	boost_destroy(&machine->vcpus[0].boost);
	boost_destroy(&machine->vcpus[1].boost);
	pthread_mutex_destroy(&machine->boost_lock);
	free(machine);
}

static void test_what_a_guest_may_ask(void **state)
{
	struct holder holder;
	int tid = holder_begin(&holder), before = nice_of(tid);
	struct machine *machine = machine_of_two(tid);
	uint64_t start = clock_ns();

	assert_int_equal(machine_boost(machine, 0, 0, 1000000), -EINVAL);
	assert_int_equal(machine_boost(machine, 0, 2, 1000000), -EINVAL);
	assert_int_equal(machine_boost(machine, 2, 1, 1000000), -EINVAL);
	assert_int_equal(machine_boost(machine, 0, UINT32_MAX, 1000000), -EINVAL);
	assert_int_equal(machine_boost(machine, 1, 0, 1000000), -EAGAIN);
	assert_int_equal(machine_boost(machine, 0, 1, 0), -EAGAIN);
	assert_int_equal(machine->vcpus[1].boost.loans, 0);
	/* Forever has an end. */
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(machine_boost(machine, 0, 1, UINT64_MAX), 0);
	assert_true(clock_ns() - start >= 10ULL * BOOST_PATIENCE_MAX);
	assert_int_equal(machine->vcpus[1].boost.loans, 10);
	assert_int_equal(nice_of(tid), before);
	holder_end(&holder);
	machine_gone(machine);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_never_more_than_is_lent),
	cmocka_unit_test(test_means_leave_the_thread_as_it_was),
	cmocka_unit_test(test_a_loan),
	cmocka_unit_test(test_all_at_once),
	cmocka_unit_test(test_owner_wins),
	cmocka_unit_test(test_owners_slice_stays),
	cmocka_unit_test(test_owners_nice_keeps_no_lent_slice),
	cmocka_unit_test(test_a_limit_between_two_loans),
	cmocka_unit_test(test_other_policies_and_the_dead),
	cmocka_unit_test(test_what_a_guest_may_ask),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
