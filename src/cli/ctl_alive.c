/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ctl_alive.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "cli/ctl_ask.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SECONDS_MAX 86400
#define HANGS       3

/* ---- the judgement ---- */

static uint64_t number(const json_t *answer, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(answer, name));

	return value > 0 ? (uint64_t)value : 0;
}

/* Paused by its owner, or waiting for memory that comes after it: nothing is to be seen of it, and
 * that is no fault of its kernel. Nor is it one that nobody counts. */
static bool may_rest(const json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));

	return !state || strcmp(state, "Running") != 0 || number(answer, "pages_arriving") ||
	       (!json_object_get(answer, "heartbeat") && !json_object_get(answer, "events"));
}

static struct alive_seen read_signs(const json_t *answer, uint64_t now_ns)
{
	const bool beats = json_object_get(answer, "heartbeat");

	return (struct alive_seen){.sign = beats ? 'h' : 'e',
		.value = number(answer, beats ? "heartbeat" : "events"),
		.exits = number(answer, "exits"),
		.when_ns = now_ns};
}

/* A busy vCPU's timer makes hundreds of exits a second, the host's NMIs make one of a vCPU that
 * hangs in some seconds. */
static bool exits_tell(const struct alive_seen *seen, const struct alive_seen *now, uint64_t cpus)
{
	uint64_t seconds = (now->when_ns - seen->when_ns) / SECOND_NS + 1;

	return now->exits < seen->exits || now->exits - seen->exits > cpus * seconds;
}

uint64_t alive_judge(struct alive_seen *seen, const json_t *answer, uint64_t now_ns)
{
	const struct alive_seen now = read_signs(answer, now_ns);

	if (may_rest(answer) || seen->sign != now.sign || seen->value != now.value ||
		seen->when_ns > now_ns ||
		(now.sign == 'e' && exits_tell(seen, &now, number(answer, "cpus")))) {
		*seen = now;
		return 0;
	}
	return (now_ns - seen->when_ns) / SECOND_NS;
}

/* ---- what is kept between two times ---- */

/* What is no such line was written by nobody: nothing was seen yet. */
static void read_seen(const char *path, struct alive_seen *seen)
{
	FILE *file = fopen(path, "re");
	char line[128] = "";

	*seen = (struct alive_seen){0};
	if (!file)
		return;
	if (!fgets(line, sizeof(line), file) ||
		sscanf(line, "%c %" SCNu64 " %" SCNu64 " %" SCNu64 " .", &seen->sign, &seen->value,
			&seen->exits, &seen->when_ns) != 4 ||
		!strchr(line, '.'))
		*seen = (struct alive_seen){0};
	fclose(file);
}

static int write_seen(const char *path, const struct alive_seen *seen)
{
	FILE *file = fopen(path, "we");
	int ret = 0;

	if (!file || fprintf(file, "%c %" PRIu64 " %" PRIu64 " %" PRIu64 " .\n", seen->sign,
			     seen->value, seen->exits, seen->when_ns) < 0)
		ret = -errno;
	if (file && fclose(file) != 0)
		ret = -errno;
	if (ret < 0)
		log_error("alive %s: %s; name a file that can be written", path, strerror(-ret));
	return ret;
}

/* ---- the command ---- */

static void print_signs(const json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));

	printf("%s", state ? state : "no state");
	if (json_object_get(answer, "heartbeat"))
		printf(", heartbeat %" PRIu64, number(answer, "heartbeat"));
	printf(", %" PRIu64 " events, %" PRIu64 " exits", number(answer, "events"),
		number(answer, "exits"));
	if (number(answer, "pages_arriving"))
		printf(", %" PRIu64 " pages of its memory are on their way",
			number(answer, "pages_arriving"));
	putchar('\n');
}

static int judge(const json_t *answer, const char *path, uint64_t limit)
{
	struct alive_seen seen;
	uint64_t silent;

	read_seen(path, &seen);
	silent = alive_judge(&seen, answer, clock_ns());
	if (silent == 0)
		return write_seen(path, &seen) < 0 ? 1 : 0;
	if (silent < limit)
		return 0;
	log_error("the guest has shown no life for %" PRIu64 " s: no %s", silent,
		seen.sign == 'h' ? "heartbeat of its kit"
				 : "interrupt, halt or device access, and no timer of its own");
	return HANGS;
}

int ctl_alive(const char *socket, unsigned count, const char *const *args)
{
	struct error err = {0};
	json_t *answer;
	uint64_t limit;
	int status = 0;

	if (count == 1 || (count == 2 && parse_number(args[1], 1, SECONDS_MAX, &limit) < 0)) {
		log_error("alive: FILE and SECONDS (1 to %d) together, or neither", SECONDS_MAX);
		return 2;
	}
	if (ctl_ask(socket, "GET", "/duet/alive", NULL, &answer, &err) < 0) {
		log_error("%s", err.text);
		return 1;
	}
	if (count == 2)
		status = judge(answer, args[0], limit);
	else
		print_signs(answer);
	json_decref(answer);
	return status;
}
