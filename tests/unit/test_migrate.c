/* SPDX-License-Identifier: Apache-2.0 */
/* A migration from end to end, with every fault at every point: never do two machines run, and one
 * that was not given away stays. */
#include "migrate_rig.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
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

#define MIB (1ULL << 20)

/* A guest writes while its pages are copied, and the log makes up for it; the thread sanitizer
 * cannot know that. */
#if defined(__SANITIZE_THREAD__)
#define RACES_ARE_FINE false
#elif defined(__has_feature)
#define RACES_ARE_FINE !__has_feature(thread_sanitizer)
#else
#define RACES_ARE_FINE true
#endif

static void fill(struct rig *rig, unsigned every)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(&rig->here, i)); i++)
		for (uint64_t page = 0; page < region->size / MEMORY_PAGE; page += every)
			memset(region->mapped_at + page * MEMORY_PAGE + page % 4000, (int)page | 1,
				90);
}

static void open_rig(struct rig *rig, unsigned every)
{
	rig->low = rig->low ? rig->low : 8 * MIB;
	rig_open(rig);
	fill(rig, every);
}

static void assert_moved(const struct rig *rig)
{
	if (rig->end != SOURCE_MOVED)
		fail_msg("%s; %s", rig->source_err.text, rig->target_err.text);
	assert_int_equal(rig->result, 0);
	assert_true(rig->runs_there && rig->disks_there);
	assert_false(rig->runs_here || rig->disks_here);
	assert_true(rig_same_memory(rig));
}

static void test_pages_with_bytes_are_sent_once(void **state)
{
	struct rig rig = {.high = 4 * MIB};

	open_rig(&rig, 3);
	rig_migrate(&rig);
	assert_moved(&rig);
	/* A third of 2048 and of 1024, rounded up. */
	assert_true(atomic_load(&rig.progress.sent) == 683 + 342);
	assert_true(atomic_load(&rig.progress.zero) == 3 * 1024 - 683 - 342);
	assert_true(atomic_load(&rig.progress.resent) == 0);
	assert_true(atomic_load(&rig.progress.total) == 3 * 1024);
	rig_close(&rig);
}

static void test_pages_written_meanwhile_are_sent_again(void **state)
{
	struct rig rig = {.high = 4 * MIB, .writes = 40};

	open_rig(&rig, 5);
	rig_migrate(&rig);
	assert_moved(&rig);
	assert_true(atomic_load(&rig.progress.resent) >= 40);
	rig_close(&rig);
}

static void test_a_page_that_is_zero_again_arrives_as_zero(void **state)
{
	struct rig rig = {0};
	const struct memory_region *region;

	open_rig(&rig, 1);
	region = memory_region(&rig.there, 0);
	memset(region->mapped_at, 0xee, region->size);
	memset(memory_region(&rig.here, 0)->mapped_at, 0, 3 * MIB);
	rig_migrate(&rig);
	assert_moved(&rig);
	rig_close(&rig);
}

static void test_many_streams_under_a_writer(void **state)
{
	static const unsigned streams[] = {1, 2, 5, WIRE_STREAMS_MAX};

	for (unsigned i = 0; i < 4; i++) {
		struct rig rig = {.streams = streams[i],
			.high = 6 * MIB,
			.writes = 50,
			.writes_meanwhile = RACES_ARE_FINE,
			.compress = i % 2};

		open_rig(&rig, 2);
		rig_migrate(&rig);
		assert_moved(&rig);
		rig_close(&rig);
	}
}

static void test_compression_is_worth_it(void **state)
{
	uint64_t bytes[2];

	for (unsigned compress = 0; compress < 2; compress++) {
		struct rig rig = {.compress = compress, .writes = 20};

		open_rig(&rig, 2);
		rig_migrate(&rig);
		assert_moved(&rig);
		bytes[compress] = rig.said[0];
		rig_close(&rig);
	}
	assert_true(bytes[1] < bytes[0] / 4);
}

