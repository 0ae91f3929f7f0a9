/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `duet --api-sock PATH ...`, and a link named firecracker: the command line that clients of
 * Firecracker use. What concerns its jailer, filters of the caller's and its clocks is taken and
 * does nothing.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/api_session.h"
#include "cli/cache.h"
#include "cli/commands.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Its exit statuses. */
#define EXIT_BAD_CONFIG    152
#define EXIT_BAD_ARGUMENTS 153

#define ID_MAX 64
#define SOCKET "/run/firecracker.socket"

enum flag {
	API_SOCK,
	ID,
	CONFIG_FILE,
	LOG_PATH,
	LEVEL,
	METRICS_PATH,
	BODY_MAX,
	METADATA,
	MODULE,
	IGNORED_VALUE, /* all below take none */
	NO_API,
	NO_SECCOMP,
	SHOW_ORIGIN,
	VERSION,
	HELP,
	IGNORED,
	FLAGS,
};

static const struct {
	const char *name;
	enum flag flag;
	const char *help; /* null: it does nothing */
} flags[] = {
	{"--api-sock", API_SOCK, "PATH    the API's unix socket (default: " SOCKET ")"},
	{"--id", ID, "ID    what GET / answers (default: anonymous-instance)"},
	{"--config-file", CONFIG_FILE, "FILE    resources in JSON; the machine starts at once"},
	{"--no-api", NO_API, "   no socket; needs --config-file"},
	{"--log-path", LOG_PATH, "FILE    the log, instead of standard error"},
	{"--level", LEVEL, "LEVEL    Off, Error, Warning, Info, Debug or Trace"},
	{"--no-seccomp", NO_SECCOMP, "   system calls are not limited"},
	{"--metrics-path", METRICS_PATH, "FILE    a line of JSON each minute"},
	{"--http-api-max-payload-size", BODY_MAX, "BYTES    of a request's body (default: 51200)"},
	{"--version", VERSION, "   the version of the API"},
	{"--help", HELP, NULL},
	{"--boot-timer", IGNORED, NULL},
	{"--enable-pci", IGNORED, NULL},
	{"--show-level", IGNORED, NULL},
	{"--show-log-origin", SHOW_ORIGIN, NULL},
	{"--module", MODULE, NULL},
	{"--seccomp-filter", IGNORED_VALUE, NULL},
	{"--metadata", METADATA, NULL},
	{"--mmds-size-limit", IGNORED_VALUE, NULL},
	{"--start-time-us", IGNORED_VALUE, NULL},
	{"--start-time-cpu-us", IGNORED_VALUE, NULL},
	{"--parent-cpu-time-us", IGNORED_VALUE, NULL},
};

struct firecracker {
	const char *values[FLAGS]; /* "" for one that takes none */
	size_t body_max;
	struct machine_config config;
	struct session session;
	struct api_session api;
};

static int flag_of(const char *name, size_t length)
{
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		if (strlen(flags[i].name) == length && memcmp(flags[i].name, name, length) == 0)
			return (int)flags[i].flag;
	return -1;
}

static int parse(
	struct firecracker *self, unsigned count, const char *const *args, struct error *err)
{
	for (unsigned i = 0; i < count; i++) {
		const char *arg = args[i];
		const size_t length = strcspn(arg, "=");
		const int flag = flag_of(arg, length);

		if (flag < 0)
			return error_set(
				err, EINVAL, "%s: unknown option; see duet --api-sock --help", arg);
		if (flag > IGNORED_VALUE)
			self->values[flag] = "";
		else if (arg[length])
			self->values[flag] = arg + length + 1;
		else if (i + 1 < count && strncmp(args[i + 1], "--", 2) != 0)
			self->values[flag] = args[++i];
		else if (i + 1 < count && strcmp(args[i + 1], "--help") == 0)
			self->values[HELP] = "";
		else
			return error_set(
				err, EINVAL, "%s: needs a value; see duet --api-sock --help", arg);
	}
	return 0;
}

static int check_id(const char *id, struct error *err)
{
	const size_t good =
		strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

	if (id[good] || good < 1 || good > ID_MAX)
		return error_set(err, EINVAL,
			"--id %.80s: it is made of 1 to 64 letters, digits and hyphens", id);
	return 0;
}

/* In the words of Firecracker's clients. */
static int check_level(const char *word, struct error *err)
{
	if (word && !api_log_level(word))
		return error_set(err, EINVAL,
			"--level %.32s: it is Off, Error, Warning, Info, Debug or Trace", word);
	return 0;
}

