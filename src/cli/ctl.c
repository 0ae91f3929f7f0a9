/* SPDX-License-Identifier: Apache-2.0 */
/* duet ctl: a small client of the API for people. One request, one answer, blocking. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/ctl_alive.h"
#include "cli/ctl_ask.h"
#include "cli/ctl_hints.h"
#include "cli/ctl_migrate.h"
#include "cli/ctl_policy.h"
#include "cli/ctl_unplug.h"
#include "http/client.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (16U << 20)
/* A pause may take as long as a disk's slowest request. */
#define PATIENCE_S 120
/* So much memory may have to go to a slow disk. */
#define SNAPSHOT_PATIENCE_S 3600

static const char help[] =
	"Usage: duet ctl SOCK COMMAND [ARGUMENT]...\n"
	"Asks the machine whose API listens at SOCK (duet run --api-sock SOCK).\n"
	"\n"
	"  status                  its id, state and version\n"
	"  alive [FILE SECONDS]    what its guest's kernel does, in numbers; or status 3 when it\n"
	"                          has done nothing for so long, by what FILE has of the times\n"
	"                          before\n"
	"  pause, resume\n"
	"  stats                   statistics, as --stats has them\n"
	"  metrics                 the same in Prometheus' text format\n"
	"  hints [share|locality]  what the guest says of itself, as a table; or it is\n"
	"                          asked which pages are worth sharing, or used by whom\n"
	"                          (needs --coop, and in the guest its kit)\n"
	"  sharing [off|hinted|blind]  which of its memory is offered to the host's KSM, to\n"
	"                          be merged with equal pages; or it shall be: what the\n"
	"                          guest names (needs --coop and its kit), or all\n"
	"  balloon SIZE            what the balloon shall take from the guest: 256M\n"
	"  snapshot DIR [--diff]   its memory and state, as --restore takes them; --diff:\n"
	"                          what has changed since the last (needs --track-dirty;\n"
	"                          both need --allow and the directory above DIR)\n"
	"  devices [DEVICE]        what it has, with statistics\n"
	"  jobs [NUMBER], cancel NUMBER  snapshots, rounds of free page hints: how far they\n"
	"                          are; or one shall end\n"
	"  limit DEVICE NAME=RATE...  (devices lists them)\n"
	"                          iops, bw of a disk; rx-rate, tx-pps and so on of a\n"
	"                          network; 0: no limit\n"
	"  policy DEVICE NAME=VALUE...  what a network's guest may send and receive:\n"
	"                          mac-check=on, ip=ADDRESS+..., rules=FILE (man duet),\n"
	"                          rules-default=deny; ip= and rules= take them away\n"
	"  unplug DEVICE           the guest is asked to let go of a function that is passed\n"
	"                          through, and the machine gives it back to the host\n"
	"  migrate ADDRESS [--downtime MS] [--streams N] [--compress] [--force]\n"
	"          [--post-copy [--wait S]] [--unplug] [--plain]\n"
	"          [--cert FILE --key FILE --ca FILE]\n"
	"                          moves it to the duet run --incoming ADDRESS that waits\n"
	"                          there: tcp:HOST:PORT (in numbers) or unix:PATH; tells\n"
	"                          how far it is. --downtime: ms that it may stand still\n"
	"                          (300); --streams: connections (1); --compress: pages go\n"
	"                          through zstd, for a slow line; --force: stands still for\n"
	"                          as long as it takes, rather than give up; --post-copy:\n"
	"                          rather than that, it goes on there before all of its\n"
	"                          memory is there: then nothing takes it back, and it\n"
	"                          needs both sides and the line; when that is cut, either\n"
	"                          side waits for the other for S s (300; man duet);\n"
	"                          --unplug: what is passed through is unplugged first.\n"
	"                          To another host the machine needs --allow tcp,DIR (of\n"
	"                          the certificates)\n"
	"  get PATH                any request of the API (docs/openapi.json)\n"
	"  put PATH JSON, patch PATH JSON, post PATH [JSON], delete PATH\n"
	"\n"
	"Exit status: 0 done; 1 refused, or nobody listens; 2 wrong command line; 3 alive: it\n"
	"hangs.\n"
	"\n"
	"Examples\n"
	"  duet ctl vm.sock status\n"
	"  duet ctl vm.sock balloon 512M\n"
	"  duet ctl vm.sock snapshot monday\n"
	"  duet ctl vm.sock migrate unix:/tmp/move\n"
	"  duet ctl vm.sock limit disk0 iops=500 bw=50M+4M\n"
	"  duet ctl vm.sock patch /vm '{\"state\": \"Paused\"}'\n";