static void test_a_fast_writer_is_throttled(void **state)
{
	/* A twentieth of what a page takes: only no page at all is fast enough. */
	struct rig rig = {.writes = 100, .limit = 1};

	open_rig(&rig, 2);
	rig_migrate(&rig);
	assert_int_equal(rig.end, SOURCE_STAYS);
	assert_int_equal(rig.throttle, PLAN_THROTTLE_MAX);
	assert_int_equal(rig.spared, rig.throttle);
	assert_true(rig.runs_here && !rig.runs_there);
	assert_non_null(strstr(rig.source_err.text, "faster than it can be sent"));
	assert_non_null(strstr(rig.target_err.text, "faster than it can be sent"));
	rig_close(&rig);
}

static void test_who_does_not_write_is_not_held(void **state)
{
	struct rig rig = {.writes = 100, .limit = 1, .tells = true};

	open_rig(&rig, 2);
	rig_migrate(&rig);
	assert_int_equal(rig.end, SOURCE_STAYS);
	assert_true(rig.throttle > 50);
	assert_int_equal(rig.spared, 0);
	assert_int_equal(atomic_load(&rig.progress.cpus), 2);
	assert_int_equal(atomic_load(&rig.progress.held[0]), 0);
	assert_int_equal(atomic_load(&rig.progress.held[1]), rig.throttle);
	assert_int_equal(atomic_load(&rig.progress.throttle), rig.throttle);
	rig_close(&rig);
}

static void test_force_stops_it_all_the_same(void **state)
{
	struct rig rig = {.writes = 100, .limit = 1, .force = true};

	open_rig(&rig, 2);
	rig_migrate(&rig);
	assert_moved(&rig);
	rig_close(&rig);
}

/* Whatever happened: what may never be. */
static void assert_one_at_most(const struct rig *rig)
{
	assert_false(rig->runs_here && rig->runs_there);
	assert_true((rig->result == 0) == rig->runs_there);
	switch (rig->end) {
	case SOURCE_MOVED:
		assert_true(rig->runs_there && rig_same_memory(rig));
		break;
	case SOURCE_STAYS:
		assert_true(rig->runs_here && rig->disks_here && *rig->source_err.text);
		assert_false(rig->runs_there || rig->disks_there);
		break;
	case SOURCE_UNKNOWN:
	case SOURCE_TORN:
		assert_true(rig->committed);
		assert_false(rig->runs_here || rig->disks_here);
		break;
	}
}

static void test_each_step_fails(void **state)
{
	for (enum rig_step step = RIG_CONFIG; step < RIG_STEPS; step++) {
		struct rig rig = {.fails = step, .low = MIB, .streams = 2};

		open_rig(&rig, 4);
		rig_migrate(&rig);
		assert_one_at_most(&rig);
		assert_int_equal(rig.end, SOURCE_STAYS);
		assert_int_equal(rig.fails, RIG_NOTHING);
		rig_close(&rig);
	}
}

/* Says what a whole migration says on either side: @said. */
static void measure(uint64_t said[2])
{
	struct rig rig = {.low = 64 * MEMORY_PAGE};

	open_rig(&rig, 64);
	rig_migrate(&rig);
	assert_moved(&rig);
	memcpy(said, rig.said, sizeof(rig.said));
	rig_close(&rig);
}

static enum source_end try_fault(enum rig_fault fault, bool of_target, uint64_t at)
{
	struct rig rig = {.low = 64 * MEMORY_PAGE,
		.fault = fault,
		.of_target = of_target,
		.at = at,
		.compress = fault == RIG_NO_MEMORY};

	open_rig(&rig, 64);
	rig_migrate(&rig);
	assert_one_at_most(&rig);
	rig_close(&rig);
	return rig.end;
}

/* Within the bytes of a page one is like the other. */
static uint64_t step_at(uint64_t at)
{
	return at > 400 && at % 256 > 16 ? 61 : 1;
}

