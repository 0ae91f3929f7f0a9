/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that goes after its machine: each page right and once, whatever happens to the line, and
 * never do two machines run. */
#include "migrate_rig.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "memory/late.h"
#include "migrate/arrive.h"
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB   (1ULL << 20)
#define PAGES (8 * MIB / MEMORY_PAGE)

static bool may_have_it(void)
{
	struct memory memory;
	struct memory_late *late = NULL;

	memory_init(&memory);
	assert_int_equal(
		memory_add(&memory, GPA(0), MEMORY_PAGE, MEMORY_ANONYMOUS, "try", NULL), 0);
	if (memory_late_open(&late, &memory, NULL) < 0)
		late = NULL;
	memory_late_free(late);
	memory_free(&memory);
	return late != NULL;
}

static void fill(struct rig *rig)
{
	struct memory_region const *region;

	for (unsigned i = 0; (region = memory_region(&rig->here, i)); i++)
		for (uint64_t page = 0; page < region->size / MEMORY_PAGE; page++)
			if (page % 5)
				memset(region->mapped_at + page * MEMORY_PAGE, (int)page | 1, 90);
}

/* A guest that writes for ever, and too much though it is slowed down: pre-copy has no end. */
static struct rig busy(void)
{
	return (struct rig){.low = 8 * MIB, .writes = 60000, .limit = 1, .wait = 30};
}

static void migrate(struct rig *rig)
{
	if (!may_have_it())
		skip();
	rig_open(rig);
	fill(rig);
	rig_migrate(rig);
}

static void assert_moved(struct rig *rig)
{
	if (rig->end != SOURCE_MOVED)
		fail_msg("%s; %s; %s", rig->source_err.text, rig->target_err.text,
			rig->arrival_err.text);
	assert_int_equal(rig->result, 0);
	assert_true(rig->arrived);
	assert_int_equal(rig->arrival_result, 0);
	assert_true(rig->runs_there && rig->disks_there);
	assert_false(rig->runs_here || rig->disks_here);
	assert_true(rig_same_memory(rig));
	assert_int_equal(rig->followed, 1);
	assert_true(atomic_load(&rig->progress.left) == 0);
}

static void test_it_is_the_way_out(void **state)
{
	for (unsigned streams = 1; streams <= WIRE_STREAMS_MAX; streams *= 4) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.high = 4 * MIB;
		rig.compress = streams == 4;
		rig.force = streams == 16;
		migrate(&rig);
		assert_moved(&rig);
		rig_close(&rig);
	}
}

static void test_a_guest_at_rest_moves_as_ever(void **state)
{
	struct rig rig = {.low = 8 * MIB, .wait = 30};

	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_MOVED);
	assert_true(rig_same_memory(&rig));
	assert_int_equal(rig.followed, 0);
	rig_close(&rig);
}

/* Of the machine there, as its guest sees it. */
static void compare(struct rig *rig, uint64_t page)
{
	const uint64_t offset = page * MEMORY_PAGE;

	assert_memory_equal(memory_region(&rig->there, 0)->mapped_at + offset,
		memory_region(&rig->here, 0)->mapped_at + offset, MEMORY_PAGE);
}

/* Before anything goes that nobody has asked for. */
static void touch_all(struct rig *rig)
{
	for (uint64_t i = 0; i < PAGES; i++)
		compare(rig, i * 1021 % PAGES);
}

static void test_who_touches_a_page_is_given_it(void **state)
{
	struct rig rig = busy();

	rig.follows = touch_all;
	migrate(&rig);
	assert_moved(&rig);
	assert_true(atomic_load(&rig.progress.urgent) > 100);
	rig_close(&rig);
}

static void test_the_state_is_restored_with_pages_that_lack(void **state)
{
	struct rig rig = busy();

	rig.restores = touch_all;
	migrate(&rig);
	assert_moved(&rig);
	assert_true(atomic_load(&rig.progress.urgent) > 100);
	rig_close(&rig);
}

/* ---- the line ---- */

static void touch_and_cut(struct rig *rig)
{
	for (uint64_t i = 0; i < 100; i++)
		compare(rig, i);
	rig_cut(rig);
}

static void test_a_cut_line_is_mended(void **state)
{
	for (unsigned streams = 1; streams < 4; streams++) {
		struct rig rig = busy();

		rig.streams = streams;
		rig.follows = touch_and_cut;
		migrate(&rig);
		assert_moved(&rig);
		assert_true(atomic_load(&rig.progress.cuts) >= 1);
		rig_close(&rig);
	}
}

static pthread_t toucher;

static void *touch(void *opaque)
{
	struct rig *rig = opaque;

	for (uint64_t i = 0; i < PAGES; i++)
		compare(rig, i * 1021 % PAGES);
	return NULL;
}

/* A guest goes on to touch pages while there is none. */
static void cut_with_a_toucher(struct rig *rig)
{
	rig_cut(rig);
	assert_int_equal(pthread_create(&toucher, NULL, touch, rig), 0);
}

