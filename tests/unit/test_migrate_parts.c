/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a migration that need no second side: messages, pages, the plan, addresses. */
#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "migrate/address.h"
#include "migrate/channel.h"
#include "migrate/migrate.h"
#include "migrate/mtls.h"
#include "migrate/pages.h"
#include "migrate/plan.h"
#include "migrate/shares.h"
#include "migrate/wire.h"
#include "state/crc32c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MS  1000000ULL
#define MIB (1ULL << 20)

/* ---- messages ---- */

/* Its body is never sent, and nobody waits for it. */
static void test_a_message_of_another_kind_is_refused_by_its_head(void **state)
{
	uint8_t header[WIRE_HEADER], *body = calloc(1, MIB);
	struct message message = {0};
	struct channel channel;
	struct error err;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(channel_open(&channel, fds[0], -1, NULL, false, 0, &err), 0);
	wire_seal(header, WIRE_STATE, body, MIB, "", 0);
	assert_int_equal(write(fds[1], header, sizeof(header)), sizeof(header));
	channel.patience = 1;
	assert_int_equal(channel_expect(&channel, &message, WIRE_HELLO, &err), -EPROTO);
	assert_null(message.body);
	channel_close(&channel);
	close(fds[1]);
	free(body);
}

static void test_an_altered_message_is_refused(void **state)
{
	const char body[] = "some words";
	uint8_t header[WIRE_HEADER];
	struct wire_header opened;
	struct error err;

	wire_seal(header, WIRE_CONFIG, body, 4, body + 4, sizeof(body) - 4);
	assert_int_equal(wire_open(&opened, header, &err), 0);
	assert_int_equal(opened.kind, WIRE_CONFIG);
	assert_int_equal(opened.length, sizeof(body));
	assert_int_equal(wire_check(&opened, body, &err), 0);
	assert_int_equal(wire_check(&opened, "other words", &err), -EBADMSG);
	for (unsigned bit = 0; bit < 8 * WIRE_HEADER; bit++) {
		header[bit / 8] ^= (uint8_t)(1U << bit % 8);
		assert_true(wire_open(&opened, header, &err) < 0);
		header[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}

static void test_lengths_are_bounded(void **state)
{
	uint8_t header[WIRE_HEADER];
	struct wire_header opened;
	struct error err;

	for (enum wire_kind kind = WIRE_HELLO; kind < WIRE_KINDS; kind++) {
		wire_seal(header, kind, NULL, 0, NULL, 0);
		store_le32(header + 8, UINT32_MAX);
		store_le32(header + 16, crc32c(0, header, 16));
		assert_int_equal(wire_open(&opened, header, &err), -EPROTO);
		assert_non_null(strstr(err.text, wire_name(kind)));
	}
}

static void test_another_version_is_named(void **state)
{
	struct wire_hello hello = {.version = WIRE_VERSION, .streams = 2, .index = 1};
	uint8_t bytes[WIRE_HELLO_SIZE];
	struct wire_hello read;
	struct error err;

	wire_put_hello(bytes, &hello);
	assert_int_equal(wire_get_hello(&read, bytes, sizeof(bytes), &err), 0);
	assert_int_equal(read.index, 1);
	store_le32(bytes, 7);
	assert_int_equal(wire_get_hello(&read, bytes, 4, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "version 7"));
	hello.index = 2;
	wire_put_hello(bytes, &hello);
	assert_int_equal(wire_get_hello(&read, bytes, sizeof(bytes), &err), -EPROTO);
	/* With post-copy there is one more behind them. */
	hello.wait = 1;
	wire_put_hello(bytes, &hello);
	assert_int_equal(wire_get_hello(&read, bytes, sizeof(bytes), &err), 0);
	assert_int_equal(wire_connections(&read), 3);
	hello.index = 3;
	wire_put_hello(bytes, &hello);
	assert_int_equal(wire_get_hello(&read, bytes, sizeof(bytes), &err), -EPROTO);
	hello.index = 0;
	hello.wait = WIRE_WAIT_MAX + 1;
	wire_put_hello(bytes, &hello);
	assert_int_equal(wire_get_hello(&read, bytes, sizeof(bytes), &err), -EPROTO);
	hello.wait = 0;
	hello.streams = WIRE_STREAMS_MAX + 1;
	wire_put_hello(bytes, &hello);
	assert_int_equal(wire_get_hello(&read, bytes, sizeof(bytes), &err), -EPROTO);
}

/* ---- pages ---- */

#define PAGES 1024

struct rig {
	struct memory memory;
	uint8_t *host;
	struct pages_batch batch;
	struct pages_seen seen;
	struct compressor *compressor; /* null: bodies are made without */
	struct decompressor *decompressor;
	uint8_t body[PAGES_BODY_MAX];
};

static struct rig *open_rig(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	memory_init(&rig->memory);
	assert_int_equal(memory_add(&rig->memory, GPA(1U << 20), PAGES * MEMORY_PAGE,
				 MEMORY_ANONYMOUS, "test", NULL),
		0);
	rig->host = memory_region(&rig->memory, 0)->mapped_at;
	rig->batch.data = malloc(PAGES_BATCH * MEMORY_PAGE);
	return rig;
}

static void close_rig(struct rig *rig)
{
	memory_free(&rig->memory);
	compressor_free(rig->compressor);
	decompressor_free(rig->decompressor);
	free(rig->batch.data);
	free(rig);
}

static bool add(struct rig *rig, unsigned page)
{
	return pages_add(&rig->batch, GPA((1U << 20) + page * MEMORY_PAGE),
		rig->host + page * MEMORY_PAGE, &rig->seen);
}

static size_t make_body(struct rig *rig)
{
	const uint8_t *data;
	size_t length, head = pages_finish(&rig->batch, rig->compressor, &data, &length);

	memcpy(rig->body, rig->batch.head, head);
	memcpy(rig->body + head, data, length);
	return head + length;
}

static int apply(struct rig *rig, const uint8_t *body, size_t length, struct pages_seen *seen)
{
	struct error err;

	return pages_apply(&rig->memory, NULL, body, length, &rig->decompressor, seen, &err);
}

static void test_zero_is_seen_at_each_byte(void **state)
{
	uint8_t page[MEMORY_PAGE] __attribute__((aligned(64))) = {0};

	assert_true(memory_page_is_zero(page));
	for (unsigned i = 0; i < MEMORY_PAGE; i++) {
		page[i] = 0x80;
		assert_false(memory_page_is_zero(page));
		page[i] = 0;
	}
}

static void test_neighbours_are_one_run(void **state)
{
	struct rig *rig = open_rig();
	struct pages_seen seen = {0};
	size_t length;

	for (unsigned page = 0; page < 30; page++)
		rig->host[page * MEMORY_PAGE + page] = page >= 10 && page < 20;
	for (unsigned page = 0; page < 30; page++)
		assert_true(add(rig, page));
	assert_int_equal(rig->batch.runs, 3);
	assert_int_equal(rig->seen.full, 10);
	assert_int_equal(rig->seen.zero, 20);
	length = make_body(rig);
	memset(rig->host, 0x55, 40 * MEMORY_PAGE);
	assert_int_equal(apply(rig, rig->body, length, &seen), 0);
	assert_memory_equal(&seen, &rig->seen, sizeof(seen));
	for (unsigned page = 0; page < 30; page++)
		assert_int_equal(rig->host[page * MEMORY_PAGE + page], page >= 10 && page < 20);
	assert_int_equal(rig->host[30 * MEMORY_PAGE], 0x55);
	close_rig(rig);
}

static void test_a_full_batch_says_so(void **state)
{
	struct rig *rig = open_rig();

	for (unsigned page = 0; page < PAGES_BATCH; page++) {
		rig->host[page * MEMORY_PAGE] = 1;
		assert_true(add(rig, page));
	}
	rig->host[500 * MEMORY_PAGE] = 1;
	assert_false(add(rig, 500));
	pages_clear(&rig->batch);
	for (unsigned run = 0; run < PAGES_RUNS; run++)
		assert_true(add(rig, 501 + 2 * run));
	assert_false(add(rig, 200));
	assert_int_equal(make_body(rig), PAGES_HEAD_MAX);
	close_rig(rig);
}

static void test_compressed_pages(void **state)
{
	struct rig *rig = open_rig();
	struct pages_seen seen = {0};
	size_t length;

	assert_int_equal(compressor_new(&rig->compressor, NULL), 0);
	for (unsigned page = 0; page < PAGES_BATCH; page++) {
		memset(rig->host + page * MEMORY_PAGE, (int)page + 1, MEMORY_PAGE);
		assert_true(add(rig, page));
	}
	length = make_body(rig);
	assert_true(length < PAGES_BATCH * MEMORY_PAGE / 50);
	memset(rig->host, 0, PAGES * MEMORY_PAGE);
	assert_int_equal(apply(rig, rig->body, length, &seen), 0);
	assert_memory_equal(&seen, &rig->seen, sizeof(seen));
	for (unsigned at = 0; at < PAGES_BATCH * MEMORY_PAGE; at++)
		if (rig->host[at] != at / MEMORY_PAGE + 1)
			fail_msg("byte 0x%x is %02x", at, rig->host[at]);
	/* Two frames, and one of a format from before there was a standard. */
	memcpy(rig->body + length, rig->body + PAGES_HEAD + PAGES_RUN,
		length - PAGES_HEAD - PAGES_RUN);
	assert_int_equal(
		apply(rig, rig->body, 2 * length - PAGES_HEAD - PAGES_RUN, &seen), -EPROTO);
	rig->body[PAGES_HEAD + PAGES_RUN] = 0x27;
	assert_int_equal(apply(rig, rig->body, length, &seen), -EPROTO);
	rig->body[PAGES_HEAD + PAGES_RUN] = 0x28;
	/* A frame of fewer pages than its runs want, and of more. */
	store_le32(rig->body + PAGES_HEAD + 8, PAGES_BATCH + 1);
	assert_int_equal(apply(rig, rig->body, length, &seen), -EPROTO);
	store_le32(rig->body + PAGES_HEAD + 8, PAGES_BATCH - 1);
	assert_int_equal(apply(rig, rig->body, length, &seen), -EPROTO);
	store_le32(rig->body + PAGES_HEAD + 8, UINT32_MAX);
	assert_int_equal(apply(rig, rig->body, length, &seen), -EPROTO);
	close_rig(rig);
}

/* Noise gets no shorter, and goes as it is. */
static void test_noise_is_not_compressed(void **state)
{
	struct rig *rig = open_rig();
	uint32_t noise = 1;

	assert_int_equal(compressor_new(&rig->compressor, NULL), 0);
	for (unsigned at = 0; at < MEMORY_PAGE; at++) {
		noise = noise * 1664525 + 1013904223;
		rig->host[at] = (uint8_t)(noise >> 24);
	}
	assert_true(add(rig, 0));
	assert_int_equal(make_body(rig), PAGES_HEAD + PAGES_RUN + MEMORY_PAGE);
	assert_int_equal(
		apply(rig, rig->body, PAGES_HEAD + PAGES_RUN + MEMORY_PAGE, &rig->seen), 0);
	close_rig(rig);
}

/* Cut anywhere, and with any of its first @bits changed: refused, or within memory. */
static void break_body(struct rig *rig, size_t length, size_t bits)
{
	for (size_t cut = 0; cut < length; cut++) {
		uint8_t *copy = malloc(cut + 1); /* the sanitizer sees a byte too much */

		memcpy(copy, rig->body, cut);
		assert_true(apply(rig, copy, cut, &rig->seen) < 0);
		free(copy);
	}
	for (size_t bit = 0; bit < bits; bit++) {
		rig->body[bit / 8] ^= (uint8_t)(1U << bit % 8);
		apply(rig, rig->body, length, &rig->seen);
		rig->body[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	assert_int_equal(apply(rig, rig->body, length, &rig->seen), 0);
}

static void test_broken_bodies(void **state)
{
	struct rig *rig = open_rig();
	size_t length;

	rig->host[3 * MEMORY_PAGE] = 1;
	for (unsigned page = 0; page < 6; page++)
		add(rig, page);
	length = make_body(rig);
	break_body(rig, length, 8 * (length - MEMORY_PAGE));
	assert_int_equal(compressor_new(&rig->compressor, NULL), 0);
	length = make_body(rig);
	assert_true(length < MEMORY_PAGE);
	break_body(rig, length, 8 * length);
	close_rig(rig);
}

static void refuse_run(struct rig *rig, uint64_t gpa, uint32_t pages, uint32_t kind, int code)
{
	store_le32(rig->body, 1);
	store_le32(rig->body + 4, 0);
	store_le64(rig->body + 8, gpa);
	store_le32(rig->body + 16, pages);
	store_le32(rig->body + 20, kind);
	assert_int_equal(
		apply(rig, rig->body, PAGES_HEAD + PAGES_RUN + MEMORY_PAGE, &rig->seen), code);
}

static void test_runs_outside_of_memory(void **state)
{
	struct rig *rig = open_rig();

	refuse_run(rig, 0, 1, 1, -EFAULT);
	refuse_run(rig, (1U << 20) + PAGES * MEMORY_PAGE, 1, 1, -EFAULT);
	refuse_run(rig, 1U << 20, PAGES + 1, 0, -EFAULT);
	refuse_run(rig, UINT64_MAX & ~0xfffULL, UINT32_MAX, 0, -EFAULT);
	refuse_run(rig, (1U << 20) + 8, 1, 1, -EPROTO);
	refuse_run(rig, 1U << 20, 0, 1, -EPROTO);
	refuse_run(rig, 1U << 20, 1, 2, -EPROTO);
	refuse_run(rig, 1U << 20, 2, 1, -EPROTO); /* of which one came */
	refuse_run(rig, 1U << 20, 1, 0, -EPROTO); /* with bytes that nobody wants */
	close_rig(rig);
}

/* ---- the plan ---- */

static void test_it_stops_when_the_rest_is_little(void **state)
{
	struct plan plan = {.limit = 300 * MS};

	/* 100 MiB a second: 30 MiB are sent in 300 ms. */
	assert_int_equal(plan_next(&plan, 500 * MIB, 5 * SECOND_NS, 100 * MIB), PLAN_AGAIN);
	assert_true(plan.expected > 900 * MS && plan.expected < 1100 * MS);
	/* Another round of that leaves less, and takes no longer. */
	assert_int_equal(plan_next(&plan, 100 * MIB, SECOND_NS, 29 * MIB), PLAN_AGAIN);
	assert_int_equal(plan_next(&plan, 29 * MIB, 290 * MS, 15 * MIB), PLAN_STOP);
	assert_int_equal(plan.throttle, 0);
}

static void test_nothing_left_stops_at_once(void **state)
{
	struct plan plan = {.limit = 1};

	assert_int_equal(plan_next(&plan, 0, 0, 0), PLAN_STOP);
}

/* What a small round takes says nothing of the link. */
static void test_buffers_do_not_count(void **state)
{
	struct plan plan = {.limit = 10 * MS};

	plan_next(&plan, 500 * MIB, 5 * SECOND_NS, 3 * MIB);
	assert_int_equal(plan_next(&plan, 3 * MIB, MS, 3 * MIB), PLAN_AGAIN);
	assert_true(plan_rate(&plan) < 110 * MIB);
}

static unsigned rounds_until(struct plan *plan, uint64_t left, enum plan_step *step)
{
	unsigned rounds = 0;

	do
		rounds++;
	while ((*step = plan_next(plan, 100 * MIB, SECOND_NS, left)) == PLAN_AGAIN);
	return rounds;
}

static void test_a_guest_that_goes_on_writing_is_slowed_down_step_by_step(void **state)
{
	struct plan plan = {.limit = 300 * MS}, forced = {.limit = 300 * MS, .force = true};
	enum plan_step step;

	assert_in_range(rounds_until(&plan, 100 * MIB, &step), 10, 30);
	assert_int_equal(step, PLAN_FAIL);
	assert_int_equal(plan.throttle, PLAN_THROTTLE_MAX);
	rounds_until(&forced, 100 * MIB, &step);
	assert_int_equal(step, PLAN_STOP);
}

static void test_a_round_that_helps_slows_nobody_down(void **state)
{
	struct plan plan = {.limit = 100 * MS};
	uint64_t left = 800 * MIB;

	while (plan_next(&plan, left, left / MIB * 10 * MS, left / 2) == PLAN_AGAIN)
		left /= 2;
	assert_int_equal(plan.throttle, 0);
	assert_true(left / 2 <= 10 * MIB);
}

/* Of 64 MiB it writes to eight times as much as the link sends. */
static void test_a_fast_writer_is_slowed_down_soon(void **state)
{
	struct plan plan = {.limit = 300 * MS};
	const double link = 8 * MIB, writes = 8 * link;
	uint64_t sent = 64 * MIB, left = sent;
	enum plan_step step;

	do {
		uint64_t took = (uint64_t)((double)sent / link * SECOND_NS);
		double written = writes * (100 - plan.throttle) / 100 * (double)took / SECOND_NS;

		left = written < 64 * MIB ? (uint64_t)written : 64 * MIB;
		step = plan_next(&plan, sent, took, left);
		sent = left;
	} while (step == PLAN_AGAIN);
	assert_int_equal(step, PLAN_STOP);
	assert_in_range(plan.round, 5, 15);
	assert_true(plan.expected <= 300 * MS);
}

/* Endless small gains end too. */
static void test_rounds_are_bounded(void **state)
{
	struct plan plan = {.limit = 1};
	double left = 1e18;
	enum plan_step step;

	do
		step = plan_next(&plan, 100 * MIB, SECOND_NS, (uint64_t)(left *= 0.85));
	while (step == PLAN_AGAIN);
	assert_int_equal(step, PLAN_FAIL);
}

/* ---- shares ---- */

/* A guest of four vCPUs, which write to @rates pages a second while they are not held. */
struct writing {
	struct shares shares;
	double rates[4];
	uint64_t written[4], now;
};

static void begin_writing(struct writing *writing)
{
	shares_begin(&writing->shares, 4, writing->written, writing->now);
}

/* A second of that; returns what was written. */
static uint64_t write_for_a_second(struct writing *writing, unsigned throttle, uint64_t of_devices)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < 4; i++) {
		const double free = 100 - writing->shares.percent[i];
		const uint64_t pages = (uint64_t)(writing->rates[i] * free / 100);

		writing->written[i] += pages;
		sum += pages;
	}
	writing->now += SECOND_NS;
	shares_next(&writing->shares, throttle, writing->written, sum + of_devices, writing->now);
	return sum;
}

static void assert_shares(const struct writing *writing, int a, int b, int c, int d)
{
	const int wanted[] = {a, b, c, d};

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(writing->shares.percent[i], wanted[i]);
}

static void test_without_a_throttle_nobody_is_held(void **state)
{
	struct writing writing = {.rates = {1000, 0, 5, 1e6}};

	begin_writing(&writing);
	write_for_a_second(&writing, 0, 0);
	assert_shares(&writing, 0, 0, 0, 0);
	assert_int_equal(shares_most(&writing.shares), 0);
}

static void test_the_one_that_writes_is_held(void **state)
{
	struct writing writing = {.rates = {10, 20000, 0, 30}};

	begin_writing(&writing);
	write_for_a_second(&writing, 60, 0);
	assert_int_equal(writing.shares.percent[0], 0);
	assert_in_range(writing.shares.percent[1], 59, 62);
	assert_int_equal(writing.shares.percent[2], 0);
	assert_int_equal(writing.shares.percent[3], 0);
	assert_int_equal(shares_most(&writing.shares), writing.shares.percent[1]);
	/* So it goes on as long as the plan wants no more, and all write what it wants. */
	for (unsigned i = 0; i < 5; i++)
		assert_in_range(write_for_a_second(&writing, 60, 0), 7700, 8100);
	assert_in_range(writing.shares.percent[1], 59, 62);
}

/* 10,000 less a half: those that write less than an even part of it leave the rest to the others.
 */
static void test_the_sum_comes_to_what_is_wanted(void **state)
{
	struct writing writing = {.rates = {6000, 500, 3000, 500}};

	begin_writing(&writing);
	write_for_a_second(&writing, 50, 0);
	/* 2,000 for each of the two. */
	assert_shares(&writing, 67, 0, 34, 0);
	assert_in_range(write_for_a_second(&writing, 50, 0), 4900, 5000);
	/* Half of that again. */
	write_for_a_second(&writing, 75, 0);
	assert_in_range(write_for_a_second(&writing, 75, 0), 2400, 2500);
	assert_true(writing.shares.percent[1] < 10 && writing.shares.percent[0] > 80);
}

/* The guest's scheduler finds a vCPU that is not held. */
static void test_a_writer_that_moves_is_followed(void **state)
{
	struct writing writing = {.rates = {20000, 0, 0, 0}};
	unsigned rounds = 0;

	begin_writing(&writing);
	write_for_a_second(&writing, 80, 0);
	assert_in_range(writing.shares.percent[0], 79, 82);
	writing.rates[0] = 0;
	writing.rates[2] = 20000;
	assert_int_equal(write_for_a_second(&writing, 80, 0), 20000);
	assert_true(writing.shares.percent[2] > 80);
	/* What is left behind is let go, by and by. */
	while (rounds++ < 20)
		assert_true(write_for_a_second(&writing, 80, 0) <= 4100);
	assert_int_equal(writing.shares.percent[0], 0);
	assert_in_range(writing.shares.percent[2], 79, 81);
}

/* It writes to the same 1,000 pages again and again: a little less time changes nothing. */
static void test_a_small_set_that_is_written_often(void **state)
{
	struct writing writing = {.rates = {0, 0, 0, 0}};
	uint64_t pages = 1000;
	unsigned rounds = 0;

	begin_writing(&writing);
	do {
		const uint64_t most = 16000 * (100U - writing.shares.percent[3]) / 100;

		pages = most < 1000 ? most : 1000;
		writing.written[3] += pages;
		writing.now += SECOND_NS;
		shares_next(&writing.shares, 50, writing.written, pages, writing.now);
	} while (pages > 500 && rounds++ < 20);
	assert_in_range(rounds, 3, 8);
	assert_int_equal(writing.shares.percent[0], 0);
}

static void test_all_are_held_alike(void **state)
{
	struct writing writing = {.rates = {100, 100, 20000, 0}};

	begin_writing(&writing);
	/* Where nobody knows who writes. */
	shares_next(&writing.shares, 40, NULL, 20000, SECOND_NS);
	assert_shares(&writing, 40, 40, 40, 40);
	/* And where devices do, which the vCPUs have asked for. */
	begin_writing(&writing);
	write_for_a_second(&writing, 40, 30000);
	assert_shares(&writing, 40, 40, 40, 40);
	write_for_a_second(&writing, 40, 0);
	assert_int_equal(writing.shares.percent[0], 0);
}

/* No time has passed, nothing was written, or all of it at the same rate; more vCPUs than there may
 * be. */
static void test_shares_at_their_ends(void **state)
{
	struct writing writing = {.rates = {0}};
	uint64_t written[SHARES_CPUS_MAX] = {0};
	struct shares many;

	begin_writing(&writing);
	write_for_a_second(&writing, 99, 0);
	assert_shares(&writing, 0, 0, 0, 0);
	writing.written[0] = 5;
	shares_next(&writing.shares, 99, writing.written, 5, writing.now);
	assert_in_range(writing.shares.percent[0], 0, PLAN_THROTTLE_MAX);
	shares_begin(&many, SHARES_CPUS_MAX + 1, written, 0);
	for (unsigned i = 0; i < SHARES_CPUS_MAX; i++)
		written[i] = 1000;
	shares_next(&many, 99, written, 64000, SECOND_NS);
	for (unsigned i = 0; i < SHARES_CPUS_MAX; i++)
		assert_int_equal(many.percent[i], 99);
}

/* ---- addresses ---- */

static void test_addresses(void **state)
{
	static const char *const good[] = {
		"tcp:127.0.0.1:4000", "tcp:[::1]:1", "unix:/tmp/x", "tcp:localhost:65535"};
	static const char *const bad[] = {"", "tcp:", "tcp:4000", "tcp:host", "tcp::4000",
		"tcp:[::1:4000", "tcp:]:4000", "tcp:1:", "tcp:1.1.1.1:b", "tcp:1.1.1.1:70000",
		"tcp:1.1.1.1:0", "unix:", "udp:a:1", "/tmp/x"};
	struct address address;
	struct error err;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(address_parse(&address, good[i], "--incoming", &err), 0);
		assert_true(address_is_local(&address));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(address_parse(&address, bad[i], "--incoming", &err), -EINVAL);
	assert_non_null(strstr(err.text, "--incoming /tmp/x"));
}

static void test_what_leaves_the_host_is_sealed_or_said_to_be_plain(void **state)
{
	const struct mtls_files none = {0}, files = {"c", "k", "a"};
	struct address address;
	struct error err;

	address_parse(&address, "tcp:192.0.2.1:4000", "migrate", NULL);
	assert_false(address_is_local(&address));
	assert_int_equal(migration_check_address(&address, &none, false, "migrate", &err), -EINVAL);
	assert_non_null(strstr(err.text, "--plain"));
	assert_int_equal(migration_check_address(&address, &none, true, "migrate", &err), 0);
	assert_int_equal(migration_check_address(&address, &files, false, "migrate", &err), 0);
	assert_int_equal(migration_check_address(&address, &files, true, "migrate", &err), -EINVAL);
	/* A name is not looked up. */
	assert_int_equal(address_parse(&address, "tcp:example.org:4000", "migrate", &err), -EINVAL);
	assert_non_null(strstr(err.text, "in numbers"));
}

static void test_tls_wants_all_of_its_files(void **state)
{
	const struct mtls_files some = {.cert = "c", .key = "k"},
				absent = {"/nowhere/c", "/nowhere/k", "/nowhere/a"};
	struct mtls *tls = NULL;
	struct error err;

	assert_int_equal(mtls_new(&tls, &some, &err), -EINVAL);
	assert_true(mtls_new(&tls, &absent, &err) < 0);
	assert_non_null(strstr(err.text, "--cert /nowhere/c"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_message_of_another_kind_is_refused_by_its_head),
		cmocka_unit_test(test_an_altered_message_is_refused),
		cmocka_unit_test(test_lengths_are_bounded),
		cmocka_unit_test(test_another_version_is_named),
		cmocka_unit_test(test_zero_is_seen_at_each_byte),
		cmocka_unit_test(test_neighbours_are_one_run),
		cmocka_unit_test(test_a_full_batch_says_so),
		cmocka_unit_test(test_compressed_pages),
		cmocka_unit_test(test_noise_is_not_compressed),
		cmocka_unit_test(test_broken_bodies),
		cmocka_unit_test(test_runs_outside_of_memory),
		cmocka_unit_test(test_it_stops_when_the_rest_is_little),
		cmocka_unit_test(test_nothing_left_stops_at_once),
		cmocka_unit_test(test_buffers_do_not_count),
		cmocka_unit_test(test_a_guest_that_goes_on_writing_is_slowed_down_step_by_step),
		cmocka_unit_test(test_a_round_that_helps_slows_nobody_down),
		cmocka_unit_test(test_a_fast_writer_is_slowed_down_soon),
		cmocka_unit_test(test_rounds_are_bounded),
		cmocka_unit_test(test_without_a_throttle_nobody_is_held),
		cmocka_unit_test(test_the_one_that_writes_is_held),
		cmocka_unit_test(test_the_sum_comes_to_what_is_wanted),
		cmocka_unit_test(test_a_writer_that_moves_is_followed),
		cmocka_unit_test(test_a_small_set_that_is_written_often),
		cmocka_unit_test(test_all_are_held_alike),
		cmocka_unit_test(test_shares_at_their_ends),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_what_leaves_the_host_is_sealed_or_said_to_be_plain),
		cmocka_unit_test(test_tls_wants_all_of_its_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
