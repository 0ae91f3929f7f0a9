/* SPDX-License-Identifier: Apache-2.0 */
/* The source as its owner has it: begun, cancelled, failed, moved, and what is asked of the machine
 * for it. The machine is this test's own; the target is a real one over memory alone. */
#include "base/checked.h"
#include "base/log.h"
#include "base/thread.h"
#include "machine/machine.h"
#include "memory/memory.h"
#include "migrate/migrate.h"
#include "migrate/target.h"
#include "state/state.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define MEMORY (8ULL << 20)

/* The one machine there is, as machine.h has it. */
static struct {
	struct loop *loop;
	struct memory memory;
	struct machine_pause *pause;
	struct loop_task pause_task;
	_Atomic bool held, claimed, cancels;
	_Atomic unsigned takes; /* of the log */
	bool paused, logging, given_away, moved, known;
	int movable, pause_result, claim_result;
	unsigned pauses, saves, busy;
	bool changes; /* its configuration, after the first time that it is asked for */
	char why[512];
} self;

static struct machine *const machine = (struct machine *)&self;

struct memory *__wrap_machine_memory(struct machine *ignored);
int __wrap_machine_check_movable(const struct machine *ignored, struct error *err);
const struct machine_config *__wrap_machine_config(const struct machine *ignored);
int __wrap_machine_config_write(
	const struct machine_config *ignored, char **text, struct error *err);
int __wrap_machine_log_start(struct machine *ignored, struct error *err);
void __wrap_machine_log_stop(struct machine *ignored);
int __wrap_machine_log_take(
	struct machine *ignored, unsigned region, uint64_t *bitmap, struct error *err);
bool __wrap_machine_log_tells(const struct machine *ignored, uint64_t written[MACHINE_CPUS_MAX]);
void __wrap_machine_throttle(struct machine *ignored, const uint8_t percent[MACHINE_CPUS_MAX]);
int __wrap_machine_save(struct machine *ignored, struct state_writer *writer, struct error *err);
void __wrap_machine_hold(struct machine *ignored, bool held);
int __wrap_machine_pause(struct machine *ignored, struct machine_pause *pause, uint64_t limit);
void __wrap_machine_resume(struct machine *ignored);
bool __wrap_machine_is_paused(const struct machine *ignored);
enum machine_state __wrap_machine_state(const struct machine *ignored);
int __wrap_machine_release_disks(struct machine *ignored, struct error *err);
int __wrap_machine_claim_disks(struct machine *ignored, struct error *err);
void __wrap_machine_moved(struct machine *ignored, bool known, const char *why);
void __wrap_machine_give_away(struct machine *ignored);

struct memory *__wrap_machine_memory(struct machine *ignored)
{
	return &self.memory;
}

int __wrap_machine_check_movable(const struct machine *ignored, struct error *err)
{
	return self.movable ? error_set(err, -self.movable, "vfio0: it cannot move") : 0;
}

const struct machine_config *__wrap_machine_config(const struct machine *ignored)
{
	static const struct machine_config config = {.cpus = 2};

	return &config;
}

int __wrap_machine_config_write(
	const struct machine_config *ignored, char **text, struct error *err)
{
	*text = strdup(self.changes && self.saves++ ? "{}" : "{\"duet\": 1}");
	return 0;
}

int __wrap_machine_log_start(struct machine *ignored, struct error *err)
{
	assert_true(self.paused && !self.logging);
	self.logging = true;
	return memory_dirty_start(&self.memory);
}

void __wrap_machine_log_stop(struct machine *ignored)
{
	assert_true(self.paused && self.logging);
	self.logging = false;
	memory_dirty_stop(&self.memory);
}

int __wrap_machine_log_take(
	struct machine *ignored, unsigned region, uint64_t *bitmap, struct error *err)
{
	assert_true(self.logging);
	/* However quick the link is: it has not ended when it is to be cancelled. */
	self.takes++;
	while (self.takes > 1 && self.cancels)
		sched_yield();
	/* A guest that writes to half of its memory, always: it is never done. */
	if (self.busy && !self.held)
		for (uint64_t page = 0; page < self.busy; page++)
			memory_wrote(&self.memory, GPA(page * MEMORY_PAGE), MEMORY_PAGE);
	for (uint64_t i = 0; i < MEMORY / MEMORY_PAGE / 64; i++)
		bitmap[i] = memory_dirty_take(&self.memory, i);
	return 0;
}