static void test_who_waits_while_it_is_cut_is_given_it_then(void **state)
{
	struct rig rig = busy();

	rig.follows = cut_with_a_toucher;
	migrate(&rig);
	assert_moved(&rig);
	pthread_join(toucher, NULL);
	rig_close(&rig);
}

/* Its process has ended. */
static void leave(struct rig *rig)
{
	touch_and_cut(rig);
	eventfd_write(rig->gone, 1);
}

static void test_a_source_that_is_gone(void **state)
{
	struct rig rig = busy();

	rig.wait = 1;
	rig.follows = leave;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_TORN);
	assert_true(rig.runs_there && !rig.runs_here && rig.arrived);
	assert_int_equal(rig.arrival_result, -ETIMEDOUT);
	assert_non_null(strstr(rig.arrival_err.text, "did not come again within 1 s"));
	rig_close(&rig);
}

static void test_a_target_that_is_gone(void **state)
{
	struct rig rig = busy();

	rig.wait = 1;
	rig.follows = rig_kill_target;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_TORN);
	assert_non_null(strstr(rig.source_err.text, "nobody waits there"));
	assert_false(rig.runs_here || rig.disks_here);
	rig_close(&rig);
}

/* ---- before it is given away ---- */

static void assert_stays(const struct rig *rig)
{
	assert_int_equal(rig->end, SOURCE_STAYS);
	assert_true(rig->runs_here && rig->disks_here && *rig->source_err.text);
	assert_false(rig->runs_there || rig->disks_there || rig->followed);
}

static void test_each_step_fails(void **state)
{
	for (enum rig_step step = RIG_CONFIG; step < RIG_STEPS; step++) {
		struct rig rig = busy();

		rig.fails = step;
		rig.streams = 2;
		migrate(&rig);
		assert_stays(&rig);
		assert_int_equal(rig.fails, RIG_NOTHING);
		rig_close(&rig);
	}
}

/* Who restores it waits for pages that nobody will send, and is let go. */
static void cancel_and_touch(struct rig *rig)
{
	eventfd_write(rig->gone, 1);
	for (uint64_t page = 0; page < PAGES; page++)
		(void)*(const volatile uint8_t *)memory_begin(
			&rig->there, GPA(page * MEMORY_PAGE), 1);
}

static void test_it_is_cancelled_while_it_is_restored(void **state)
{
	struct rig rig = busy();

	rig.restores = cancel_and_touch;
	migrate(&rig);
	assert_stays(&rig);
	rig_close(&rig);
}

static enum source_end try_fault(
	enum rig_fault fault, bool of_target, uint64_t at, uint64_t said[2])
{
	struct rig rig = {.low = 64 * MEMORY_PAGE,
		.writes = 4000,
		.limit = 1,
		.wait = 1,
		.fault = fault,
		.of_target = of_target,
		.at = at};

	rig_open(&rig);
	fill(&rig);
	rig_migrate(&rig);
	assert_false(rig.runs_here && rig.runs_there);
	/* It is lost when its commit did not come whole, and only then: nobody knows, then. */
	if (rig.runs_there)
		assert_moved(&rig);
	else
		assert_true(rig.end == SOURCE_STAYS || (rig.end == SOURCE_TORN && rig.committed));
	if (rig.end == SOURCE_STAYS)
		assert_true(rig.runs_here && rig.disks_here);
	if (said)
		memcpy(said, rig.said, sizeof(rig.said));
	rig_close(&rig);
	return rig.end;
}

/* The target's word is not needed: who takes the source's second call has the machine. */
static void test_an_answer_that_is_lost(void **state)
{
	uint64_t said[2];

	if (!may_have_it())
		skip();
	assert_int_equal(try_fault(RIG_WHOLE, true, 0, said), SOURCE_MOVED);
	for (uint64_t back = 1; back <= WIRE_HEADER; back += 6)
		assert_int_equal(try_fault(RIG_CUT, true, said[1] - back, NULL), SOURCE_MOVED);
	/* And ready, before. */
	for (uint64_t back = WIRE_HEADER + 1; back <= 2 * WIRE_HEADER; back += 6)
		assert_int_equal(try_fault(RIG_CUT, true, said[1] - back, NULL), SOURCE_STAYS);
}

/* All that the source says, also what follows the machine: at many of its bytes, more of them near
 * the end. */
static void fail_at_each(enum rig_fault fault)
{
	uint64_t said[2];
	unsigned ends[4] = {0};

	if (!may_have_it())
		skip();
	try_fault(RIG_WHOLE, false, 0, said);
	for (uint64_t at = 0; at < said[0]; at += said[0] - at < 60000 ? 1201 : said[0] / 150)
		ends[try_fault(fault, false, at, NULL)]++;
	assert_true(ends[SOURCE_STAYS] > 50 && ends[SOURCE_MOVED] > 20);
}

static void test_the_line_is_cut_at_each_byte_and_mended(void **state)
{
	fail_at_each(RIG_CUT_ONCE);
}

static void test_each_byte_is_altered(void **state)
{
	fail_at_each(RIG_ALTER);
}

/* ---- who gives back ---- */

