/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ctl_migrate.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/ctl_ask.h"
#include "cli/ctl_unplug.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 200
#define EACH    10 /* looks, where there are no rounds */

/* ---- the command line ---- */

struct option {
	const char *name, *member;
	enum {
		TAKES_NOTHING,
		TAKES_NUMBER,
		TAKES_FILE
	} takes;
};

static const struct option options[] = {
	{"--downtime", "downtime_ms", TAKES_NUMBER},
	{"--streams", "streams", TAKES_NUMBER},
	{"--force", "force", TAKES_NOTHING},
	{"--plain", "plain", TAKES_NOTHING},
	{"--compress", "compress", TAKES_NOTHING},
	{"--post-copy", "post_copy", TAKES_NOTHING},
	{"--wait", "wait_s", TAKES_NUMBER},
	{"--unplug", NULL, TAKES_NOTHING}, /* done here, before it is asked */
	{"--cert", "cert", TAKES_FILE},
	{"--key", "key", TAKES_FILE},
	{"--ca", "ca", TAKES_FILE},
};

static const struct option *find_option(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

static json_t *number_of(const struct option *option, const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || *text == '-' || value == 0 || value > UINT32_MAX) {
		log_error("migrate %s %s: give a number from 1 on", option->name, text);
		return NULL;
	}
	return json_integer((json_int_t)value);
}

/* The machine's process reads it, from another directory perhaps. */
static json_t *file_of(const struct option *option, const char *text)
{
	_cleanup_free_ char *path = realpath(text, NULL);

	if (!path)
		log_error("migrate %s %s: %s", option->name, text, strerror(errno));
	return path ? json_string(path) : NULL;
}

static json_t *value_of(const struct option *option, const char *text)
{
	if (option->takes == TAKES_NOTHING)
		return json_true();
	return option->takes == TAKES_NUMBER ? number_of(option, text) : file_of(option, text);
}

/* Likewise a socket's path. */
static json_t *address_of(const char *text)
{
	_cleanup_free_ char *directory = NULL;

	if (strncmp(text, "unix:", 5) != 0 || !text[5] || text[5] == '/')
		return json_string(text);
	directory = getcwd(NULL, 0);
	return directory ? json_sprintf("unix:%s/%s", directory, text + 5) : NULL;
}

static int set_member(json_t *body, const struct option *option, json_t *value)
{
	if (option->member)
		return json_object_set_new(body, option->member, value);
	json_decref(value);
	return 0;
}

/* Null: it has said why. */
static json_t *read_options(unsigned count, const char *const *args)
{
	json_t *body;

	if (args[0][0] == '-') {
		log_error("migrate %s: the address comes first; see duet ctl --help", args[0]);
		return NULL;
	}
	body = json_pack("{s:o}", "to", address_of(args[0]));
	for (unsigned i = 1; body && i < count; i++) {
		const struct option *option = find_option(args[i]);
		bool valued = option && option->takes != TAKES_NOTHING;
		json_t *value = NULL;

		if (!option)
			log_error("migrate %s: unknown option; see duet ctl --help", args[i]);
		else if (valued && i + 1 == count)
			log_error("migrate %s: needs a value", args[i]);
		else
			value = value_of(option, valued ? args[i + 1] : "");
		i += valued;
		if (!value || set_member(body, option, value) < 0) {
			json_decref(body);
			return NULL;
		}
	}
	return body;
}

static bool unplugs(unsigned count, const char *const *args)
{
	for (unsigned i = 1; i < count; i++)
		if (strcmp(args[i], "--unplug") == 0)
			return true;
	return false;
}

/* ---- asking ---- */

/* What it is now; null: @err says why. */
static json_t *ask(const char *socket, const char *method, const char *body, struct error *err)
{
	json_t *now = NULL;

	ctl_ask(socket, method, "/duet/migration", body, &now, err);
	return now;
}

/* ---- telling ---- */

static long long number(const json_t *now, const char *name)
{
	return json_integer_value(json_object_get(now, name));
}