static void test_the_line_is_cut_at_each_byte(void **state)
{
	uint64_t said[2];
	unsigned ends[3] = {0};

	measure(said);
	for (uint64_t at = 0; at < said[0]; at += said[0] - at < 200 ? 1 : step_at(at)) {
		enum source_end end = try_fault(RIG_CUT, false, at);

		ends[end]++;
		assert_int_not_equal(end, SOURCE_MOVED);
		/* But the last message, once begun, each one leaves it here. */
		assert_int_equal(end, at <= said[0] - WIRE_HEADER ? SOURCE_STAYS : SOURCE_UNKNOWN);
	}
	for (uint64_t at = 0; at < said[1]; at++) {
		enum source_end end = try_fault(RIG_CUT, true, at);

		assert_int_equal(end, at < said[1] - WIRE_HEADER ? SOURCE_STAYS : SOURCE_UNKNOWN);
	}
	assert_int_equal(ends[SOURCE_UNKNOWN], WIRE_HEADER - 1);
}

static void test_each_byte_is_altered(void **state)
{
	uint64_t said[2];

	measure(said);
	for (uint64_t at = 0; at < said[0]; at += said[0] - at < 200 ? 1 : step_at(at)) {
		enum source_end end = try_fault(RIG_ALTER, false, at);

		/* The target says by a whole message that it did not take what was altered. */
		assert_int_equal(end, SOURCE_STAYS);
	}
	for (uint64_t at = 0; at < said[1]; at++)
		assert_int_not_equal(try_fault(RIG_ALTER, true, at), SOURCE_MOVED);
}

static void test_each_allocation_fails(void **state)
{
	for (int of_target = 0; of_target < 2; of_target++) {
		enum source_end end;
		uint64_t at = 0;

		/* Until there is none of that number, and all goes well. */
		while ((end = try_fault(RIG_NO_MEMORY, of_target, at)) != SOURCE_MOVED) {
			assert_int_equal(end, SOURCE_STAYS);
			at++;
		}
		assert_true(at > 0);
	}
}

/* One of a side's calls fails, each in turn, until there are no more. */
static void fail_calls(bool of_target, unsigned ends[3])
{
	bool reached = true;

	for (uint64_t at = 0; reached; at++) {
		struct rig rig = {.low = 64 * MEMORY_PAGE,
			.streams = 2,
			.fault = RIG_NO_CALL,
			.of_target = of_target,
			.at = at};

		open_rig(&rig, 64);
		rig_migrate(&rig);
		assert_one_at_most(&rig);
		reached = rig.called[of_target] > at;
		ends[rig.end]++;
		rig_close(&rig);
	}
}

static void test_each_call_of_the_system_fails(void **state)
{
	unsigned of_source[3] = {0}, of_target[3] = {0};

	fail_calls(false, of_source);
	fail_calls(true, of_target);
	/* How many calls follow the commit is a matter of time: a wait, a part of a word. */
	assert_true(of_source[SOURCE_STAYS] > 20 && of_target[SOURCE_STAYS] > 20);
	assert_true(of_source[SOURCE_MOVED] && of_target[SOURCE_MOVED]);
}

/* It is there, and says nothing: it is waited for for a while, and does not run late. */
static void test_a_target_that_is_silent_at_each_step(void **state)
{
	static const enum rig_step steps[] = {RIG_BUILD, RIG_RESTORE, RIG_RUN};

	for (unsigned i = 0; i < 3; i++) {
		struct rig rig = {.silent = steps[i], .low = MIB, .streams = 2};

		open_rig(&rig, 4);
		rig_migrate(&rig);
		assert_one_at_most(&rig);
		assert_non_null(strstr(rig.source_err.text, "silent"));
		/* Who was given it all may run, and the source does not know. */
		assert_int_equal(rig.end, steps[i] == RIG_RUN ? SOURCE_UNKNOWN : SOURCE_STAYS);
		assert_int_equal(rig.runs_there, steps[i] == RIG_RUN);
		rig_close(&rig);
	}
}

/* ---- who comes ---- */