static int check(struct firecracker *self, struct error *err)
{
	const char *size = self->values[BODY_MAX];
	char *end = NULL;

	self->body_max = size ? strtoul(size, &end, 10) : HTTP_BODY_MAX;
	if (size && (*end || end == size || self->body_max > MACHINE_CONFIG_MAX))
		return error_set(err, EINVAL, "--http-api-max-payload-size %s: it is 0 to %u bytes",
			size, MACHINE_CONFIG_MAX);
	if (self->values[NO_API] && !self->values[CONFIG_FILE])
		return error_set(err, EINVAL,
			"--no-api: nothing would start a machine; add --config-file FILE");
	if (!self->values[API_SOCK])
		self->values[API_SOCK] = SOCKET;
	if (!self->values[ID])
		self->values[ID] = API_ID;
	return check_level(self->values[LEVEL], err) < 0 ? -err->code
							 : check_id(self->values[ID], err);
}

static void print_help(void)
{
	puts("Usage: duet --api-sock PATH [OPTION]...\n"
	     "A virtual machine that is configured and started through its API "
	     "(docs/openapi.json),\n"
	     "which is Firecracker's and duet's own under /duet/. A link to duet that is named\n"
	     "firecracker does the same.\n");
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].help)
			printf("  %s %s\n", flags[i].name, flags[i].help);
	puts("\nOther options of Firecracker's are taken and do nothing.\n"
	     "Example: duet --api-sock /tmp/vm.sock --config-file vm.json\n"
	     "         duet ctl /tmp/vm.sock status");
}

/* What is taken, as clients give it, and missed. */
static void warn(const struct firecracker *self)
{
	if (self->values[METADATA])
		log_warning("--metadata %s: is not read: the guest finds no metadata service here",
			self->values[METADATA]);
	if (self->values[MODULE])
		log_warning("--module: is not heeded: lines of all parts are written");
	if (self->values[SHOW_ORIGIN])
		log_warning("--show-log-origin: is not heeded: lines do not name the source");
}

static int set_log(struct firecracker *self, struct error *err)
{
	const char *word = self->values[LEVEL];

	return api_session_log_to(
		&self->api, self->values[LOG_PATH], word ? api_log_level(word) : NULL, err);
}

static int open_session(struct firecracker *self, struct error *err)
{
	const struct api_session_options options = {
		.path = self->values[NO_API] ? NULL : self->values[API_SOCK],
		.id = self->values[ID],
		.body_max = self->body_max,
		.config = &self->config};
	int ret = session_open(&self->session, err);

	self->session.at_once = true;
	/* Files are a client's to name, at any time. */
	self->session.confine.choice = self->values[NO_SECCOMP] ? CONFINE_OFF : CONFINE_TRY;
	if (ret == 0)
		ret = api_session_open(&self->api, &self->session, &options, err);
	/* Which SendCtrlAltDel presses. */
	self->config.keyboard = true;
	if (ret == 0)
		ret = set_log(self, err);
	if (ret == 0)
		warn(self);
	if (ret == 0 && self->values[METRICS_PATH])
		ret = api_session_metrics_to(&self->api, self->values[METRICS_PATH], err);
	return ret;
}

static int read_config(struct firecracker *self, struct error *err)
{
	int ret = api_read_file(self->api.api, self->values[CONFIG_FILE], err);

	return ret < 0 ? ret : api_session_start(&self->api, err);
}

static int run(struct firecracker *self)
{
	struct error err = {0};
	int status = 1, ret = open_session(self, &err);

	if (ret == 0 && self->values[CONFIG_FILE]) {
		ret = read_config(self, &err);
		status = ret < 0 ? EXIT_BAD_CONFIG : status;
	}
	if (ret == 0)
		ret = session_run(&self->session, &err);
	if (ret == 0)
		status = self->session.machine ? session_status(&self->session, &err) : 0;
	if (err.code && !self->session.ended_by)
		log_error("%s", err.text);
	return status;
}

/* Clients look for the signal that they sent. */
static void end_as_asked(int number)
{
	if (!number)
		return;
	signals_default(number);
	raise(number);
}

static int run_parsed(struct firecracker *self)
{
	int status;

	machine_config_init(&self->config);
	cache_choose(&self->config);
	log_set_level(LOG_LEVEL_INFO);
	log_set_patience(SESSION_LOG_PATIENCE_MS);
	signals_block();
	status = run(self);
	api_session_close(&self->api);
	session_close(&self->session);
	machine_config_free(&self->config);
	end_as_asked(self->session.ended_by);
	return status;
}

int command_firecracker(unsigned count, const char *const *args)
{
	struct firecracker self = {.session.signals.fd = -1,
		.session.maps = -1,
		.api = {.log = -1, .metrics.fd = -1, .serial = -1}};
	struct error err = {0};

	mallopt(M_ARENA_MAX, 1);
	if (parse(&self, count, args, &err) < 0) {
		log_error("%s", err.text);
		return EXIT_BAD_ARGUMENTS;
	}
	if (self.values[HELP]) {
		print_help();
		return 0;
	}
	if (self.values[VERSION]) {
		puts("Firecracker v" API_FIRECRACKER_VERSION);
		return 0;
	}
	if (check(&self, &err) < 0) {
		log_error("%s", err.text);
		return EXIT_BAD_ARGUMENTS;
	}
	return run_parsed(&self);
}
