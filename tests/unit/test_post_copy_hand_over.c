/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes after its machine: whose that is when the line is cut as it is handed over, and
 * who knows that it is over when the last word is lost. */
#include "migrate_rig.h"

#include "base/log.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

/* A guest that writes for ever: the most of its memory goes after it. */
static struct rig busy(void)
{
	return (struct rig){.low = 64 * MEMORY_PAGE, .writes = 4000, .limit = 1, .wait = 30};
}

static void migrate(struct rig *rig)
{
	if (!rig_has_late())
		skip();
	rig_open(rig);
	memset(memory_region(&rig->here, 0)->mapped_at, 0x17, rig->low);
	rig_migrate(rig);
}

static void assert_stays(const struct rig *rig)
{
	rig_assert_stays(rig);
	assert_false(rig->ended);
}

/* ---- whose it is ---- */

/* The source has called again, on all of its streams, and waits for a word. */
static void await_new_line(struct rig *rig)
{
	while (atomic_load(&rig->connected) < 2 * (rig->streams + 1))
		sched_yield();
}

/* It has been given away when all streams are cut, and does not run yet. */
static void cut_and_await_new_line(struct rig *rig)
{
	rig_let_cut(rig);
	await_new_line(rig);
	assert_int_equal(rig->followed, 0);
}

static void test_a_new_line_does_not_say_ready_for_who_does_not_run(void **state)
{
	for (unsigned streams = 1; streams < 4; streams++) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.runs = cut_and_await_new_line;
		migrate(&rig);
		rig_assert_moved(&rig);
		assert_true(atomic_load(&rig.progress.cuts) >= 1);
		rig_close(&rig);
	}
}

static void test_who_fails_to_run_gives_it_back_over_a_new_line(void **state)
{
	for (unsigned streams = 1; streams < 4; streams++) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.runs = cut_and_await_new_line;
		rig.fails = RIG_RUN;
		migrate(&rig);
		assert_stays(&rig);
		assert_non_null(strstr(rig.source_err.text, "was made to fail"));
		rig_close(&rig);
	}
}

static unsigned part;

/* The line is cut after @part bytes of what the source says next: commit. */
static void cut_commit(struct rig *rig)
{
	rig->at = rig->said[0] + part;
	rig->fault = RIG_CUT_ONCE;
}

static void test_a_commit_that_is_cut_is_given_back(void **state)
{
	for (part = 0; part < WIRE_HEADER; part++) {
		struct rig rig = busy();

		rig.commits = cut_commit;
		migrate(&rig);
		assert_stays(&rig);
		rig_close(&rig);
	}
}

static void test_a_commit_that_is_lost_is_given_back(void **state)
{
	struct rig rig = busy();

	rig.lost = WIRE_COMMIT;
	migrate(&rig);
	assert_stays(&rig);
	assert_true(atomic_load(&rig.progress.cuts) >= 1);
	rig_close(&rig);
}

/* Of the target's next message. */
static void cut_failed(struct rig *rig)
{
	rig->of_target = true;
	rig->at = rig->said[1] + part;
	rig->fault = RIG_CUT_ONCE;
}

static void test_a_failure_that_is_cut_is_said_again(void **state)
{
	for (part = 0; part < 2 * WIRE_HEADER; part++) {
		struct rig rig = busy();

		rig.runs = cut_failed;
		rig.fails = RIG_RUN;
		migrate(&rig);
		assert_stays(&rig);
		rig_close(&rig);
	}
}

static void test_words_that_are_lost(void **state)
{
	/* Its answer that it runs is not needed. */
	struct rig running = busy(), failed = busy();

	running.lost = WIRE_RUNNING;
	migrate(&running);
	rig_assert_moved(&running);
	rig_close(&running);
	/* And that it does not is said until it was heard. */
	failed.lost = WIRE_FAILED;
	failed.fails = RIG_RUN;
	migrate(&failed);
	assert_stays(&failed);
	rig_close(&failed);
}

/* ---- somebody else, where the target was ---- */

struct stranger {
	struct address address;
	char text[80];
	int listening, stop;
	bool welcomes;
	pthread_t thread;
};

static int answer(const struct stranger *stranger, struct channel *channel, uint32_t *index)
{
	struct message message = {0};
	int ret = channel_expect(channel, &message, WIRE_HELLO, NULL);

	*index = ret == 0 ? message.body[8] : 0;
	if (ret == 0)
		ret = channel_send(channel, stranger->welcomes ? WIRE_WELCOME : WIRE_FAILED,
			message.body, message.header.length, "", 0, NULL);
	message_free(&message);
	return ret;
}

/* Refuses, as a target of another machine's; or welcomes all streams, as one that waits for any
 * machine, and then fails. */
