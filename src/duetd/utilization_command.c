/* SPDX-License-Identifier: Apache-2.0 */
/* `duetd utilization`: asks the duetd that runs, and tells Pacemaker by its own programs. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "duetd/child.h"
#include "duetd/commands.h"
#include "duetd/signals.h"
#include "duetd/utilization.h"
#include "http/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define LOOP_ENTRIES  64
#define ANSWER_MAX    (16U << 20)
#define PATIENCE_MS   4000
#define LOOKS         12 /* for each time that something may be told */
#define TOOL_MS       20000
#define TOOL_OUTPUT   512
#define RESOURCE_SIZE 128

static const char usage[] =
	"Usage: duetd utilization [OPTION]...\n"
	"Tells Pacemaker, as utilization attributes memory (MiB) and cpu (percent of one), what "
	"the\n"
	"machines of this host may take together and what each one really needs, by what the "
	"duetd\n"
	"that runs here knows. With placement-strategy=utilization or balanced Pacemaker places "
	"by\n"
	"them. A machine is its resource's by the file NAME.resource of ocf:duet:VM. A number is "
	"told\n"
	"anew when it is off by an eighth. It ends with Ctrl-C; what was told stays.\n"
	"\n"
	"  --socket PATH     of duetd (default: /run/duetd.sock)\n"
	"  --directory DIR   where NAME.resource are (default: /run/duet)\n"
	"  --period S        between two times, 10 to 3600 (default: 60)\n"
	"  --help\n"
	"\n"
	"Exit status: 0 ended by a signal; 1 it cannot start; 2 wrong command line.\n";

struct publisher {
	const char *socket, *directory;
	uint64_t period; /* s */
	struct loop *loop;
	struct loop_timer timer;
	struct utilization known;
	unsigned looks;      /* since something was told last */
	unsigned of, kind;   /* the next to be told */
	struct child *child; /* that tells it */
	bool asked_in_vain;
	char resource[RESOURCE_SIZE];
};

/* ---- asking duetd ---- */

/* This process has nothing else to do meanwhile. */
static json_t *ask(const char *socket, const char *path, struct error *err)
{
	const struct http_ask question = {
		.socket = socket, .method = "GET", .path = path, .answer_max = ANSWER_MAX};
	struct http_question *asked = NULL;
	struct http_answer answer;
	json_t *json = NULL;
	int ret = http_question_open(&asked, &question, err);

	if (ret == 0)
		ret = http_question_finish(asked, PATIENCE_MS, &answer, err);
	if (ret == 0)
		json = json_loads(answer.body, 0, NULL);
	if (ret == 0 && !json)
		error_set(err, EBADMSG, "%s: an answer that is no JSON", socket);
	http_question_close(asked);
	return json;
}

static void look(struct publisher *publisher)
{
	struct error err = {0};
	json_t *host = ask(publisher->socket, "/host", &err);
	json_t *vms = host ? ask(publisher->socket, "/vms", &err) : NULL;

	if (vms)
		utilization_look(&publisher->known, host, vms, LOOKS);
	else if (!publisher->asked_in_vain)
		log_warning("%s; what Pacemaker was told stays until duetd answers", err.text);
	publisher->asked_in_vain = !vms;
	json_decref(host);
	json_decref(vms);
}

/* ---- telling Pacemaker ---- */

static void tell_next(struct publisher *publisher);

static void told(void *opaque, int status, const char *output)
{
	struct publisher *publisher = opaque;

	publisher->child = NULL;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		utilization_untold(&publisher->known.of[publisher->of]);
		log_warning("Pacemaker was not told: %.*s", (int)strcspn(output, "\n"),
			*output ? output : "its program did not come back");
	}
	tell_next(publisher);
}