bool __wrap_machine_log_tells(const struct machine *ignored, uint64_t written[MACHINE_CPUS_MAX])
{
	return false;
}

void __wrap_machine_throttle(struct machine *ignored, const uint8_t percent[MACHINE_CPUS_MAX])
{
	/* By bitmaps nobody knows who it is. */
	assert_true(!percent || percent[0] == percent[1]);
}

int __wrap_machine_save(struct machine *ignored, struct state_writer *writer, struct error *err)
{
	assert_true(self.paused && self.held);
	self.saves++;
	return 0;
}

void __wrap_machine_hold(struct machine *ignored, bool held)
{
	assert_true(self.paused);
	self.held = held;
}

static void come_to_rest(struct loop_task *task)
{
	struct machine_pause *pause = self.pause;
	int result = self.pause_result;

	self.pause = NULL;
	self.pause_result = 0;
	self.paused = result == 0;
	pause->done(pause, result, result ? "disk0 did not come to rest" : NULL);
}

int __wrap_machine_pause(struct machine *ignored, struct machine_pause *pause, uint64_t limit)
{
	assert_true(limit > 0);
	if (self.paused)
		return -EINVAL;
	if (self.pause)
		return -EALREADY;
	self.pauses++;
	self.pause = pause;
	self.pause_task.run = come_to_rest;
	loop_post(self.loop, &self.pause_task);
	return 0;
}

void __wrap_machine_resume(struct machine *ignored)
{
	if (!self.held)
		self.paused = false;
}

bool __wrap_machine_is_paused(const struct machine *ignored)
{
	return self.paused;
}

enum machine_state __wrap_machine_state(const struct machine *ignored)
{
	return self.paused ? MACHINE_PAUSED : MACHINE_RUNNING;
}

int __wrap_machine_release_disks(struct machine *ignored, struct error *err)
{
	assert_true(self.held);
	self.claimed = false;
	return 0;
}

int __wrap_machine_claim_disks(struct machine *ignored, struct error *err)
{
	self.claimed = self.claim_result == 0;
	return self.claim_result ? error_set(err, EBUSY, "disk0: busy") : 0;
}

void __wrap_machine_give_away(struct machine *ignored)
{
	assert_true(self.held && self.paused && !self.moved);
	self.given_away = true;
}

void __wrap_machine_moved(struct machine *ignored, bool known, const char *why)
{
	assert_true(self.held && self.paused);
	self.moved = true;
	self.known = known;
	snprintf(self.why, sizeof(self.why), "%s", why);
	loop_stop(self.loop);
}

/* ---- the other side ---- */

static struct {
	struct address address;
	char text[64];
	struct memory memory;
	int listening, stop;
	pthread_t thread;
	_Atomic bool refuses, runs, whole;
	struct arrival *arrival;
	int result;
	struct error err;
} there;

static void memory_ended(void *opaque, int result, const struct error *err)
{
	there.whole = result == 0;
}

/* It listens until the test's end. */
static void memory_closed(void *opaque)
{
}

static int build(void *opaque, const char *text, size_t length, struct memory **memory,
	struct arrival **arrival, struct error *err)
{
	const struct arrival_terms terms = {.memory = &there.memory,
		.listening = there.listening,
		.ops = {.ended = memory_ended, .closed = memory_closed}};

	*memory = &there.memory;
	if (!arrival)
		return 0;
	if (arrival_new(&there.arrival, &terms, err) < 0)
		return -err->code;
	*arrival = there.arrival;
	return arrival_start(there.arrival, err);
}

static int restore(void *opaque, struct state_reader *state, struct error *err)
{
	return 0;
}

static int run(void *opaque, struct error *err)
{
	assert_false(self.claimed);
	there.runs = !there.refuses;
	return there.refuses ? error_set(err, EBUSY, "disk0: another has claimed it") : 0;
}

static void *run_target(void *opaque)
{
	static const struct target_ops ops = {.build = build, .restore = restore, .run = run};

	there.result = target_run(&ops, there.listening, there.stop, NULL, &there.err);
	return NULL;
}

/* ---- a migration ---- */

static struct loop_timer look;
static struct migration *migration;

