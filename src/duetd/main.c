/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/log.h"
#include "base/numbers.h"
#include "duetd/commands.h"
#include "duetd/serve.h"
#include "duetd/signals.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: duetd [OPTION]...\n"
	"       duetd simulate TRACE     (see duetd simulate --help)\n"
	"       duetd dashboard          (see duetd dashboard --help)\n"
	"       duetd utilization        (see duetd utilization --help)\n"
	"       duetd --undo\n"
	"Manages the virtual machines of this host: how much memory each may hold, what weight\n"
	"and slices its CPUs have, on which nodes it is, which of its pages are merged. It runs as "
	"root, starts and stops\n"
	"machines when it is told to (duetctl start), and puts weights, slices, CPUs and balloons\n"
	"back when it ends.\n"
	"\n"
	"  --directory DIR   where VMs have their API sockets, NAME.sock (default: /run/duet)\n"
	"  --socket PATH     its own, for duetctl (default: /run/duetd.sock)\n"
	"  --memory POLICY, --cpu POLICY, --numa POLICY, --sharing POLICY\n"
	"                    the policies at first; duetctl policy lists and changes them\n"
	"  --budget SIZE     how much memory the VMs may take together, as 48G (default: the\n"
	"                    host's)\n"
	"  --period MS       between two decisions, 100 to 60000 (default: 1000)\n"
	"  --root DIR        for tests: takes DIR/proc and DIR/sys for the host's, and keeps the\n"
	"                    journal in DIR/run/duetd\n"
	"  --log LEVEL       error, warning, info or debug (default: info)\n"
	"  --undo            puts back what a duetd that was killed has left, and ends\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0 ended by SIGTERM, SIGINT or SIGHUP, or all was put back; 1 it cannot\n"
	"start; 2 wrong command line.\n"
	"\n"
	"Examples\n"
	"  duetd\n"
	"  duetd --memory pressure --cpu off\n"
	"  duetd simulate --make 1000 >t.jsonl && duetd simulate t.jsonl\n"
	"  duetctl explain web\n";

struct command_line {
	struct serve_options serve;
	const char *policies[MECHANISMS];
	bool undo;
	char journal[256];
};

struct option {
	const char *name;
	/* False: it has said why not. */
	bool (*take)(struct command_line *line, const char *value);
};

static bool take_directory(struct command_line *line, const char *value)
{
	line->serve.manager.directory = value;
	return true;
}

static bool take_socket(struct command_line *line, const char *value)
{
	line->serve.socket = value;
	return true;
}

static bool take_memory(struct command_line *line, const char *value)
{
	line->policies[MECHANISM_MEMORY] = value;
	return true;
}

static bool take_cpu(struct command_line *line, const char *value)
{
	line->policies[MECHANISM_CPU] = value;
	return true;
}

static bool take_numa(struct command_line *line, const char *value)
{
	line->policies[MECHANISM_NUMA] = value;
	return true;
}

static bool take_sharing(struct command_line *line, const char *value)
{
	line->policies[MECHANISM_SHARING] = value;
	return true;
}

static bool take_root(struct command_line *line, const char *value)
{
	line->serve.manager.levers.root = value;
	return true;
}

static bool take_budget(struct command_line *line, const char *value)
{
	if (parse_size(value, &line->serve.manager.budget) < 0) {
		log_error("--budget %s: a size, as 512M or 48G", value);
		return false;
	}
	return true;
}

static bool take_period(struct command_line *line, const char *value)
{
	uint64_t period;

	if (parse_number(value, 100, 60000, &period) < 0) {
		log_error("--period %s: milliseconds from 100 to 60000, as 1000", value);
		return false;
	}
	line->serve.manager.period_ms = (unsigned)period;
	return true;
}

static bool take_log(struct command_line *line, const char *value)
{
	enum log_level level;

	if (!log_level_parse(value, &level)) {
		log_error("--log %s: it is error, warning, info or debug", value);
		return false;
	}
	log_set_level(level);
	return true;
}

static const struct option options[] = {
	{"--directory", take_directory},
	{"--socket", take_socket},
	{"--memory", take_memory},
	{"--cpu", take_cpu},
	{"--numa", take_numa},
	{"--sharing", take_sharing},
	{"--budget", take_budget},
	{"--period", take_period},
	{"--root", take_root},
	{"--log", take_log},
};

static bool take_option(struct command_line *line, const char *name, const char *value)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(options[i].name, name) != 0)
			continue;
		if (value && *value)
			return options[i].take(line, value);
		log_error("%s: a value is to follow it; see duetd --help", name);
		return false;
	}
	log_error("%s: no such option, and a value is a word of its own; see duetd --help", name);
	return false;
}

static bool read_line(struct command_line *line, unsigned count, const char *const *args)
{
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(args[i], "--undo") == 0)
			line->undo = true;
		else if (!take_option(line, args[i], i + 1 < count ? args[i + 1] : NULL))
			return false;
		else
			i++;
	}
	return true;
}

static bool choose_policies(struct command_line *line)
{
	struct error err = {0};

	for (unsigned i = 0; i < MECHANISMS; i++) {
		const struct policy **policy = &line->serve.manager.policies[i];

		*policy = line->policies[i] ? policy_by_name(i, line->policies[i], &err)
					    : policies_of(i)[0];
		if (!*policy) {
			log_error("--%s: %s", mechanism_name(i), err.text);
			return false;
		}
	}
	return true;
}

static int run(struct command_line *line)
{
	struct levers_options *levers = &line->serve.manager.levers;
	struct error err = {0};
	int ret;

	snprintf(line->journal, sizeof(line->journal), "%s/run/duetd/journal", levers->root);
	levers->journal = line->journal;
	ret = line->undo ? levers_undo(levers, &err) : serve(&line->serve, &err);
	if (ret < 0)
		log_error("%s", err.text);
	return ret < 0 ? 1 : 0;
}

static int command_serve(unsigned count, const char *const *args)
{
	struct command_line line = {.serve = {.socket = "/run/duetd.sock",
					    .manager = {.directory = "/run/duet",
						    .levers = {.root = "", .cgroup = "duet"}}}};

	if (!read_line(&line, count, args) || !choose_policies(&line))
		return 2;
	return run(&line);
}

static bool is(const char *arg, const char *name, const char *letter)
{
	return strcmp(arg, name) == 0 || strcmp(arg, letter) == 0;
}

int main(int argc, char **argv)
{
	const char *const *args = (const char *const *)(void *)argv;
	unsigned count = argc > 0 ? (unsigned)argc - 1 : 0;

	log_set_program("duetd");
	log_set_level(LOG_LEVEL_INFO);
	log_set_patience(SIGNALS_LOG_PATIENCE_MS);
	if (count && strcmp(args[1], "simulate") == 0)
		return command_simulate(count - 1, args + 2);
	if (count && strcmp(args[1], "dashboard") == 0)
		return command_dashboard(count - 1, args + 2);
	if (count && strcmp(args[1], "utilization") == 0)
		return command_utilization(count - 1, args + 2);
	for (unsigned i = 1; i <= count; i++) {
		if (is(args[i], "--help", "-h")) {
			fputs(usage, stdout);
			return 0;
		}
	}
	if (count && is(args[1], "--version", "-V")) {
		puts("duetd " DUET_VERSION);
		return 0;
	}
	return command_serve(count, args + 1);
}
