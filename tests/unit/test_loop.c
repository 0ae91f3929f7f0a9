/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/loop_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct counter {
	struct loop_watch watch;
	struct loop_task task;
	struct loop *loop;
	unsigned seen, stop_at;
	bool removed;
};

static void count_ready(struct loop_watch *watch, uint32_t events)
{
	struct counter *counter = container_of(watch, struct counter, watch);

	assert_true(events & POLLIN);
	if (++counter->seen == counter->stop_at)
		loop_stop(counter->loop);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* Nobody reads the eventfd: each signal between two rounds must still call back. */
static void watches_an_eventfd_without_reading(void **state)
{
	struct counter counter = {.stop_at = 1};
	int fd = eventfd(0, EFD_NONBLOCK);

	(void)state;
	assert_int_equal(loop_new(&counter.loop, 8, NULL), 0);
	loop_watch(counter.loop, &counter.watch, fd, POLLIN, count_ready);
	for (unsigned i = 1; i <= 5; i++) {
		counter.stop_at = counter.seen + 1;
		signal_fd(fd);
		assert_int_equal(loop_run(counter.loop), 0);
		assert_true(counter.seen >= i);
	}
	loop_free(counter.loop);
	close(fd);
}

static void mark_removed(struct loop_watch *watch)
{
	struct counter *counter = container_of(watch, struct counter, watch);

	counter->removed = true;
	loop_stop(counter->loop);
}

static void forgets_a_removed_watch(void **state)
{
	struct counter counter = {0};
	int fd = eventfd(0, EFD_NONBLOCK);

	(void)state;
	assert_int_equal(loop_new(&counter.loop, 8, NULL), 0);
	loop_watch(counter.loop, &counter.watch, fd, POLLIN, count_ready);
	signal_fd(fd);
	loop_unwatch(&counter.watch, mark_removed);
	close(fd);
	assert_int_equal(loop_run(counter.loop), 0);
	assert_true(counter.removed);
	assert_int_equal(counter.seen, 0);
	loop_free(counter.loop);
}

static void run_task(struct loop_task *task)
{
	struct counter *counter = container_of(task, struct counter, task);

	counter->seen++;
}

static void runs_posted_tasks_in_its_thread(void **state)
{
	const struct loop_thread_options options = {.name = "test", .entries = 8};
	struct loop_thread *thread = NULL;
	struct counter counters[100] = {0};
	struct counter last = {.task.run = run_task};

	(void)state;
	assert_int_equal(loop_thread_start(&thread, &options, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++) {
		counters[i].task.run = run_task;
		loop_post(loop_thread_loop(thread), &counters[i].task);
	}
	/* Posting order: when the last has run, all have. */
	loop_call(loop_thread_loop(thread), &last.task);
	assert_int_equal(last.seen, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++)
		assert_int_equal(counters[i].seen, 1);
	loop_thread_stop(thread);
}

static void waits_until_it_may_go(void **state)
{
	const struct loop_thread_options options = {.name = "test", .entries = 8};
	struct loop_thread *thread = NULL;
	struct counter last = {.task.run = run_task};

	(void)state;
	assert_int_equal(loop_thread_new(&thread, &options, NULL), 0);
	assert_int_equal(loop_thread_ready(thread, NULL), 0);
	assert_int_equal(loop_thread_ready(thread, NULL), 0);
	/* Nobody ever let it go. */
	loop_thread_stop(thread);
	assert_int_equal(loop_thread_new(&thread, &options, NULL), 0);
	assert_int_equal(loop_thread_ready(thread, NULL), 0);
	loop_post(loop_thread_loop(thread), &last.task);
	assert_int_equal(last.seen, 0);
	assert_int_equal(loop_thread_go(thread, NULL), 0);
	assert_int_equal(last.seen, 1);
	loop_call(loop_thread_loop(thread), &last.task);
	assert_int_equal(last.seen, 2);
	loop_thread_stop(thread);
}

struct chain {
	struct loop_task task;
	struct loop *loop;
	struct counter *victims;
};

static void unpost_others(struct loop_task *task)
{
	struct chain *chain = container_of(task, struct chain, task);

	/* One of this very batch, one that is posted again, one that was never posted. */
	loop_unpost(chain->loop, &chain->victims[0].task);
	loop_post(chain->loop, &chain->victims[1].task);
	loop_unpost(chain->loop, &chain->victims[1].task);
	loop_unpost(chain->loop, &chain->victims[2].task);
	loop_stop(chain->loop);
}

static void takes_tasks_back(void **state)
{
	struct counter counters[4] = {0};
	struct chain chain = {.task.run = unpost_others, .victims = counters};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++)
		counters[i].task.run = run_task;
	assert_int_equal(loop_new(&chain.loop, 8, NULL), 0);
	loop_post(chain.loop, &chain.task);
	loop_post(chain.loop, &counters[0].task);
	loop_post(chain.loop, &counters[3].task);
	assert_int_equal(loop_run(chain.loop), 0);
	loop_post(chain.loop, &counters[0].task);
	loop_post(chain.loop, &counters[1].task);
	loop_unpost(chain.loop, &counters[1].task);
	loop_unpost(chain.loop, &counters[0].task);
	loop_post(chain.loop, &counters[2].task);
	loop_stop(chain.loop);
	assert_int_equal(loop_run(chain.loop), 0);
	assert_int_equal(counters[0].seen + counters[1].seen, 0);
	assert_int_equal(counters[2].seen, 1);
	assert_int_equal(counters[3].seen, 1);
	loop_free(chain.loop);
}

static void run_nothing(struct loop_task *task)
{
	(void)task;
}

struct transfer {
	struct loop_op op;
	struct loop *loop;
	int32_t result;
};

static void transferred(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct transfer *transfer = container_of(op, struct transfer, op);

	(void)flags;
	transfer->result = res;
	loop_stop(transfer->loop);
}

/* More operations than the queue has entries go out in several submissions. */
static void submits_beyond_its_queue(void **state)
{
	struct transfer transfer = {.op.done = transferred};
	int fd = eventfd(0, EFD_NONBLOCK);
	struct io_uring_sqe *sqe;
	uint64_t value = 0;

	(void)state;
	assert_int_equal(loop_new(&transfer.loop, 4, NULL), 0);
	for (unsigned i = 0; i < 50; i++)
		loop_signal(transfer.loop, fd);
	sqe = loop_sqe(transfer.loop);
	io_uring_prep_nop(sqe);
	loop_submit(transfer.loop, sqe, &transfer.op);
	assert_int_equal(loop_run(transfer.loop), 0);
	assert_int_equal(transfer.result, 0);
	assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
	assert_int_equal(value, 50);
	loop_free(transfer.loop);
	close(fd);
}

static void *run_loop(void *loop)
{
	assert_int_equal(loop_run(loop), 0);
	return NULL;
}

/* Made here, with more queued than the ring has room for, and run in another thread, to which this
 * one posts. So on each kind of kernel. */
static void runs_in_another_thread(void **state)
{
	(void)state;
	for (unsigned way = 0; way < LOOP_WAYS; way++) {
		struct loop_task nothing = {.run = run_nothing};
		int fd = eventfd(0, EFD_NONBLOCK);
		uint64_t value = 0, sum = 0;
		struct loop *loop;
		pthread_t runner;

		assert_int_equal(loop_new_as(&loop, 4, way, NULL), 0);
		for (unsigned i = 0; i < 50; i++)
			loop_signal(loop, fd);
		pthread_create(&runner, NULL, run_loop, loop);
		while (!atomic_load(&loop->running))
			sched_yield();
		loop_call(loop, &nothing);
		for (; sum < 50; sum += value)
			if (read(fd, &value, sizeof(value)) < 0)
				value = 0;
		loop_stop(loop);
		pthread_join(runner, NULL);
		assert_int_equal(sum, 50);
		loop_free(loop);
		close(fd);
	}
}

static void gave_up(struct loop_timer *timer)
{
	(void)timer;
	fail_msg("what had no room in the queue was never submitted");
}

static void never_ready(struct loop_watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
	fail();
}

/* The queue is full of what takes for ever; what comes behind it is submitted all the same. */
static void what_has_no_room_is_not_held_up(void **state)
{
	struct transfer transfer = {.op.done = transferred, .result = -1};
	struct loop_timer timer = {.expired = gave_up};
	struct loop_watch watches[6];
	int fd = eventfd(0, EFD_NONBLOCK);
	struct io_uring_sqe *sqe;

	(void)state;
	assert_int_equal(loop_new(&transfer.loop, 4, NULL), 0);
	loop_timer_after(transfer.loop, &timer, 5 * SECOND_NS);
	for (unsigned i = 0; i < ARRAY_SIZE(watches); i++)
		loop_watch(transfer.loop, &watches[i], fd, POLLIN, never_ready);
	sqe = loop_sqe(transfer.loop);
	io_uring_prep_nop(sqe);
	loop_submit(transfer.loop, sqe, &transfer.op);
	assert_int_equal(loop_run(transfer.loop), 0);
	assert_int_equal(transfer.result, 0);
	loop_free(transfer.loop);
	close(fd);
}

struct rounds {
	struct loop_task task;
	struct loop_hook hook;
	struct loop *loop;
	unsigned tasks, hooks;
};

static void post_again(struct loop_task *task)
{
	struct rounds *rounds = container_of(task, struct rounds, task);

	if (++rounds->tasks == 100)
		loop_stop(rounds->loop);
	else
		loop_post(rounds->loop, task);
}

static void count_round(struct loop_hook *hook)
{
	container_of(hook, struct rounds, hook)->hooks++;
}

/* Work that posts itself again and again must not keep the loop from its hooks and submissions. */
static void ends_a_round_though_work_goes_on(void **state)
{
	struct rounds rounds = {.task.run = post_again, .hook.run = count_round};
	uint64_t wakes;

	(void)state;
	assert_int_equal(loop_new(&rounds.loop, 8, NULL), 0);
	loop_add_hook(rounds.loop, &rounds.hook);
	loop_post(rounds.loop, &rounds.task);
	assert_int_equal(loop_run(rounds.loop), 0);
	assert_int_equal(rounds.tasks, 100);
	assert_in_range(rounds.hooks, 98, 101);
	/* The first post and the stop came with a wake-up, which a loop needs not from itself. */
	assert_int_equal(read(rounds.loop->wake_fd, &wakes, sizeof(wakes)), sizeof(wakes));
	assert_int_equal(wakes, 2);
	loop_remove_hook(rounds.loop, &rounds.hook);
	loop_free(rounds.loop);
}

struct turn {
	struct loop_task task;
	struct loop *loop;
	uint64_t took;
	unsigned asked;
};

static void ask_until_over(struct loop_task *task)
{
	struct turn *turn = container_of(task, struct turn, task);
	uint64_t from = clock_ns();

	while (turn->asked++ == 0 || !loop_turn_over(turn->loop))
		continue;
	turn->took = clock_ns() - from;
}

static void ask_after_much(struct loop_task *task)
{
	struct turn *turn = container_of(task, struct turn, task);

	assert_false(loop_turn_over(turn->loop));
	loop_turn_add(turn->loop, LOOP_TURN_NS);
	assert_true(loop_turn_over(turn->loop));
	loop_stop(turn->loop);
}

/* Each callback has a turn of its own, in which counts what it gave the kernel to do. */
static void a_turn_has_its_time(void **state)
{
	struct turn turns[3] = {{.task.run = ask_until_over}, {.task.run = ask_until_over},
		{.task.run = ask_after_much}};
	struct loop *loop;

	(void)state;
	assert_int_equal(loop_new(&loop, 8, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(turns); i++) {
		turns[i].loop = loop;
		loop_post(loop, &turns[i].task);
	}
	assert_int_equal(loop_run(loop), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(turns[i].took >= LOOP_TURN_NS);
		assert_true(turns[i].asked > 1);
	}
	loop_free(loop);
}

struct signaller {
	struct loop_hook hook;
	struct transfer timer;
	int fd;
	unsigned rounds;
};

static void signal_in_each_round(struct loop_hook *hook)
{
	struct signaller *signaller = container_of(hook, struct signaller, hook);

	signaller->rounds++;
	loop_signal(signaller->timer.loop, signaller->fd);
}

/* A signal goes out with the next wait and does not end it: else one in each round would keep the
 * loop awake until the timer ends the test. */
static void signals_without_ending_the_wait(void **state)
{
	struct __kernel_timespec soon = {.tv_nsec = 50000000};
	struct signaller signaller = {
		.hook.run = signal_in_each_round, .timer.op.done = transferred};
	struct loop_task nothing = {.run = run_nothing};
	struct io_uring_sqe *sqe;
	struct io_uring probe;
	bool skips;

	(void)state;
	assert_int_equal(io_uring_queue_init(2, &probe, 0), 0);
	skips = probe.features & IORING_FEAT_CQE_SKIP;
	io_uring_queue_exit(&probe);
	if (!skips)
		skip();
	signaller.fd = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(loop_new(&signaller.timer.loop, 8, NULL), 0);
	loop_add_hook(signaller.timer.loop, &signaller.hook);
	loop_post(signaller.timer.loop, &nothing);
	sqe = loop_sqe(signaller.timer.loop);
	io_uring_prep_timeout(sqe, &soon, 0, 0);
	loop_submit(signaller.timer.loop, sqe, &signaller.timer.op);
	assert_int_equal(loop_run(signaller.timer.loop), 0);
	assert_in_range(signaller.rounds, 1, 5);
	loop_free(signaller.timer.loop);
	close(signaller.fd);
}

#define MS 1000000ULL

struct clock {
	struct loop_timer timers[3];
	struct loop *loop;
	char order[8];
	unsigned count, again;
};

static void rang(struct clock *clock, char name)
{
	clock->order[clock->count++] = name;
	if (clock->count == 4)
		loop_stop(clock->loop);
}

static void rang_a(struct loop_timer *timer)
{
	struct clock *clock = container_of(timer, struct clock, timers[0]);

	rang(clock, 'a');
	if (clock->again++ == 0)
		loop_timer_after(clock->loop, timer, 20 * MS);
}

static void rang_b(struct loop_timer *timer)
{
	struct clock *clock = container_of(timer, struct clock, timers[1]);

	/* Stopped by one that ended in the same round: it must not be called. */
	loop_timer_stop(&clock->timers[2]);
	rang(clock, 'b');
	loop_timer_after(clock->loop, &clock->timers[2], MS);
}

static void rang_c(struct loop_timer *timer)
{
	rang(container_of(timer, struct clock, timers[2]), 'c');
}

static void timers_end_in_order(void **state)
{
	struct clock clock = {
		.timers = {{.expired = rang_a}, {.expired = rang_b}, {.expired = rang_c}}};
	uint64_t start = clock_ns();

	(void)state;
	assert_int_equal(loop_new(&clock.loop, 8, NULL), 0);
	loop_timer_at(clock.loop, &clock.timers[2], start + 1);
	loop_timer_at(clock.loop, &clock.timers[1], start);
	loop_timer_after(clock.loop, &clock.timers[0], 50 * MS);
	/* Set anew: earlier than it was. */
	loop_timer_after(clock.loop, &clock.timers[0], 5 * MS);
	assert_true(loop_timer_set(&clock.timers[0]));
	assert_int_equal(loop_run(clock.loop), 0);
	assert_string_equal(clock.order, "bcaa");
	assert_true(clock_ns() - start >= 25 * MS);
	assert_false(loop_timer_set(&clock.timers[0]));
	loop_timer_stop(&clock.timers[0]);
	loop_free(clock.loop);
}

struct death {
	struct loop_task task;
	struct loop_op op;
	struct loop *loop;
	_Atomic int error;
};

/* io_uring itself goes away; whatever is asked for then has somewhere to be written to. */
static void kill_ring(struct loop_task *task)
{
	struct death *death = container_of(task, struct death, task);

	close(death->loop->ring.ring_fd);
	death->loop->ring.enter_ring_fd = -1;
	for (unsigned i = 0; i < 100; i++) {
		struct io_uring_sqe *sqe = loop_sqe(death->loop);

		assert_non_null(sqe);
		io_uring_prep_nop(sqe);
		loop_submit(death->loop, sqe, &death->op);
	}
}

static void died(void *opaque, int error)
{
	((struct death *)opaque)->error = error;
}

struct forbidden {
	struct loop_op op;
	struct loop *loop;
	int result;
};

static void forbidden_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct forbidden *forbidden = container_of(op, struct forbidden, op);

	(void)flags;
	forbidden->result = res;
	loop_stop(forbidden->loop);
}

/* No filter of system calls sees what a ring does. */
static void opens_no_files(void **state)
{
	(void)state;
	for (unsigned way = 0; way < LOOP_WAYS; way++) {
		struct forbidden forbidden = {.op.done = forbidden_done};
		struct io_uring_sqe *sqe;

		assert_int_equal(loop_new_as(&forbidden.loop, 4, way, NULL), 0);
		sqe = loop_sqe(forbidden.loop);
		io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
		loop_submit(forbidden.loop, sqe, &forbidden.op);
		assert_int_equal(loop_run(forbidden.loop), 0);
		assert_int_equal(forbidden.result, -EACCES);
		loop_free(forbidden.loop);
	}
}

static void tells_that_it_died(void **state)
{
	struct death death = {.task.run = kill_ring};
	const struct loop_thread_options options = {
		.name = "test", .entries = 8, .died = died, .opaque = &death};
	struct loop_thread *thread = NULL;

	(void)state;
	assert_int_equal(loop_thread_start(&thread, &options, NULL), 0);
	death.loop = loop_thread_loop(thread);
	loop_post(death.loop, &death.task);
	while (!death.error)
		sched_yield();
	assert_true(death.error < 0);
	loop_thread_quit(thread);
	loop_thread_stop(thread);
}

static void *run_once(void *loop)
{
	assert_int_equal(loop_run(loop), 0);
	return NULL;
}

static void stop_it(struct loop_task *task)
{
	loop_stop(container_of(task, struct counter, task)->loop);
}

static void count_call(struct loop_task *task)
{
	container_of(task, struct counter, task)->seen++;
}

/* Nobody is left waiting by a loop that ends at that very moment. */
static void answers_calls_at_its_end(void **state)
{
	struct counter stopper = {.task.run = stop_it}, caller = {.task.run = count_call};
	pthread_t thread;

	(void)state;
	for (unsigned i = 0; i < 500; i++) {
		assert_int_equal(loop_new(&stopper.loop, 8, NULL), 0);
		assert_int_equal(pthread_create(&thread, NULL, run_once, stopper.loop), 0);
		while (!atomic_load(&stopper.loop->running))
			sched_yield();
		loop_post(stopper.loop, &stopper.task);
		for (unsigned n = i % 8; n; n--)
			sched_yield();
		loop_call(stopper.loop, &caller.task);
		pthread_join(thread, NULL);
		loop_free(stopper.loop);
	}
	assert_int_equal(caller.seen, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watches_an_eventfd_without_reading),
		cmocka_unit_test(forgets_a_removed_watch),
		cmocka_unit_test(runs_posted_tasks_in_its_thread),
		cmocka_unit_test(waits_until_it_may_go),
		cmocka_unit_test(takes_tasks_back),
		cmocka_unit_test(submits_beyond_its_queue),
		cmocka_unit_test(runs_in_another_thread),
		cmocka_unit_test(what_has_no_room_is_not_held_up),
		cmocka_unit_test(ends_a_round_though_work_goes_on),
		cmocka_unit_test(a_turn_has_its_time),
		cmocka_unit_test(signals_without_ending_the_wait),
		cmocka_unit_test(timers_end_in_order),
		cmocka_unit_test(tells_that_it_died),
		cmocka_unit_test(opens_no_files),
		cmocka_unit_test(answers_calls_at_its_end),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
