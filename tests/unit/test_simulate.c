/* SPDX-License-Identifier: Apache-2.0 */
/* Traces, the model of a host, and what policies are worth on it. */
#include "duetd/model.h"
#include "duetd/simulate.h"
#include "duetd/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HOST "{\"host\": {\"memory_mib\": 1000, \"seconds\": 100}}\n"

static struct error err;

static int read_text(struct trace *trace, const char *text)
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	int ret = trace_read(trace, file, "t.jsonl", &err);

	fclose(file);
	return ret;
}

static void a_trace_is_read(void **state)
{
	struct trace trace;

	assert_int_equal(
		read_text(&trace, HOST "\n{\"vm\": \"a\", \"memory_mib\": 512, "
				       "\"working_set_mib\": [[10, 100], [20, 300]]}\n"
				       "{\"vm\": \"b\", \"memory_mib\": 64, \"share\": 7, "
				       "\"hints\": false, \"balloon\": false, \"claims_mib\": 60, "
				       "\"vcpus\": 3, \"touches\": 1, \"reads\": 2, "
				       "\"working_set_mib\": [[0, 1]]}"),
		0);
	assert_int_equal(trace.count, 2);
	assert_int_equal(trace.seconds, 100);
	assert_string_equal(trace.vms[0].name, "a");
	assert_true(trace.vms[0].hints && trace.vms[0].balloon && trace.vms[0].share == 100);
	assert_true(!trace.vms[1].hints && !trace.vms[1].balloon && trace.vms[1].share == 7);
	assert_true(trace.vms[1].claims == 60 && trace.vms[1].vcpus == 3);
	assert_true(trace_working_set(&trace.vms[0], 0) == 100);
	assert_true(trace_working_set(&trace.vms[0], 15) == 200);
	assert_true(trace_working_set(&trace.vms[0], 20) == 300);
	assert_true(trace_working_set(&trace.vms[0], 99) == 300);
	trace_free(&trace);
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{"", "t.jsonl: no VM in it"},
		{HOST, "t.jsonl: no VM in it"},
		{"[]\n", "t.jsonl:1: an object is wanted"},
		{"{\n", "t.jsonl:1: "},
		{"{\"vm\": \"a\"}\n", "t.jsonl:1: the first line is the host's"},
		{"{\"host\": 5}\n", "t.jsonl:1: host: memory_mib: a number from 1 to"},
		{"{\"host\": {\"memory_mib\": 1, \"seconds\": 0}}\n", "t.jsonl:1: host: seconds"},
		{HOST "{\"vm\": 5}\n", "t.jsonl:2: vm: a name"},
		{HOST HOST, "t.jsonl:2: vm: a name"},
		{HOST "{\"vm\": \"a\"}\n", "t.jsonl:2: memory_mib"},
		{HOST "{\"vm\": \"a\", \"memory_mib\": 9}\n", "t.jsonl:2: working_set_mib: a list"},
		{HOST "{\"vm\": \"a\", \"memory_mib\": 9, \"working_set_mib\": [5]}\n",
			"t.jsonl:2: working_set_mib: each point"},
		{HOST "{\"vm\": \"a\", \"memory_mib\": 9, \"working_set_mib\": [[0, 10]]}\n",
			"t.jsonl:2: working_set_mib: 10 MiB"},
		{HOST "{\"vm\": \"a\", \"memory_mib\": 9, \"working_set_mib\": [[3, 1], [3, 2]]}\n",
			"t.jsonl:2: working_set_mib: second 3"},
		{HOST "{\"vm\": \"a\", \"memory_mib\": 9, \"hints\": 1, \"working_set_mib\": [[0, "
		      "1]]}\n",
			"t.jsonl:2: hints: true or false"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trace trace;

		assert_int_equal(read_text(&trace, cases[i].text), -EINVAL);
		if (strncmp(err.text, cases[i].words, strlen(cases[i].words)) != 0)
			fail_msg("%u: %s", i, err.text);
		trace_free(&trace);
	}
}

static void make(struct trace *trace, unsigned vms, uint64_t seed)
{
	char *text = NULL, *again = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);

	trace_make(file, vms, seed);
	fclose(file);
	file = open_memstream(&again, &length);
	trace_make(file, vms, seed);
	fclose(file);
	assert_string_equal(text, again);
	if (read_text(trace, text) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(trace->count, vms);
	free(text);
	free(again);
}

static struct model_result run(const struct trace *trace, const char *name)
{
	const struct policy *policy = policy_by_name(MECHANISM_MEMORY, name, &err);
	struct model *model = model_new(trace);
	struct plan plan = {.vms = calloc(trace->count, sizeof(*plan.vms))};
	struct model_result result;

	while (model_step(model)) {
		memset(plan.vms, 0, trace->count * sizeof(*plan.vms));
		policy->decide(model_view(model), &plan);
		model_apply(model, &plan);
	}
	model_result(model, &result);
	model_free(model);
	free(plan.vms);
	return result;
}

static double total(const struct trace *trace, const char *name)
{
	struct model_result result = run(trace, name);

	return result.guest_pages + result.host_pages;
}

/* What the usual policy is there for. */
static void working_set_pages_least(void **state)
{
	static const char *const others[] = {"idle-tax", "ovirt", "pressure", "off"};

	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct trace trace;
		double ours;

		make(&trace, 20 + 20 * (unsigned)(seed % 4), seed);
		ours = total(&trace, "working-set");
		assert_true(ours <= total(&trace, "static") / 2);
		for (unsigned i = 0; i < 4; i++)
			if (total(&trace, others[i]) <= ours)
				fail_msg("seed %u: %s pages less", (unsigned)seed, others[i]);
		trace_free(&trace);
	}
}