/* Whose the machine is; false: nobody's, Pacemaker does not know it. */
static bool read_resource(struct publisher *publisher, const char *name)
{
	char path[512];
	FILE *file;
	size_t length = 0;

	snprintf(path, sizeof(path), "%s/%s.resource", publisher->directory, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(publisher->resource, sizeof(publisher->resource), file))
		length = strcspn(publisher->resource, "\n");
	publisher->resource[length] = 0;
	fclose(file);
	return length && publisher->resource[0] != '-' &&
	       strspn(publisher->resource, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789_.:-") == length;
}

static bool start(struct publisher *publisher, const char *kind, const char *number)
{
	const char *const of_host[] = {"crm_attribute", "--lifetime", "reboot", "--utilization",
		"--name", kind, "--update", number, NULL};
	const char *const of_vm[] = {"crm_resource", "--resource", publisher->resource,
		"--utilization", "--set-parameter", kind, "--parameter-value", number, NULL};
	const struct child_options options = {.argv = publisher->of ? of_vm : of_host,
		.output_max = TOOL_OUTPUT,
		.patience_ms = TOOL_MS,
		.done = told,
		.opaque = publisher};
	struct error err = {0};

	if (child_start(&publisher->child, publisher->loop, &options, &err) == 0)
		return true;
	log_warning("%s; it is of Debian's pacemaker-cli-utils", err.text);
	return false;
}

/* False: there is nothing to be told of it, or it cannot be. */
static bool tell(struct publisher *publisher, enum utilization_kind kind)
{
	struct utilization_of *of = &publisher->known.of[publisher->of];
	char text[24];
	uint64_t number;

	if ((*of->name && !read_resource(publisher, of->name)) ||
		!utilization_tell(of, kind, &number))
		return false;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	log_debug("%s: %s %s", *of->name ? of->name : "host", utilization_name(kind), text);
	return start(publisher, utilization_name(kind), text);
}

/* One after the other: each waits for the cluster. */
static void tell_next(struct publisher *publisher)
{
	while (!publisher->child && publisher->of < publisher->known.count) {
		enum utilization_kind kind = publisher->kind++;

		if (kind < UTILIZATION_KINDS)
			tell(publisher, kind);
		if (!publisher->child && publisher->kind >= UTILIZATION_KINDS) {
			publisher->kind = 0;
			publisher->of++;
		}
	}
}

static void tick(struct loop_timer *timer)
{
	struct publisher *publisher = container_of(timer, struct publisher, timer);

	/* Who is being told of is not to be another one. */
	if (!publisher->child)
		look(publisher);
	/* The first time at once: a node without numbers takes no machine. */
	if (!publisher->child && publisher->looks++ % LOOKS == 0) {
		publisher->of = publisher->kind = 0;
		tell_next(publisher);
	}
	loop_timer_after(publisher->loop, timer, publisher->period * SECOND_NS / LOOKS);
}

/* ---- the command ---- */

static int publish(struct publisher *publisher, struct error *err)
{
	struct signals signals = {.fd = -1};
	int ret = loop_new(&publisher->loop, LOOP_ENTRIES, err);

	if (ret < 0)
		return ret;
	utilization_init(&publisher->known);
	publisher->timer.expired = tick;
	ret = signals_open(&signals, publisher->loop, "no more is told", err);
	if (ret == 0) {
		tick(&publisher->timer);
		ret = signals_run(&signals, err);
	}
	loop_timer_stop(&publisher->timer);
	if (publisher->child)
		child_drop(publisher->child);
	signals_close(&signals);
	signals_settle(publisher->loop);
	loop_free(publisher->loop);
	return ret;
}

/* False: it has said why not. */
static bool take(struct publisher *publisher, const char *name, const char *value)
{
	if (strcmp(name, "--socket") == 0) {
		publisher->socket = value;
	} else if (strcmp(name, "--directory") == 0) {
		publisher->directory = value;
	} else if (strcmp(name, "--period") != 0) {
		log_error("utilization %s: no such option; see duetd utilization --help", name);
		return false;
	} else if (!value || parse_number(value, 10, 3600, &publisher->period) < 0) {
		log_error("--period %s: seconds from 10 to 3600, as 60", value ? value : "");
		return false;
	}
	if (value && *value)
		return true;
	log_error("%s: a value is to follow it; see duetd utilization --help", name);
	return false;
}

int command_utilization(unsigned count, const char *const *args)
{
	_cleanup_free_ struct publisher *publisher = calloc(1, sizeof(*publisher));
	struct error err = {0};

	if (count && (strcmp(args[0], "--help") == 0 || strcmp(args[0], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (!publisher) {
		log_error("utilization: no memory");
		return 1;
	}
	publisher->socket = "/run/duetd.sock";
	publisher->directory = "/run/duet";
	publisher->period = 60;
	for (unsigned i = 0; i < count; i += 2)
		if (!take(publisher, args[i], i + 1 < count ? args[i + 1] : NULL))
			return 2;
	if (publish(publisher, &err) == 0)
		return 0;
	log_error("%s", err.text);
	return 1;
}