static void *be_strange(void *opaque)
{
	const struct stranger *stranger = opaque;
	struct channel first = {.fd = -1}, channel;
	uint32_t index;
	int fd;

	while ((fd = address_accept(stranger->listening, stranger->stop, 0, NULL)) >= 0) {
		channel_open(&channel, fd, stranger->stop, NULL, true, 0, NULL);
		if (answer(stranger, &channel, &index) == 0 && stranger->welcomes && index == 0) {
			channel_close(&first);
			first = channel;
			continue;
		}
		if (stranger->welcomes)
			channel_fail(&first, "no machine came");
		channel_close(&first);
		channel_close(&channel);
	}
	channel_close(&first);
	return NULL;
}

static struct stranger *met;

static void go_elsewhere(struct rig *rig)
{
	if (atomic_load(&rig->progress.cuts))
		rig->elsewhere = &met->address;
}

/* Its word is not the target's, which may run. */
static void meet(bool welcomes)
{
	struct stranger stranger = {.welcomes = welcomes};
	struct rig rig = busy();

	snprintf(stranger.text, sizeof(stranger.text), "unix:/tmp/duet-stranger-%d", (int)getpid());
	assert_int_equal(address_parse(&stranger.address, stranger.text, "test", NULL), 0);
	stranger.listening = address_listen(&stranger.address, NULL);
	stranger.stop = eventfd(0, EFD_NONBLOCK);
	assert_true(stranger.listening >= 0 && stranger.stop >= 0);
	assert_int_equal(pthread_create(&stranger.thread, NULL, be_strange, &stranger), 0);
	met = &stranger;
	rig.wait = 1;
	rig.lost = WIRE_RUNNING;
	rig.connects = go_elsewhere;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_TORN);
	assert_true(rig.runs_there && rig.committed);
	assert_false(rig.runs_here || rig.disks_here || rig.followed);
	eventfd_write(stranger.stop, 1);
	pthread_join(stranger.thread, NULL);
	address_close(&stranger.address, stranger.listening);
	close(stranger.stop);
	rig_close(&rig);
}

static void test_a_stranger_gives_nothing_back(void **state)
{
	if (!rig_has_late())
		skip();
	meet(false);
}

static void test_a_second_target_gives_nothing_back(void **state)
{
	if (!rig_has_late())
		skip();
	meet(true);
}

/* ---- the end ---- */

static void test_the_last_word_is_lost(void **state)
{
	for (unsigned streams = 1; streams < 4; streams++) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.lost = WIRE_WHOLE;
		migrate(&rig);
		rig_assert_moved(&rig);
		assert_true(atomic_load(&rig.progress.cuts) >= 1);
		rig_close(&rig);
	}
}

/* The source knows; that it does the target does not, and waits for it in vain. */
static void test_the_answer_to_the_last_word_is_lost(void **state)
{
	struct rig rig = busy();

	rig.wait = 1;
	rig.lost = WIRE_WHOLE;
	rig.before_lost = 1;
	migrate(&rig);
	rig_assert_moved(&rig);
	assert_true(atomic_load(&rig.progress.cuts) == 0);
	rig_close(&rig);
}

static void cut_and_clear(struct rig *rig)
{
	rig_cut(rig);
	rig_clear_memory(rig);
}

static void connect_after_its_end(struct rig *rig)
{
	while (atomic_load(&rig->progress.cuts) && !atomic_load(&rig->ended))
		sched_yield();
}

/* It waits for nobody, and says so to whoever comes. */
static void test_nothing_lacks_any_more_while_the_line_is_cut(void **state)
{
	struct rig rig = busy();

	rig.follows = cut_and_clear;
	rig.connects = connect_after_its_end;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_MOVED);
	assert_true(rig.arrived && rig.arrival_result == 0 && rig_same_memory(&rig));
	rig_close(&rig);
}

static void cut_and_clear_before_it_runs(struct rig *rig)
{
	cut_and_await_new_line(rig);
	rig_clear_memory(rig);
}

/* The line that was made meanwhile has carried no word, and is of no use. */
static void test_nothing_lacks_when_it_runs_after_a_cut(void **state)
{
	struct rig rig = busy();

	rig.runs = cut_and_clear_before_it_runs;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_MOVED);
	assert_true(rig.arrived && rig.arrival_result == 0 && rig_same_memory(&rig));
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_line_does_not_say_ready_for_who_does_not_run),
		cmocka_unit_test(test_who_fails_to_run_gives_it_back_over_a_new_line),
		cmocka_unit_test(test_a_commit_that_is_cut_is_given_back),
		cmocka_unit_test(test_a_commit_that_is_lost_is_given_back),
		cmocka_unit_test(test_a_failure_that_is_cut_is_said_again),
		cmocka_unit_test(test_words_that_are_lost),
		cmocka_unit_test(test_a_stranger_gives_nothing_back),
		cmocka_unit_test(test_a_second_target_gives_nothing_back),
		cmocka_unit_test(test_the_last_word_is_lost),
		cmocka_unit_test(test_the_answer_to_the_last_word_is_lost),
		cmocka_unit_test(test_nothing_lacks_any_more_while_the_line_is_cut),
		cmocka_unit_test(test_nothing_lacks_when_it_runs_after_a_cut),
	};

	/* Of a line that is cut it says so each time. */
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