struct ctl_request {
	const char *method, *path;
	char *made;                          /* of a path, when it was put together */
	char *body;                          /* null: none */
	unsigned patience;                   /* seconds without an answer */
	void (*print)(const json_t *answer); /* null: as JSON */
};

struct command {
	const char *name;
	unsigned least, most; /* arguments */
	const char *method, *path;
	const char *body;
	/* False: it has said why not. Null: nothing to be made. */
	bool (*make)(struct ctl_request *request, unsigned count, const char *const *args);
	/* More than one question; null: it is one. */
	int (*run)(const char *socket, unsigned count, const char *const *args);
};

static bool take_path(struct ctl_request *request, unsigned count, const char *const *args)
{
	if (args[0][0] != '/' || strpbrk(args[0], " \r\n")) {
		log_error("%s: no path; it begins with / and has no blanks, as /machine-config",
			args[0]);
		return false;
	}
	request->path = args[0];
	if (count > 1)
		request->body = strdup(args[1]);
	return true;
}

static bool make_balloon(struct ctl_request *request, unsigned count, const char *const *args)
{
	char *end;
	double size = strtod(args[0], &end);
	const char *units = "KMGT",
		   *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	double mib = size;

	if (unit) {
		for (mib = size / 1024; unit > units; unit--)
			mib *= 1024;
		end++;
	}
	if (end == args[0] || *end || !(mib >= 0 && mib <= UINT32_MAX) ||
		mib != (double)(uint64_t)mib) {
		log_error("balloon %s: no size; it is in whole MiB, as 512 or 512M or 2G", args[0]);
		return false;
	}
	return asprintf(&request->body, "{\"amount_mib\": %.0f}", mib) >= 0;
}

/* The machine's process may be elsewhere. */
static bool make_snapshot(struct ctl_request *request, unsigned count, const char *const *args)
{
	_cleanup_free_ char *here = getcwd(NULL, 0), *path = NULL;
	json_t *fields;

	if (count > 1 && strcmp(args[1], "--diff") != 0) {
		log_error("snapshot %s: it may be followed by --diff alone", args[1]);
		return false;
	}
	if (args[0][0] == '/' ? asprintf(&path, "%s", args[0]) < 0
			      : !here || asprintf(&path, "%s/%s", here, args[0]) < 0) {
		log_error("snapshot %s: the present directory is gone; give a whole path", args[0]);
		path = NULL;
		return false;
	}
	fields = json_pack("{s:s, s:s}", "directory", path, "type", count > 1 ? "Diff" : "Full");
	request->body = fields ? json_dumps(fields, JSON_COMPACT) : NULL;
	json_decref(fields);
	request->patience = SNAPSHOT_PATIENCE_S;
	if (!request->body)
		log_error("snapshot %s: the name is no UTF-8", args[0]);
	return request->body;
}

static bool make_hints(struct ctl_request *request, unsigned count, const char *const *args)
{
	if (!count) {
		request->print = ctl_print_hints;
		return true;
	}
	if (strcmp(args[0], "share") != 0 && strcmp(args[0], "locality") != 0) {
		log_error("hints %s: the guest can be asked for share or locality", args[0]);
		return false;
	}
	request->method = "PUT";
	return asprintf(&request->body, "{\"wish\": \"%s\"}", args[0]) >= 0;
}