static void discard_and_touch(struct rig *rig)
{
	static const uint8_t zeroes[MEMORY_PAGE];

	assert_int_equal(memory_discard(&rig->there, GPA(0), rig->low / 2), 0);
	for (uint64_t page = 0; page < PAGES / 2; page++)
		assert_memory_equal(memory_region(&rig->there, 0)->mapped_at + page * MEMORY_PAGE,
			zeroes, MEMORY_PAGE);
	/* The same here, for who compares. */
	memset(memory_region(&rig->here, 0)->mapped_at, 0, rig->low / 2);
}

static void test_what_is_given_back_does_not_come_back(void **state)
{
	struct rig rig = busy();

	rig.follows = discard_and_touch;
	migrate(&rig);
	assert_moved(&rig);
	rig_close(&rig);
}

static void clear(struct rig *rig)
{
	assert_int_equal(memory_clear(&rig->there), 0);
	assert_int_equal(memory_clear(&rig->here), 0);
}

static void test_a_guest_that_resets_needs_nothing(void **state)
{
	struct rig rig = busy();

	rig.follows = clear;
	migrate(&rig);
	assert_int_equal(rig.end, SOURCE_MOVED);
	assert_true(rig.arrived && rig.arrival_result == 0 && rig_same_memory(&rig));
	rig_close(&rig);
}

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
	const struct wire_hello hello = {
		.version = WIRE_VERSION, .streams = 1, .index = stream, .wait = 1, .id = "visit"};
	uint8_t bytes[WIRE_HELLO_SIZE];
	int fd = connect_to(visit);

	assert_int_equal(channel_open(&visit->streams[stream], fd, -1, NULL, false, 0, NULL), 0);
	visit->streams[stream].patience = 20;
	wire_put_hello(bytes, &hello);
	say(visit, stream, WIRE_HELLO, bytes, sizeof(bytes));
	expect(visit, stream, WIRE_WELCOME);
}

/* Up to its run, with page 1 to come. */
static void visit_target(struct visit *visit)
{
	uint8_t lacks[LACKS_HEAD + 8] = {0}, last[WIRE_LAST_SIZE] = {0};
	struct state_writer writer;

	if (!may_have_it())
		skip();
	*visit = (struct visit){.rig = {.low = 64 * MEMORY_PAGE, .wait = 1}};
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
	channel_close(&visit.streams[0]);
	channel_close(&visit.streams[1]);
	visit.rig.end = SOURCE_MOVED;
	rig_end_target(&visit.rig);
	assert_int_equal(visit.rig.arrival_result, 0);
	message_free(&visit.message);
	rig_close(&visit.rig);
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
	assert_non_null(strstr(err.text, "another machine runs here"));
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

static uint64_t come_again(struct visit *visit)
{
	const uint64_t begun = clock_ns();

	say_hello(visit, 0);
	say_hello(visit, 1);
	expect(visit, 1, WIRE_LACKS);
	expect(visit, 1, WIRE_READY);
	return clock_ns() - begun;
}

static void test_strangers_who_say_nothing_keep_nobody_out(void **state)
{
	struct visit visit;
	int idlers[IDLERS];
	char byte;

	visit_target(&visit);
	for (unsigned i = 0; i < QUEUED; i++) {
		idlers[i] = address_connect(&visit.rig.address, -1, NULL);
		assert_true(idlers[i] >= 0);
	}
	channel_close(&visit.streams[1]);
	await_cut(&visit, 0);
	channel_close(&visit.streams[0]);
	for (unsigned i = QUEUED; i < IDLERS; i++)
		idlers[i] = connect_to(&visit);
	assert_true(come_again(&visit) < SECOND_NS);
	/* The oldest had to go. */
	assert_int_equal(recv(idlers[0], &byte, 1, MSG_DONTWAIT), 0);
	channel_close(&visit.streams[0]);
	channel_close(&visit.streams[1]);
	end_visit(&visit);
	for (unsigned i = 0; i < IDLERS; i++)
		close(idlers[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_the_way_out),
		cmocka_unit_test(test_a_guest_at_rest_moves_as_ever),
		cmocka_unit_test(test_who_touches_a_page_is_given_it),
		cmocka_unit_test(test_the_state_is_restored_with_pages_that_lack),
		cmocka_unit_test(test_a_cut_line_is_mended),
		cmocka_unit_test(test_who_waits_while_it_is_cut_is_given_it_then),
		cmocka_unit_test(test_a_source_that_is_gone),
		cmocka_unit_test(test_a_target_that_is_gone),
		cmocka_unit_test(test_each_step_fails),
		cmocka_unit_test(test_it_is_cancelled_while_it_is_restored),
		cmocka_unit_test(test_an_answer_that_is_lost),
		cmocka_unit_test(test_the_line_is_cut_at_each_byte_and_mended),
		cmocka_unit_test(test_each_byte_is_altered),
		cmocka_unit_test(test_what_is_given_back_does_not_come_back),
		cmocka_unit_test(test_a_guest_that_resets_needs_nothing),
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