/* Until it has ended; the machine that has moved stops the loop itself. */
static void look_again(struct loop_timer *timer)
{
	struct migration_status status = migration_status(migration);

	if (self.cancels && self.takes > 1) {
		assert_int_equal(migration_cancel(migration), 0);
		self.cancels = false;
	}
	if (status.state != MIGRATION_RUNNING && status.state != MIGRATION_DONE)
		loop_stop(self.loop);
	else
		loop_timer_after(self.loop, timer, 1000000);
}

static int open_there(void **state)
{
	memset(&self, 0, sizeof(self));
	memset(&there, 0, sizeof(there));
	self.claimed = true;
	assert_int_equal(loop_new(&self.loop, 16, NULL), 0);
	memory_init(&self.memory);
	memory_init(&there.memory);
	memory_add(&self.memory, GPA(0), MEMORY, MEMORY_ANONYMOUS, "low", NULL);
	memory_add(&there.memory, GPA(0), MEMORY, MEMORY_ANONYMOUS, "low", NULL);
	snprintf(there.text, sizeof(there.text), "unix:/tmp/duet-migration-%d", (int)getpid());
	assert_int_equal(address_parse(&there.address, there.text, "test", NULL), 0);
	there.listening = address_listen(&there.address, NULL);
	there.stop = eventfd(0, EFD_NONBLOCK);
	assert_true(there.listening >= 0 && there.stop >= 0);
	assert_int_equal(thread_start(&there.thread, 131072, run_target, NULL), 0);
	return 0;
}

static int close_there(void **state)
{
	migration_free(migration);
	migration = NULL;
	eventfd_write(there.stop, 1);
	pthread_join(there.thread, NULL);
	arrival_free(there.arrival, false);
	address_close(&there.address, there.listening);
	close(there.stop);
	memory_free(&self.memory);
	memory_free(&there.memory);
	loop_timer_stop(&look);
	loop_free(self.loop);
	return 0;
}

static struct migration_status migrate(const struct migration_options *options)
{
	struct migration_options all = *options;
	struct error err;

	all.to = all.to ? all.to : there.text;
	assert_int_equal(migration_begin(&migration, machine, self.loop, &all, &err), 0);
	look.expired = look_again;
	loop_timer_after(self.loop, &look, 1000000);
	assert_int_equal(loop_run(self.loop), 0);
	loop_timer_stop(&look);
	return migration_status(migration);
}

static void assert_goes_on(void)
{
	assert_false(self.paused || self.held || self.logging || self.moved || there.runs);
	assert_true(self.claimed);
}

static void test_it_moves(void **state)
{
	struct migration_status status = migrate(&(struct migration_options){.streams = 3});

	assert_int_equal(status.state, MIGRATION_DONE);
	assert_true(self.given_away && self.moved && self.known && !self.claimed && there.runs);
	assert_int_equal(self.pauses, 2);
	assert_int_equal(self.saves, 1);
	assert_int_equal(migration_cancel(migration), -EALREADY);
}

/* It cannot be cancelled while its memory follows, and its end here comes when all of that is
 * there. */
static void test_its_memory_follows(void **state)
{
	struct migration_status status;

	self.busy = 1024;
	status = migrate(
		&(struct migration_options){.post_copy = true, .downtime_ms = 1, .streams = 2});
	if (strstr(status.why, "userfaultfd"))
		skip();
	assert_int_equal(status.state, MIGRATION_DONE);
	assert_true(self.given_away && self.moved && self.known && !self.claimed && there.runs);
	assert_true(there.whole);
	assert_int_equal(atomic_load(&status.progress->left), 0);
	assert_int_equal(migration_cancel(migration), -EALREADY);
}

static void test_it_is_cancelled(void **state)
{
	struct migration_status status;

	self.busy = 1024;
	self.cancels = true;
	status = migrate(&(struct migration_options){.downtime_ms = 1, .streams = 2});
	assert_int_equal(status.state, MIGRATION_CANCELLED);
	assert_goes_on();
}

static void test_nobody_is_there(void **state)
{
	struct migration_status status =
		migrate(&(struct migration_options){.to = "unix:/nowhere/socket"});

	assert_int_equal(status.state, MIGRATION_FAILED);
	assert_non_null(strstr(status.why, "unix:/nowhere/socket"));
	assert_int_equal(self.pauses, 0);
	assert_goes_on();
}