static void with_enough_memory_nobody_pages(void **state)
{
	const struct policy *const *all = policies_of(MECHANISM_MEMORY);
	struct trace trace;

	make(&trace, 20, 3);
	trace.memory_mib *= 1.7; /* 1.13 times what guests were given */
	for (unsigned i = 0; all[i]; i++)
		if (strcmp(all[i]->name, "pressure") != 0 && strcmp(all[i]->name, "ovirt") != 0)
			assert_true(total(&trace, all[i]->name) < 1);
	trace_free(&trace);
}

/* Three guests on a host of two's memory. One says that it needs all it has, and uses a tenth; the
 * others lose no more to it than to one that does need it. */
static void a_liar_costs_no_more_than_one_in_need(void **state)
{
	static const char text[] =
		"{\"host\": {\"memory_mib\": 2000, \"seconds\": 200}}\n"
		"{\"vm\": \"liar\", \"memory_mib\": 1000, \"reads\": 0, \"working_set_mib\": [[0, "
		"100]]}\n"
		"{\"vm\": \"a\", \"memory_mib\": 1000, \"working_set_mib\": [[0, 500]]}\n"
		"{\"vm\": \"b\", \"memory_mib\": 1000, \"working_set_mib\": [[0, 500]]}\n";
	struct trace trace;

	assert_int_equal(read_text(&trace, text), 0);
	assert_true(total(&trace, "working-set") < 1);
	trace.vms[0].claims = 1000;
	assert_true(total(&trace, "working-set") < 1);
	trace_free(&trace);
}

/* A guest grows from a tenth to most of its memory within a second: in ten more it holds it. */
static void a_burst_is_answered_within_seconds(void **state)
{
	static const char text[] =
		"{\"host\": {\"memory_mib\": 4000, \"seconds\": 112}}\n"
		"{\"vm\": \"grows\", \"memory_mib\": 2000, \"working_set_mib\": [[0, 200], [100, "
		"200], [101, 1600]]}\n"
		"{\"vm\": \"a\", \"memory_mib\": 2000, \"working_set_mib\": [[0, 300]]}\n"
		"{\"vm\": \"b\", \"memory_mib\": 2000, \"working_set_mib\": [[0, 300]]}\n";
	struct trace trace;
	struct model_result result;

	assert_int_equal(read_text(&trace, text), 0);
	result = run(&trace, "working-set");
	/* No room for a tenth of it, over a tenth of the time at most. */
	assert_true(result.worst < 0.02);
	assert_true(result.host_pages < 1);
	trace_free(&trace);
}

/* What command_simulate() prints and returns. */
static int command(unsigned count, const char *const *args, char *text, size_t room)
{
	FILE *file = tmpfile();
	int saved = dup(1), saved_err = dup(2), ret;
	size_t length;

	fflush(stdout);
	dup2(fileno(file), 1);
	dup2(fileno(file), 2);
	ret = command_simulate(count, args);
	fflush(stdout);
	dup2(saved, 1);
	dup2(saved_err, 2);
	close(saved);
	close(saved_err);
	rewind(file);
	length = fread(text, 1, room - 1, file);
	text[length] = 0;
	fclose(file);
	return ret;
}

static void arguments_are_checked(void **state)
{
	static const struct {
		const char *args[4];
		int status;
		const char *words;
	} cases[] = {
		{{"--help"}, 0, "usage: duetd simulate"},
		{{"--make", "2"}, 0, "{\"host\": {\"memory_mib\""},
		{{NULL}, 2, "duetd simulate: a TRACE is wanted"},
		{{"--make"}, 2, "duetd simulate: --make: it needs a value"},
		{{"--make", "0"}, 2, "duetd simulate: --make 0: a number from 1 to 100000"},
		{{"--policy", "best", "x"}, 2, "duetd simulate: --policy: memory: no policy"},
		{{"--fast", "x"}, 2, "duetd simulate: --fast: no such option"},
		{{"x", "y"}, 2, "duetd simulate: y: one trace at a time"},
		{{"/no/such/trace"}, 1, "duetd simulate: /no/such/trace: "},
		{{"/dev/null"}, 1, "duetd simulate: /dev/null: no VM in it"},
	};
	char text[4096];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned count = 0;

		while (cases[i].args[count])
			count++;
		assert_int_equal(
			command(count, cases[i].args, text, sizeof(text)), cases[i].status);
		if (strncmp(text, cases[i].words, strlen(cases[i].words)) != 0)
			fail_msg("%u: %s", i, text);
	}
}

static void a_table_is_printed(void **state)
{
	char name[] = "/tmp/duet-test-simulate-XXXXXX", text[4096];
	const char *const args[] = {name};
	const struct policy *const *all = policies_of(MECHANISM_MEMORY);
	FILE *file = fdopen(mkstemp(name), "w");

	assert_non_null(file);
	trace_make(file, 5, 9);
	fclose(file);
	assert_int_equal(command(1, args, text, sizeof(text)), 0);
	remove(name);
	assert_int_equal(strncmp(text, "5 VMs, ", 7), 0);
	for (unsigned i = 0; all[i]; i++)
		assert_non_null(strstr(text, all[i]->name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_trace_is_read),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(working_set_pages_least),
		cmocka_unit_test(with_enough_memory_nobody_pages),
		cmocka_unit_test(a_liar_costs_no_more_than_one_in_need),
		cmocka_unit_test(a_burst_is_answered_within_seconds),
		cmocka_unit_test(arguments_are_checked),
		cmocka_unit_test(a_table_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