static const char *word(const json_t *now, const char *name)
{
	const char *text = json_string_value(json_object_get(now, name));

	return text ? text : "";
}

static bool are_alike(const json_t *shares)
{
	for (size_t i = 1; i < json_array_size(shares); i++)
		if (!json_equal(json_array_get(shares, i), json_array_get(shares, 0)))
			return false;
	return true;
}

/* One share, or that of each vCPU where they differ. */
static void tell_shares(const json_t *now)
{
	const json_t *shares = json_object_get(now, "throttle_vcpus");

	if (are_alike(shares))
		printf(" %lld", number(now, "throttle_percent"));
	else
		for (size_t i = 0; i < json_array_size(shares); i++)
			printf(" %lld", (long long)json_integer_value(json_array_get(shares, i)));
}

/* While it runs there already. */
static bool is_arriving(const json_t *now)
{
	return strcmp(word(now, "phase"), "arriving") == 0 ||
	       strcmp(word(now, "phase"), "cut") == 0;
}

static void tell(const json_t *now)
{
	if (is_arriving(now)) {
		printf("%s: it runs there, and lacks %lld pages; %lld were asked for, the line was "
		       "cut %lld times\n",
			word(now, "phase"), number(now, "pages_left"), number(now, "pages_urgent"),
			number(now, "cuts"));
		fflush(stdout);
		return;
	}
	printf("%s: round %lld, %lld pages sent, %lld again, %lld zero, %lld left, %.1f MB/s, "
	       "expected downtime %.0f ms, vCPUs held",
		word(now, "phase"), number(now, "rounds"), number(now, "pages_sent"),
		number(now, "pages_resent"), number(now, "pages_zero"), number(now, "pages_left"),
		(double)number(now, "bytes_per_second") / 1e6,
		(double)number(now, "expected_downtime_ns") / 1e6);
	tell_shares(now);
	printf(" %%\n");
	fflush(stdout);
}

static int tell_end(const json_t *now)
{
	const char *state = word(now, "state");

	tell(now);
	if (strcmp(state, "done") == 0) {
		printf("moved: it stood still for %.1f ms\n",
			(double)number(now, "downtime_ns") / 1e6);
		return 0;
	}
	log_error("%s: %s", state, word(now, "error"));
	return 1;
}

static int follow(const char *socket, json_t *now)
{
	const struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
	long long round = -1, looks = 0;
	struct error err = {0};

	while (now && strcmp(word(now, "state"), "running") == 0) {
		if (number(now, "rounds") != round || (is_arriving(now) && looks++ % EACH == 0))
			tell(now);
		round = number(now, "rounds");
		json_decref(now);
		nanosleep(&look, NULL);
		now = ask(socket, "GET", NULL, &err);
	}
	if (now) {
		int status = tell_end(now);

		json_decref(now);
		return status;
	}
	log_error("migrate: the machine does not answer any more: %s", err.text);
	return 1;
}

/* Not for a request that is refused then. */
static int unplug_first(const char *socket, json_t *body)
{
	struct error err = {0};
	char *text;
	int ret;

	json_object_set_new(body, "check", json_true());
	text = json_dumps(body, JSON_COMPACT);
	json_object_del(body, "check");
	ret = text ? ctl_ask(socket, "PUT", "/duet/migration", text, NULL, &err) : -ENOMEM;
	free(text);
	if (ret == 0)
		return ctl_unplug_all(socket);
	log_error("%s", err.text);
	return 1;
}

int ctl_migrate(const char *socket, unsigned count, const char *const *args)
{
	_cleanup_free_ char *text = NULL;
	json_t *body = read_options(count, args), *now = NULL;
	struct error err = {0};

	if (!body)
		return 2;
	if (unplugs(count, args) && unplug_first(socket, body) != 0) {
		json_decref(body);
		return 1;
	}
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	now = text ? ask(socket, "PUT", text, &err) : NULL;
	if (now)
		return follow(socket, now);
	log_error("%s", err.text);
	return 1;
}