static bool make_sharing(struct ctl_request *request, unsigned count, const char *const *args)
{
	if (!count)
		return true;
	if (strcmp(args[0], "off") != 0 && strcmp(args[0], "hinted") != 0 &&
		strcmp(args[0], "blind") != 0) {
		log_error("sharing %s: it can be off, hinted or blind", args[0]);
		return false;
	}
	request->method = "PATCH";
	return asprintf(&request->body, "{\"state\": \"%s\"}", args[0]) >= 0;
}

/* One of those that the command's path leads to. */
static bool take_name(struct ctl_request *request, const char *name, const char *what)
{
	if (!*name || strpbrk(name, " /?\r\n")) {
		log_error("%s: no name of a %s", name, what);
		return false;
	}
	if (asprintf(&request->made, "%s/%s", request->path, name) < 0)
		request->made = NULL;
	request->path = request->made;
	return request->path;
}

static bool make_device(struct ctl_request *request, unsigned count, const char *const *args)
{
	return !count || take_name(request, args[0], "device, as disk0");
}

static bool make_job(struct ctl_request *request, unsigned count, const char *const *args)
{
	return !count || take_name(request, args[0], "job, as 1");
}

/* A number where it is one, so that what takes a size or a number takes it; 0 is no limit. */
static json_t *value_of(const char *text)
{
	json_t *number = json_loads(text, JSON_DECODE_ANY, NULL);
	const bool is_number = json_is_integer(number);

	if (is_number && json_integer_value(number))
		return number;
	json_decref(number);
	return is_number ? json_null() : json_string(text);
}

static bool make_limit(struct ctl_request *request, unsigned count, const char *const *args)
{
	json_t *fields = json_object();

	for (unsigned i = 1; i < count; i++) {
		const char *equals = strchr(args[i], '=');
		_cleanup_free_ char *name = NULL;

		if (!equals || equals == args[i]) {
			log_error("limit %s: no NAME=RATE, as iops=500 or bw=50M", args[i]);
			json_decref(fields);
			return false;
		}
		name = strndup(args[i], (size_t)(equals - args[i]));
		if (name)
			json_object_set_new(fields, name, value_of(equals + 1));
	}
	request->body = json_dumps(fields, JSON_COMPACT);
	json_decref(fields);
	return request->body && take_name(request, args[0], "device, as disk0");
}

static bool make_policy(struct ctl_request *request, unsigned count, const char *const *args)
{
	request->body = ctl_policy(count - 1, args + 1);
	return request->body && take_name(request, args[0], "network, as net0");
}

static const struct command commands[] = {
	{.name = "status", .method = "GET", .path = "/"},
	{.name = "pause", .method = "PATCH", .path = "/vm", .body = "{\"state\": \"Paused\"}"},
	{.name = "resume", .method = "PATCH", .path = "/vm", .body = "{\"state\": \"Resumed\"}"},
	{.name = "stats", .method = "GET", .path = "/duet/stats"},
	{.name = "metrics", .method = "GET", .path = "/duet/metrics"},
	{"hints", 0, 1, "GET", "/duet/hints", NULL, make_hints, NULL},
	{"sharing", 0, 1, "GET", "/duet/sharing", NULL, make_sharing, NULL},
	{"balloon", 1, 1, "PATCH", "/balloon", NULL, make_balloon, NULL},
	{"snapshot", 1, 2, "PUT", "/duet/snapshot", NULL, make_snapshot, NULL},
	{"devices", 0, 1, "GET", "/duet/devices", NULL, make_device, NULL},
	{"jobs", 0, 1, "GET", "/duet/jobs", NULL, make_job, NULL},
	{"cancel", 1, 1, "DELETE", "/duet/jobs", NULL, make_job, NULL},
	{"limit", 2, 32, "PATCH", "/duet/devices", NULL, make_limit, NULL},
	{"policy", 2, 5, "PATCH", "/duet/devices", NULL, make_policy, NULL},
	{.name = "alive", .most = 2, .run = ctl_alive},
	{.name = "unplug", .least = 1, .most = 1, .run = ctl_unplug},
	{.name = "migrate", .least = 1, .most = 16, .run = ctl_migrate},
	{"get", 1, 1, "GET", NULL, NULL, take_path, NULL},
	{"put", 2, 2, "PUT", NULL, NULL, take_path, NULL},
	{"patch", 2, 2, "PATCH", NULL, NULL, take_path, NULL},
	{"post", 1, 2, "POST", NULL, NULL, take_path, NULL},
	{"delete", 1, 1, "DELETE", NULL, NULL, take_path, NULL},
};

