/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes after its machine, with somebody hostile at one end or between. */
#include "migrate_rig.h"

#include "base/bytes.h"
#include "base/log.h"
#include "migrate/lacks.h"
#include "migrate/pages.h"
#include "migrate/sweep.h"
#include "state/state.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1ULL << 20)

/* ---- hostile names of pages ---- */

struct names {
	struct memory memory;
	uint8_t body[LACKS_BODY_MAX];
	unsigned puts;
};

static void count_put(void *opaque, gpa_t gpa, uint64_t bits)
{
	struct names *names = opaque;

	assert_non_null(memory_begin(&names->memory, gpa, 1));
	names->puts += bits != 0;
}

static int take(struct names *names, size_t length, uint64_t *after)
{
	static const struct lacks_ops ops = {.put = count_put};
	/* The sanitizer sees a byte too much. */
	uint8_t *copy = malloc(length + 1);
	struct error err = {0};
	int ret;

	memcpy(copy, names->body, length);
	ret = lacks_take(&names->memory, copy, length, after, &ops, names, &err);
	free(copy);
	assert_true(ret == 0 || *err.text);
	return ret;
}

static int take_named(
	struct names *names, uint64_t gpa, uint32_t pages, uint32_t zero, size_t length)
{
	uint64_t after = 0;

	store_le64(names->body, gpa);
	store_le32(names->body + 8, pages);
	store_le32(names->body + 12, zero);
	return take(names, length, &after);
}

static void test_names_of_pages_are_checked(void **state)
{
	struct names names = {.puts = 0};
	uint64_t after = 0;

	memory_init(&names.memory);
	memory_add(&names.memory, GPA(MIB), 130 * MEMORY_PAGE, MEMORY_ANONYMOUS, "low", NULL);
	store_le64(names.body + LACKS_HEAD, 1);
	store_le64(names.body + LACKS_HEAD + 16, 2);
	assert_int_equal(take_named(&names, MIB, 130, 0, LACKS_HEAD + 24), 0);
	assert_int_equal(names.puts, 2);
	/* Of which the third word has two. */
	store_le64(names.body + LACKS_HEAD + 16, 4);
	assert_int_equal(take_named(&names, MIB, 130, 0, LACKS_HEAD + 24), -EPROTO);
	store_le64(names.body + LACKS_HEAD + 16, 0);
	assert_int_equal(take_named(&names, MIB, 131, 0, LACKS_HEAD + 24), -EFAULT);
	assert_int_equal(take_named(&names, MIB, 130, 1, LACKS_HEAD + 24), -EPROTO);
	assert_int_equal(take_named(&names, MIB, 0, 0, LACKS_HEAD), -EPROTO);
	assert_int_equal(take_named(&names, MIB, 130, 0, LACKS_HEAD + 16), -EPROTO);
	assert_int_equal(take_named(&names, MIB, UINT32_MAX, 0, LACKS_HEAD + 24), -EPROTO);
	assert_int_equal(take_named(&names, MIB, LACKS_WORDS * 64, 0, LACKS_BODY_MAX), -EFAULT);
	assert_int_equal(take_named(&names, 0, 64, 0, LACKS_HEAD + 8), -EFAULT);
	assert_int_equal(
		take_named(&names, UINT64_MAX - MEMORY_PAGE + 1, 64, 0, LACKS_HEAD + 8), -EFAULT);
	assert_int_equal(take_named(&names, MIB + 3 * MEMORY_PAGE, 64, 0, LACKS_HEAD + 8), -EPROTO);
	assert_int_equal(names.puts, 2);
	/* Twice. */
	store_le64(names.body, MIB);
	store_le32(names.body + 8, 64);
	store_le32(names.body + 12, 0);
	assert_int_equal(take(&names, LACKS_HEAD + 8, &after), 0);
	assert_int_equal(take(&names, LACKS_HEAD + 8, &after), -EPROTO);
	store_le64(names.body, MIB + 64 * MEMORY_PAGE);
	assert_int_equal(take(&names, LACKS_HEAD + 8, &after), 0);
	memory_free(&names.memory);
}

/* ---- somebody else at the target's address ---- */

static uint64_t all_lack(void *opaque, gpa_t gpa)
{
	(void)opaque;
	return gpa.value < 128 * MEMORY_PAGE ? UINT64_MAX : 3;
}

static struct memory *memory_of(void *opaque)
{
	return opaque;
}

