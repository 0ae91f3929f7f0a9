/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/simulate.h"

#include "base/clock.h"
#include "base/numbers.h"
#include "duetd/model.h"
#include "duetd/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: duetd simulate [--policy NAME] TRACE\n"
	"       duetd simulate --make VMS [--seed N]\n"
	"\n"
	"Runs the memory policies over a trace of what guests need, each on a model of the\n"
	"same host, and prints what was paged.\n"
	"\n"
	"  --policy NAME  this one alone: working-set, static, idle-tax, ovirt, pressure, off\n"
	"  --make VMS     writes a trace of so many VMs with moving working sets\n"
	"  --seed N       another such trace (default: 1)\n"
	"\n"
	"examples:\n"
	"  duetd simulate --make 1000 >t.jsonl && duetd simulate t.jsonl\n"
	"  duetd simulate --policy working-set - <t.jsonl\n"
	"\n"
	"TRACE is lines of JSON; docs/duetd-trace.md describes them and the model.\n";

struct request {
	const char *file;
	const struct policy *policy;
	uint64_t make, seed;
	bool help;
};

/* ---- arguments ---- */

static int take_number(
	const char *option, const char *value, uint64_t most, uint64_t *number, struct error *err)
{
	if (parse_number(value, 1, most, number) < 0)
		return error_set(err, EINVAL, "%s %s: a number from 1 to %" PRIu64 " is wanted",
			option, value, most);
	return 0;
}

static int take_option(
	struct request *request, const char *option, const char *value, struct error *err)
{
	if (!value)
		return error_set(err, EINVAL, "%s: it needs a value", option);
	if (strcmp(option, "--make") == 0)
		return take_number(option, value, TRACE_VMS_MAX, &request->make, err);
	if (strcmp(option, "--seed") == 0)
		return take_number(option, value, UINT32_MAX, &request->seed, err);
	request->policy = policy_by_name(MECHANISM_MEMORY, value, err);
	return request->policy ? 0 : error_prefix(err, "--policy: ");
}

static bool has_value(const char *arg)
{
	return strcmp(arg, "--make") == 0 || strcmp(arg, "--seed") == 0 ||
	       strcmp(arg, "--policy") == 0;
}

static int parse(
	struct request *request, unsigned count, const char *const *args, struct error *err)
{
	*request = (struct request){.seed = 1};
	for (unsigned i = 0; i < count; i++) {
		int ret = 0;

		if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0)
			request->help = true;
		else if (has_value(args[i]))
			ret = take_option(
				request, args[i], i + 1 < count ? args[i + 1] : NULL, err);
		else if (args[i][0] == '-' && args[i][1])
			ret = error_set(err, EINVAL, "%s: no such option", args[i]);
		else if (request->file)
			ret = error_set(err, EINVAL, "%s: one trace at a time", args[i]);
		else
			request->file = args[i];
		if (ret < 0)
			return ret;
		i += has_value(args[i]);
	}
	if (!request->help && !request->make == !request->file)
		return error_set(err, EINVAL, "a TRACE is wanted, or --make");
	return 0;
}

/* ---- a policy over the trace ---- */

static void decide(const struct policy *memory, const struct view *view, struct plan *plan)
{
	memset(plan->vms, 0, view->count * sizeof(*plan->vms));
	memory->decide(view, plan);
	policies_of(MECHANISM_CPU)[0]->decide(view, plan);
	policies_of(MECHANISM_NUMA)[0]->decide(view, plan);
	policies_of(MECHANISM_SHARING)[0]->decide(view, plan);
}

static void print_row(
	const struct policy *policy, const struct model_result *result, double decision_us)
{
	printf("%-12s %13.0f %13.0f %13.0f %11.1f %% %11.0f us\n", policy->name,
		result->guest_pages, result->host_pages, result->guest_pages + result->host_pages,
		result->worst * 100, decision_us);
	fflush(stdout);
}

static int try_policy(const struct policy *policy, const struct trace *trace, struct plan *plan,
	struct error *err)
{
	struct model *model = model_new(trace);
	struct model_result result;
	uint64_t spent = 0;
	unsigned decisions = 0;

	if (!model)
		return error_errno(err, ENOMEM, "simulate");
	while (model_step(model)) {
		uint64_t began = clock_ns();

		decide(policy, model_view(model), plan);
		spent += clock_ns() - began;
		decisions++;
		model_apply(model, plan);
	}
	model_result(model, &result);
	print_row(policy, &result, decisions ? (double)spent / decisions / 1000 : 0);
	model_free(model);
	return 0;
}

static int try_all(const struct request *request, const struct trace *trace, struct error *err)
{
	const struct policy *const *all = policies_of(MECHANISM_MEMORY);
	struct plan plan = {.vms = calloc(trace->count, sizeof(*plan.vms))};
	int ret = 0;

	if (!plan.vms)
		return error_errno(err, ENOMEM, "simulate");
	printf("%u VMs, %.0f MiB for guests, %u s; pages read in again\n", trace->count,
		trace->memory_mib, trace->seconds);
	printf("%-12s %13s %13s %13s %13s %14s\n", "policy", "by guests", "by the host", "total",
		"worst misses", "a decision");
	for (unsigned i = 0; ret == 0 && all[i]; i++)
		if (!request->policy || request->policy == all[i])
			ret = try_policy(all[i], trace, &plan, err);
	free(plan.vms);
	return ret;
}

static int simulate(const struct request *request, struct error *err)
{
	bool piped = strcmp(request->file, "-") == 0;
	FILE *file = piped ? stdin : fopen(request->file, "re");
	struct trace trace;
	int ret;

	if (!file)
		return error_errno(err, errno,
			"%s: cannot be opened; duetd simulate --make 100 writes a trace",
			request->file);
	ret = trace_read(&trace, file, request->file, err);
	if (!piped)
		fclose(file);
	if (ret == 0)
		ret = try_all(request, &trace, err);
	trace_free(&trace);
	return ret;
}

int command_simulate(unsigned count, const char *const *args)
{
	struct request request;
	struct error err = {0};
	int ret = parse(&request, count, args, &err);

	if (ret < 0) {
		fprintf(stderr, "duetd simulate: %s; see duetd simulate --help\n", err.text);
		return 2;
	}
	if (request.help)
		fputs(help, stdout);
	else if (request.file)
		ret = simulate(&request, &err);
	else
		trace_make(stdout, (unsigned)request.make, request.seed);
	if (ret < 0)
		fprintf(stderr, "duetd simulate: %s\n", err.text);
	else if (fflush(stdout) != 0 || ferror(stdout))
		ret = -EIO;
	return ret < 0 ? 1 : 0;
}