static void connect_to(struct rig *rig, struct channel *channel)
{
	int fd = address_connect(&rig->address, -1, NULL);

	assert_true(fd >= 0);
	assert_int_equal(channel_open(channel, fd, -1, NULL, false, 0, NULL), 0);
}

/* Says hello; what the target answers. */
static int hello(
	struct rig *rig, struct channel *channel, const struct wire_hello *hello, struct error *err)
{
	uint8_t bytes[WIRE_HELLO_SIZE];
	struct message message = {0};
	int ret;

	connect_to(rig, channel);
	wire_put_hello(bytes, hello);
	channel_send(channel, WIRE_HELLO, bytes, sizeof(bytes), "", 0, NULL);
	ret = channel_expect(channel, &message, WIRE_WELCOME, err);
	message_free(&message);
	return ret;
}

static void test_who_is_of_no_use_is_turned_away(void **state)
{
	const struct wire_hello one = {.version = WIRE_VERSION, .streams = 2, .id = "one"},
				old = {.version = WIRE_VERSION + 1, .streams = 1},
				late = {.version = WIRE_VERSION, .streams = 2, .index = 1},
				other = {.version = WIRE_VERSION,
					.streams = 2,
					.index = 1,
					.id = "other"};
	struct channel first, channel;
	struct rig rig = {.low = MIB, .end = SOURCE_STAYS};
	struct error err;

	rig_open(&rig);
	rig_begin_target(&rig);
	assert_int_equal(hello(&rig, &channel, &old, &err), -EREMOTEIO);
	assert_non_null(strstr(err.text, "speaks version 4"));
	channel_close(&channel);
	/* Its first stream has not come. */
	assert_int_equal(hello(&rig, &channel, &late, &err), -EREMOTEIO);
	channel_close(&channel);
	assert_int_equal(hello(&rig, &first, &one, &err), 0);
	/* Two sources for one target. */
	assert_int_equal(hello(&rig, &channel, &other, &err), -EREMOTEIO);
	assert_non_null(strstr(err.text, "another machine is on its way"));
	channel_close(&channel);
	channel_close(&first);
	rig_end_target(&rig);
	assert_true(rig.result < 0 && !rig.runs_there);
	rig_close(&rig);
}

/* ---- sealed ---- */

struct authority {
	EVP_PKEY *key;
	X509 *cert;
};