/* Says that all of memory lacks, and is sent what was to follow alone. */
static void test_who_comes_later_is_given_no_more(void **state)
{
	static const struct source_ops source_ops = {.memory = memory_of};
	static const struct lacks_ops all = {.get = all_lack};
	struct source_progress progress = {.sent = 0};
	struct channel ends[2], *channel = &ends[0];
	struct sweep sweep;
	struct source source;
	struct memory memory;
	struct error err;
	int fds[2];

	memory_init(&memory);
	memory_add(&memory, GPA(0), 130 * MEMORY_PAGE, MEMORY_ANONYMOUS, "low", NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(channel_open(&ends[i], fds[i], -1, NULL, false, 0, &err), 0);
	source = (struct source){.ops = &source_ops,
		.opaque = &memory,
		.channels = channel,
		.streams = 1,
		.progress = &progress};
	assert_int_equal(sweep_init(&sweep, &source, &err), 0);
	memset(sweep.wanted[0], 0, 3 * sizeof(uint64_t));
	sweep.wanted[0][1] = 6;
	assert_int_equal(sweep_share(&sweep, &err), 0);
	assert_int_equal(lacks_say(&ends[1], &memory, &all, NULL, &err), 0);
	assert_int_equal(channel_say(&ends[1], WIRE_READY, &err), 0);
	assert_int_equal(sweep_hear_wanted(&sweep, channel, &err), 0);
	assert_int_equal(sweep_wanted(&sweep), 2);
	assert_true(sweep_named(&sweep, GPA(65 * MEMORY_PAGE)));
	assert_false(sweep_named(&sweep, GPA(64 * MEMORY_PAGE)));
	assert_false(sweep_named(&sweep, GPA(130 * MEMORY_PAGE)));
	sweep_free(&sweep);
	channel_close(&ends[0]);
	channel_close(&ends[1]);
	memory_free(&memory);
}

/* ---- a hostile source ---- */

struct visit {
	struct rig rig;
	struct channel streams[2];
	struct message message;
};

static void say(
	struct visit *visit, unsigned stream, enum wire_kind kind, const void *body, size_t length)
{
	assert_int_equal(channel_send(&visit->streams[stream], kind, body, length, "", 0, NULL), 0);
}

static void expect(struct visit *visit, unsigned stream, enum wire_kind kind)
{
	struct error err = {0};

	if (channel_expect(&visit->streams[stream], &visit->message, kind, &err) < 0)
		fail_msg("%s", err.text);
}

static int connect_to(struct visit *visit)
{
	int fd;

	/* -EAGAIN: many are about to. */
	while ((fd = address_connect(&visit->rig.address, -1, NULL)) == -EAGAIN)
		sched_yield();
	assert_true(fd >= 0);
	return fd;
}

static void say_hello(struct visit *visit, unsigned stream)
{
	const struct wire_hello hello = {.version = WIRE_VERSION,
		.streams = 1,
		.index = stream,
		.wait = visit->rig.wait,
		.id = "visit"};
	uint8_t bytes[WIRE_HELLO_SIZE];
	int fd = connect_to(visit);

	assert_int_equal(channel_open(&visit->streams[stream], fd, -1, NULL, false, 0, NULL), 0);
	visit->streams[stream].patience = 20;
	wire_put_hello(bytes, &hello);
	say(visit, stream, WIRE_HELLO, bytes, sizeof(bytes));
	expect(visit, stream, WIRE_WELCOME);
}

/* Up to its run, with page 1 to come; a line that is cut is waited for for @wait seconds. */
static void visit_for(struct visit *visit, unsigned wait)
{
	uint8_t lacks[LACKS_HEAD + 8] = {0}, last[WIRE_LAST_SIZE] = {0};
	struct state_writer writer;

	if (!rig_has_late())
		skip();
	*visit = (struct visit){.rig = {.low = 64 * MEMORY_PAGE, .wait = wait}};
	rig_open(&visit->rig);
	visit->rig.runs_here = visit->rig.disks_here = false;
	rig_begin_target(&visit->rig);
	say_hello(visit, 0);
	say_hello(visit, 1);
	say(visit, 0, WIRE_CONFIG, "{}", 2);
	expect(visit, 0, WIRE_BUILT);
	say(visit, 0, WIRE_LAST, last, sizeof(last));
	store_le32(lacks + 8, 64);
	store_le64(lacks + LACKS_HEAD, 2);
	say(visit, 0, WIRE_LACKS, lacks, sizeof(lacks));
	rig_write_state(&writer);
	say(visit, 0, WIRE_STATE, writer.bytes, writer.length);
	state_writer_free(&writer);
	expect(visit, 0, WIRE_READY);
	say(visit, 0, WIRE_COMMIT, "", 0);
	expect(visit, 0, WIRE_RUNNING);
}

static void visit_target(struct visit *visit)
{
	visit_for(visit, 1);
}

/* The line is of no use any more, and then nobody comes. */
static void end_target(struct visit *visit)
{
	rig_end_target(&visit->rig);
	assert_int_equal(visit->rig.arrival_result, -ETIMEDOUT);
}

static void close_visit(struct visit *visit)
{
	channel_close(&visit->streams[0]);
	channel_close(&visit->streams[1]);
	message_free(&visit->message);
	rig_close(&visit->rig);
}

static void end_visit(struct visit *visit)
{
	end_target(visit);
	close_visit(visit);
}

static void say_page(struct visit *visit, unsigned stream, uint64_t gpa, uint8_t byte)
{
	static uint8_t body[PAGES_HEAD + PAGES_RUN + MEMORY_PAGE];

	store_le32(body, 1);
	store_le64(body + PAGES_HEAD, gpa);
	store_le32(body + PAGES_HEAD + 8, 1);
	store_le32(body + PAGES_HEAD + 12, 1);
	memset(body + PAGES_HEAD + PAGES_RUN, byte, MEMORY_PAGE);
	say(visit, stream, WIRE_PAGES, body, sizeof(body));
}

static void await_cut(struct visit *visit, unsigned stream)
{
	assert_int_equal(
		channel_expect(&visit->streams[stream], &visit->message, WIRE_WANT, NULL), -EPIPE);
}

static void test_pages_that_nobody_asked_for(void **state)
{
	struct visit visit;

	visit_target(&visit);
	say_page(&visit, 1, MEMORY_PAGE, 0x11);
	await_cut(&visit, 1);
	end_visit(&visit);
}

static void *touch_one(void *opaque)
{
	struct visit *visit = opaque;

	(void)*(const volatile uint8_t *)memory_begin(&visit->rig.there, GPA(MEMORY_PAGE), 1);
	return NULL;
}

/* A page is asked for; @pages from @gpa on are the answer, all zeroes. */
static void answer_wrong(unsigned runs, uint64_t gpa, uint32_t pages)
{
	uint8_t body[PAGES_HEAD + PAGES_RUN] = {0};
	struct visit visit;
	pthread_t thread;

	visit_target(&visit);
	assert_int_equal(pthread_create(&thread, NULL, touch_one, &visit), 0);
	expect(&visit, 1, WIRE_WANT);
	assert_true(load_le64(visit.message.body) == MEMORY_PAGE);
	store_le32(body, runs);
	store_le64(body + PAGES_HEAD, gpa);
	store_le32(body + PAGES_HEAD + 8, pages);
	visit.streams[1].patience = 5;
	say(&visit, 1, WIRE_PAGES, body, PAGES_HEAD + runs * PAGES_RUN);
	assert_int_equal(
		channel_expect(&visit.streams[1], &visit.message, WIRE_WANT, NULL), -EPIPE);
	/* Whoever waits is let go with the machine. */
	end_target(&visit);
	pthread_join(thread, NULL);
	close_visit(&visit);
}

static void test_an_answer_without_what_was_asked_for(void **state)
{
	answer_wrong(0, 0, 0);
	answer_wrong(1, 2 * MEMORY_PAGE, 1);
	answer_wrong(1, 0, 1);
	answer_wrong(1, MEMORY_PAGE, 2);
}

static void test_pages_that_are_not_memory(void **state)
{
	struct visit visit;

	visit_target(&visit);
	say_page(&visit, 0, 64 * MEMORY_PAGE, 0x11);
	await_cut(&visit, 0);
	end_visit(&visit);
}

static void test_a_message_that_is_none_of_these(void **state)
{
	struct visit visit;

	visit_target(&visit);
	say(&visit, 0, WIRE_COMMIT, "", 0);
	await_cut(&visit, 0);
	end_visit(&visit);
}

/* It has said that nothing lacks, and is told that this was heard. */
static void end_whole_visit(struct visit *visit)
{
	say(visit, 1, WIRE_WHOLE, "", 0);
	visit->rig.end = SOURCE_MOVED;
	rig_end_target(&visit->rig);
	assert_int_equal(visit->rig.arrival_result, 0);
	close_visit(visit);
}

/* What the guest has is not written over. */
static void test_pages_that_are_there_already(void **state)
{
	struct visit visit;
	uint8_t *memory;

	visit_target(&visit);
	memory = memory_begin(&visit.rig.there, GPA(0), 3 * MEMORY_PAGE);
	memory[0] = 0x22;
	say_page(&visit, 0, 0, 0x33);
	say_page(&visit, 0, 2 * MEMORY_PAGE, 0x33);
	say_page(&visit, 0, MEMORY_PAGE, 0x44);
	/* All that lacked: it is whole. */
	expect(&visit, 1, WIRE_WHOLE);
	assert_int_equal(memory[0], 0x22);
	assert_int_equal(memory[2 * MEMORY_PAGE], 0);
	assert_int_equal(memory[MEMORY_PAGE], 0x44);
	/* Its machine does not wait until the source has heard. */
	while (!atomic_load(&visit.rig.ended))
		sched_yield();
	assert_false(visit.rig.arrived);
	end_whole_visit(&visit);
}

/* Another's hello does not take the line of who is awaited. */
static void test_somebody_else_comes_meanwhile(void **state)
{
	const struct wire_hello other = {
		.version = WIRE_VERSION, .streams = 1, .wait = 1, .id = "other"};
	uint8_t bytes[WIRE_HELLO_SIZE];
	struct visit visit;
	struct channel channel;
	struct error err;

	visit_target(&visit);
	channel_close(&visit.streams[1]);
	await_cut(&visit, 0);
	assert_int_equal(channel_open(&channel, address_connect(&visit.rig.address, -1, NULL), -1,
				 NULL, false, 0, NULL),
		0);
	wire_put_hello(bytes, &other);
	channel_send(&channel, WIRE_HELLO, bytes, sizeof(bytes), "", 0, NULL);
	assert_int_equal(channel_expect(&channel, &visit.message, WIRE_WELCOME, &err), -EREMOTEIO);
	assert_non_null(strstr(err.text, "another machine came here"));
	channel_close(&channel);
	channel_close(&visit.streams[0]);
	/* And the right one is told what lacks. */
	say_hello(&visit, 0);
	say_hello(&visit, 1);
	expect(&visit, 1, WIRE_LACKS);
	assert_true(load_le64(visit.message.body + LACKS_HEAD) == 2);
	expect(&visit, 1, WIRE_READY);
	channel_close(&visit.streams[0]);
	channel_close(&visit.streams[1]);
	end_visit(&visit);
}

/* The kernel's queue takes 17: nobody else is let in. The target keeps 32. */
#define QUEUED 17
#define IDLERS 40

/* Says nothing, and is listened to still: he was not waited for until he was turned away. */
static void assert_kept(int idler)
{
	char byte;

	assert_int_equal(recv(idler, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void test_strangers_who_say_nothing_keep_nobody_out(void **state)
{
	struct visit visit;
	int idlers[IDLERS];
	char byte;

	visit_for(&visit, 60);
	for (unsigned i = 0; i < QUEUED; i++) {
		idlers[i] = address_connect(&visit.rig.address, -1, NULL);
		assert_true(idlers[i] >= 0);
	}
	channel_close(&visit.streams[1]);
	await_cut(&visit, 0);
	channel_close(&visit.streams[0]);
	for (unsigned i = QUEUED; i < IDLERS; i++)
		idlers[i] = connect_to(&visit);
	say_hello(&visit, 0);
	/* The oldest had to go, and the others go when all of the source has come. */
	assert_int_equal(recv(idlers[0], &byte, 1, MSG_DONTWAIT), 0);
	for (unsigned i = QUEUED; i < IDLERS; i++)
		assert_kept(idlers[i]);
	say_hello(&visit, 1);
	expect(&visit, 1, WIRE_LACKS);
	expect(&visit, 1, WIRE_READY);
	say_page(&visit, 0, MEMORY_PAGE, 0x44);
	expect(&visit, 1, WIRE_WHOLE);
	end_whole_visit(&visit);
	for (unsigned i = 0; i < IDLERS; i++)
		close(idlers[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_of_pages_are_checked),
		cmocka_unit_test(test_who_comes_later_is_given_no_more),
		cmocka_unit_test(test_pages_that_nobody_asked_for),
		cmocka_unit_test(test_an_answer_without_what_was_asked_for),
		cmocka_unit_test(test_pages_that_are_not_memory),
		cmocka_unit_test(test_a_message_that_is_none_of_these),
		cmocka_unit_test(test_pages_that_are_there_already),
		cmocka_unit_test(test_somebody_else_comes_meanwhile),
		cmocka_unit_test(test_strangers_who_say_nothing_keep_nobody_out),
	};

	/* Of a line that is cut it says so each time. */
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