static int print_refusal(const struct http_answer *answer)
{
	json_t *json = json_loads(answer->body, 0, NULL);
	const char *why = ctl_why(json, answer);

	log_error("refused (%u): %.*s", answer->status, (int)strcspn(why, "\r\n"), why);
	json_decref(json);
	return 1;
}

static int print_answer(const struct http_answer *answer, void (*print)(const json_t *answer))
{
	json_t *json;

	if (answer->status >= 300 || answer->status < 200)
		return print_refusal(answer);
	json = json_loads(answer->body, JSON_DECODE_ANY, NULL);
	if (json && print) {
		print(json);
	} else if (json) {
		json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
		putchar('\n');
	} else {
		fputs(answer->body, stdout);
	}
	json_decref(json);
	return 0;
}

/* 0: @answer is there. */
static int wait_for_answer(struct http_question *question, unsigned patience,
	struct http_answer *answer, struct error *err)
{
	int ret = http_question_finish(question, patience * 1000, answer, err);

	if (ret == -ETIMEDOUT)
		error_set(err, ETIMEDOUT,
			"it has not answered for %u s; it may be stopped, or its storage "
			"stands still",
			patience);
	return ret;
}

static int ask(const char *path, const struct ctl_request *request)
{
	const struct http_ask question = {.socket = path,
		.method = request->method,
		.path = request->path,
		.body = request->body,
		.answer_max = ANSWER_MAX};
	struct http_question *asked = NULL;
	struct http_answer answer;
	struct error err = {0};
	int ret = http_question_open(&asked, &question, &err);

	if (ret == 0)
		ret = wait_for_answer(asked, request->patience, &answer, &err);
	if (ret < 0)
		log_error("%s", err.text);
	else
		ret = print_answer(&answer, request->print);
	http_question_close(asked);
	return ret < 0 ? 1 : ret;
}

static int run(
	const struct command *command, const char *path, unsigned count, const char *const *args)
{
	struct ctl_request request = {
		.method = command->method, .path = command->path, .patience = PATIENCE_S};
	int status = 2;

	if (count < command->least || count > command->most) {
		log_error("%s: wrong number of arguments; see duet ctl --help", command->name);
		return 2;
	}
	if (command->run)
		return command->run(path, count, args);
	if (command->body)
		request.body = strdup(command->body);
	if (!command->make || command->make(&request, count, args))
		status = ask(path, &request);
	free(request.made);
	free(request.body);
	return status;
}

int command_ctl(unsigned count, const char *const *args)
{
	for (unsigned i = 0; i < count && i < 2; i++) {
		if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0) {
			fputs(help, stdout);
			return 0;
		}
	}
	if (count < 2) {
		log_error("ctl: name a socket and a command; see duet ctl --help");
		return 2;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(args[1], commands[i].name) == 0)
			return run(&commands[i], args[0], count - 2, args + 2);
	log_error("ctl %s: unknown command; see duet ctl --help", args[1]);
	return 2;
}