/* A certificate of @name with a key of its own, signed by @by; null: by itself. */
static struct authority make_cert(const char *name, const struct authority *by)
{
	struct authority made = {EVP_EC_gen("P-256"), X509_new()};
	X509_NAME *subject = X509_get_subject_name(made.cert);
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509_set_version(made.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(made.cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(made.cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(made.cert), 3600);
	X509_NAME_add_entry_by_txt(
		subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(made.cert, by ? X509_get_subject_name(by->cert) : subject);
	X509_set_pubkey(made.cert, made.key);
	X509V3_set_ctx(&context, by ? by->cert : made.cert, made.cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(
		NULL, &context, NID_basic_constraints, by ? "CA:FALSE" : "critical,CA:TRUE");
	X509_add_ext(made.cert, extension, -1);
	X509_EXTENSION_free(extension);
	assert_true(X509_sign(made.cert, by ? by->key : made.key, EVP_sha256()) > 0);
	return made;
}

static void free_cert(struct authority *made)
{
	X509_free(made->cert);
	EVP_PKEY_free(made->key);
}

/* The files of who has @own and trusts @ca, read. */
static struct mtls *make_tls(const struct authority *own, const struct authority *ca)
{
	char paths[3][32] = {
		"/tmp/duet-cert-XXXXXX", "/tmp/duet-cert-XXXXXX", "/tmp/duet-cert-XXXXXX"};
	const struct mtls_files files = {paths[0], paths[1], paths[2]};
	struct mtls *tls = NULL;
	struct error err;

	for (unsigned i = 0; i < 3; i++) {
		FILE *file = fdopen(mkstemp(paths[i]), "w");

		if (i == 1)
			PEM_write_PrivateKey(file, own->key, NULL, NULL, 0, NULL, NULL);
		else
			PEM_write_X509(file, i ? ca->cert : own->cert);
		fclose(file);
	}
	if (mtls_new(&tls, &files, &err) < 0)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < 3; i++)
		unlink(paths[i]);
	return tls;
}

static void try_sealed(const struct mtls *here, const struct mtls *there, bool goes)
{
	struct rig rig = {.tls_here = here, .tls_there = there, .streams = 3, .writes = 30};

	open_rig(&rig, 3);
	rig_migrate(&rig);
	if (goes)
		assert_moved(&rig);
	else
		assert_int_equal(rig.end, SOURCE_STAYS);
	assert_one_at_most(&rig);
	rig_close(&rig);
}

static void test_each_side_wants_a_certificate_of_its_authority(void **state)
{
	struct authority ca = make_cert("ca", NULL), other = make_cert("ca", NULL);
	struct authority one = make_cert("one", &ca), two = make_cert("two", &ca),
			 stranger = make_cert("one", &other);
	struct mtls *source = make_tls(&one, &ca), *target = make_tls(&two, &ca);
	/* Whoever it is: a certificate that the other side does not take, or the other way round.
	 */
	struct mtls *unknown = make_tls(&stranger, &ca), *elsewhere = make_tls(&one, &other);

	try_sealed(source, target, true);
	try_sealed(unknown, target, false);
	try_sealed(source, unknown, false);
	try_sealed(elsewhere, target, false);
	try_sealed(source, elsewhere, false);
	try_sealed(NULL, target, false);
	try_sealed(source, NULL, false);
	mtls_free(source);
	mtls_free(target);
	mtls_free(unknown);
	mtls_free(elsewhere);
	free_cert(&ca);
	free_cert(&other);
	free_cert(&one);
	free_cert(&two);
	free_cert(&stranger);
}

static void *cancel(void *opaque)
{
	struct rig *rig = opaque;

	while (atomic_load(&rig->progress.phase) < SOURCE_COPYING)
		usleep(100);
	eventfd_write(rig->gone, 1);
	return NULL;
}

static void test_it_is_cancelled_while_it_copies(void **state)
{
	/* It would go on for ever, but for the plan. */
	struct rig rig = {.writes = 2000, .limit = 1, .low = 64 * MIB};
	pthread_t thread;

	open_rig(&rig, 1);
	assert_int_equal(thread_start(&thread, 65536, cancel, &rig), 0);
	rig_migrate(&rig);
	pthread_join(thread, NULL);
	assert_int_equal(rig.end, SOURCE_STAYS);
	assert_one_at_most(&rig);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_with_bytes_are_sent_once),
		cmocka_unit_test(test_pages_written_meanwhile_are_sent_again),
		cmocka_unit_test(test_a_page_that_is_zero_again_arrives_as_zero),
		cmocka_unit_test(test_many_streams_under_a_writer),
		cmocka_unit_test(test_compression_is_worth_it),
		cmocka_unit_test(test_a_fast_writer_is_throttled),
		cmocka_unit_test(test_who_does_not_write_is_not_held),
		cmocka_unit_test(test_force_stops_it_all_the_same),
		cmocka_unit_test(test_each_step_fails),
		cmocka_unit_test(test_the_line_is_cut_at_each_byte),
		cmocka_unit_test(test_each_byte_is_altered),
		cmocka_unit_test(test_each_allocation_fails),
		cmocka_unit_test(test_each_call_of_the_system_fails),
		cmocka_unit_test(test_a_target_that_is_silent_at_each_step),
		cmocka_unit_test(test_who_is_of_no_use_is_turned_away),
		cmocka_unit_test(test_each_side_wants_a_certificate_of_its_authority),
		cmocka_unit_test(test_it_is_cancelled_while_it_copies),
	};

	/* Of those that are turned away it says so each time. */
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