static void test_it_does_not_come_to_rest(void **state)
{
	struct migration_status status;

	self.pause_result = -ETIMEDOUT;
	status = migrate(&(struct migration_options){0});
	assert_int_equal(status.state, MIGRATION_FAILED);
	assert_string_equal(status.why, "disk0 did not come to rest");
	assert_goes_on();
}

static void test_a_paused_machine_is_left_alone(void **state)
{
	struct migration_status status;

	self.paused = true;
	status = migrate(&(struct migration_options){0});
	assert_int_equal(status.state, MIGRATION_FAILED);
	assert_non_null(strstr(status.why, "resume it"));
	assert_false(self.logging || self.held || self.given_away || self.moved);
}

static void test_a_log_for_something_else(void **state)
{
	struct migration_status status;

	memory_dirty_start(&self.memory);
	status = migrate(&(struct migration_options){0});
	assert_int_equal(status.state, MIGRATION_FAILED);
	assert_true(memory_is_logged(&self.memory));
	assert_goes_on();
}

static void test_the_target_gives_it_back(void **state)
{
	struct migration_status status;

	there.refuses = true;
	status = migrate(&(struct migration_options){0});
	assert_int_equal(status.state, MIGRATION_FAILED);
	assert_non_null(strstr(status.why, "another has claimed it"));
	assert_goes_on();
}

static void test_a_configuration_that_changes(void **state)
{
	struct migration_status status;

	self.changes = true;
	status = migrate(&(struct migration_options){0});
	assert_int_equal(status.state, MIGRATION_FAILED);
	assert_non_null(strstr(status.why, "move it again"));
	assert_goes_on();
}

/* Its disks are a third's by now: it runs nowhere, rather than on them. */
static void test_it_cannot_be_taken_back(void **state)
{
	struct migration_status status;

	there.refuses = true;
	self.claim_result = -EBUSY;
	status = migrate(&(struct migration_options){0});
	assert_int_equal(status.state, MIGRATION_LOST);
	assert_true(self.moved && !self.known && self.held);
	assert_non_null(strstr(self.why, "disk0: busy"));
}

static void test_what_cannot_move_is_refused_at_once(void **state)
{
	const struct migration_options options = {.to = there.text};
	struct error err;

	self.movable = -EBUSY;
	assert_int_equal(migration_begin(&migration, machine, self.loop, &options, &err), -EBUSY);
	assert_string_equal(err.text, "vfio0: it cannot move");
	assert_null(migration);
}

static void test_wrong_options(void **state)
{
	const struct migration_options wrong[] = {
		{.to = "there"},
		{.to = "tcp:192.0.2.1:4000"},
		{.to = there.text, .streams = MIGRATION_STREAMS_MAX + 1},
		{.to = there.text, .downtime_ms = MIGRATION_DOWNTIME_MAX + 1},
		{.to = there.text, .tls = {.cert = "/nowhere"}},
		{.to = there.text, .wait_s = 10},
		{.to = there.text, .post_copy = true, .wait_s = MIGRATION_WAIT_MAX + 1},
		{.to = there.text, .plain = true, .tls = {"a", "b", "c"}},
	};
	struct error err;

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(
			migration_begin(&migration, machine, self.loop, &wrong[i], &err), -EINVAL);
	assert_null(migration);
}

/* Its machine ended in the midst of it. */
static void test_freed_while_it_runs(void **state)
{
	const struct migration_options options = {.to = there.text, .downtime_ms = 1};

	self.busy = 1024;
	assert_int_equal(migration_begin(&migration, machine, self.loop, &options, NULL), 0);
	usleep(1000);
	migration_free(migration);
	migration = NULL;
	assert_false(self.moved || there.runs);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_there, close_there)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_it_moves),
		TEST(test_its_memory_follows),
		TEST(test_it_is_cancelled),
		TEST(test_nobody_is_there),
		TEST(test_it_does_not_come_to_rest),
		TEST(test_a_paused_machine_is_left_alone),
		TEST(test_a_log_for_something_else),
		TEST(test_the_target_gives_it_back),
		TEST(test_a_configuration_that_changes),
		TEST(test_it_cannot_be_taken_back),
		TEST(test_what_cannot_move_is_refused_at_once),
		TEST(test_wrong_options),
		TEST(test_freed_while_it_runs),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
