/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include "base/checked.h"
#include "cli/suboptions.h"
#include "migrate/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const log_words[] = {"error", "warning", "info", "debug", NULL};

static const char *const sandbox_words[] = {
	[CONFINE_OFF] = "off", [CONFINE_TRY] = "try", [CONFINE_ON] = "on", NULL};

static const struct field run_table[] = {
	{.section = "This process",
		.name = "config",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, from),
		.value = "FILE",
		.help = "a configuration in JSON; other options win over it, --pv -NAME takes "
			"from its list, and devices are added to its own, with other ids"},
	{.name = "restore",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, restore),
		.value = "DIR",
		.unset = "none",
		.help = "goes on with the machine of a snapshot, which stays as it is; the files "
			"of "
			"its disks must be as they were then. No option of a machine but --stats "
			"goes "
			"with it"},
	{.name = "restore-taps",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, restore_taps),
		.value = "ID=IFNAME,...",
		.unset = "those of the snapshot",
		.help = "taps of this host for the snapshot's networks"},
	{.name = "track-dirty",
		.kind = FIELD_SWITCH,
		.offset = offsetof(struct run_options, track_dirty),
		.fallback = "off",
		.help = "from the first snapshot on, which pages change is known: duet ctl SOCK "
			"snapshot DIR --diff; needs --api-sock"},
	{.name = "log",
		.kind = FIELD_WORD,
		.offset = offsetof(struct run_options, log),
		.words = log_words,
		.fallback = "warning",
		.help = "what is told on standard error"},
	{.name = "api-sock",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, api_sock),
		.value = "PATH",
		.unset = "none",
		.help = "a unix socket on which the machine can be looked at and changed: see "
			"duet ctl"},
	{.name = "sandbox",
		.kind = FIELD_WORD,
		.offset = offsetof(struct run_options, sandbox),
		.words = sandbox_words,
		.fallback = "try",
		.help = "what duet gives up before the guest runs (files, system calls); "
			"on: all of it, or no machine; try: what this host can"},
	{.name = "allow",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, allow),
		.value = "DIR|tcp,...",
		.unset = "nothing",
		.help = "what a client of the API may name, in the sandbox: files below "
			"these directories (snapshots, a disk's new file, certificates); tcp: "
			"another host, to move there"},
	{.name = "user",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, user),
		.value = "UID[:GID]",
		.unset = "who started it",
		.help = "who duet becomes when all is open, started by root"},
	{.name = "incoming",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, incoming),
		.value = "ADDRESS",
		.unset = "none",
		.help = "waits for a machine that duet ctl SOCK migrate ADDRESS sends: "
			"tcp:HOST:PORT or unix:PATH; other options say where its disks and "
			"networks are here"},
	{.name = "cert",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, cert),
		.value = "FILE",
		.unset = "none",
		.help = "TLS for what comes: this side's certificate, in PEM"},
	{.name = "key",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, key),
		.value = "FILE",
		.unset = "none",
		.help = "its key"},
	{.name = "ca",
		.kind = FIELD_TEXT,
		.offset = offsetof(struct run_options, ca),
		.value = "FILE",
		.unset = "none",
		.help = "the authority whose certificates the other side may have"},
	{.name = "plain",
		.kind = FIELD_SWITCH,
		.offset = offsetof(struct run_options, plain),
		.fallback = "off",
		.help = "without TLS, also from other hosts"},
};

const struct field_set run_fields = {run_table, ARRAY_SIZE(run_table)};

/* One option of the command line. */
struct option {
	const char *name; /* without the dashes; not terminated */
	size_t length;
	const char *value; /* null: it takes none */
	bool bare;         /* it could have one, and "" stands for it */
};

struct words {
	const char *const *args;
	unsigned count, at;
};

static bool is(const struct option *option, const char *name)
{
	return strlen(name) == option->length && memcmp(option->name, name, option->length) == 0;
}

static bool is_flag(const struct option *option)
{
	return is(option, "help") || is(option, "print-config");
}

/* The type of device that it is for; null: no device's. Of "--device vfio" the first word counts.
 */
static const struct device_type_info *device_of(const struct option *option)
{
	for (unsigned i = 0; i < DEVICE_TYPES; i++) {
		const char *name = device_types[i].option;

		if (name && strcspn(name + 2, " ") == option->length &&
			memcmp(name + 2, option->name, option->length) == 0)
			return &device_types[i];
	}
	return NULL;
}

static bool may_be_bare(const struct words *words, const struct device_type_info *device)
{
	return device && device->may_be_bare &&
	       (words->at == words->count || words->args[words->at][0] == '-');
}

/* The field that it sets, and in what; null when it sets none. */
static const struct field *field_of(
	struct run_options *options, const struct option *option, void **target)
{
	const struct field *field = field_find(&machine_fields, option->name, option->length);

	*target = &options->config;
	if (field)
		return field;
	*target = options;
	return field_find(&run_fields, option->name, option->length);
}

/* The next option: 1, or 0 behind the last. */
static int next(
	struct words *words, struct run_options *options, struct option *option, struct error *err)
{
	const struct device_type_info *device;
	const char *arg;
	void *target;

	if (words->at == words->count)
		return 0;
	arg = words->args[words->at++];
	if (strcmp(arg, "-h") == 0)
		arg = "--help";
	if (strncmp(arg, "--", 2) != 0)
		return error_set(err, EINVAL, "%s: unknown option; see duet run --help", arg);
	*option = (struct option){.name = arg + 2, .length = strcspn(arg + 2, "=")};
	if (is_flag(option) && !arg[2 + option->length])
		return 1;
	if (is_flag(option))
		return error_set(err, EINVAL, "%s: takes no value; write --%.*s", arg,
			(int)option->length, option->name);
	device = device_of(option);
	if (!device && !field_of(options, option, &target))
		return error_set(err, EINVAL, "%s: unknown option; see duet run --help", arg);
	if (arg[2 + option->length])
		option->value = arg + 2 + option->length + 1;
	else if ((option->bare = may_be_bare(words, device)))
		option->value = "";
	else if (words->at == words->count)
		return error_set(err, EINVAL, "%s: needs a value; see duet run --help", arg);
	else
		option->value = words->args[words->at++];
	return 1;
}

/* What is said of all others comes after this, wherever it stands. */
static int read_config(
	struct run_options *options, unsigned count, const char *const *args, struct error *err)
{
	struct words words = {args, count, 0};
	struct option option = {0};
	int ret;

	while ((ret = next(&words, options, &option, err)) > 0) {
		if (is(&option, "help")) {
			options->help = true;
			return 0;
		}
		options->print_config |= is(&option, "print-config");
		if (!is(&option, "config") || !option.value || !*option.value)
			continue;
		ret = machine_config_read_file(&options->config, option.value, err);
		if (ret < 0)
			return ret;
	}
	return ret;
}

/* One of this file's, not of a machine's. */
static bool is_own(const struct field *field)
{
	return field >= run_table && field < run_table + ARRAY_SIZE(run_table);
}

/* Whether @field was already given; it is from now on. */
static bool given(uint64_t *seen, const struct field *field)
{
	unsigned bit = is_own(field) ? 63 - (unsigned)(field - run_table)
				     : (unsigned)(field - machine_fields.fields);
	bool before = *seen >> bit & 1;

	*seen |= 1ULL << bit;
	return before;
}

static int set(
	struct run_options *options, const struct option *option, uint64_t *seen, struct error *err)
{
	const struct field *field;
	char what[512];
	void *target;

	if (!option->value)
		return 0; /* a flag */
	field = field_of(options, option, &target);
	if (!*option->value && !option->bare && !(field && field->may_be_empty))
		return error_set(err, EINVAL, "--%.*s: the value is empty; see duet run --help",
			(int)option->length, option->name);
	if (!field)
		return suboptions_add(
			&options->config, option->name, option->length, option->value, err);
	if (given(seen, field))
		return error_set(err, EINVAL, "--%s: given twice; give it once", field->name);
	if (!is_own(field))
		options->config.lines[field - machine_fields.fields] = MACHINE_LINE_OPTION;
	snprintf(what, sizeof(what), "--%s %.400s", field->name, option->value);
	return field_from_text(field, target, option->value, what, err);
}

/* Of a machine that is restored nothing can be chosen any more. */
static int check_restore(const struct run_options *options, uint64_t seen, struct error *err)
{
	const struct machine_config *config = &options->config;

	if (options->from || config->device_count)
		return error_set(err, EINVAL,
			"--restore %s: the machine is as it was; take %s away", options->restore,
			options->from ? "--config" : "the options of devices");
	for (unsigned i = 0; i < machine_fields.count; i++)
		if (seen >> i & 1 && strcmp(machine_fields.fields[i].name, "stats") != 0)
			return error_set(err, EINVAL,
				"--restore %s: the machine is as it was; take --%s away",
				options->restore, machine_fields.fields[i].name);
	return 0;
}

static int check(struct run_options *options, uint64_t seen, struct error *err)
{
	if (options->track_dirty && !options->api_sock)
		return error_set(err, EINVAL,
			"--track-dirty on: snapshots are taken through --api-sock; add it");
	if (options->restore)
		return check_restore(options, seen, err);
	if (options->restore_taps)
		return error_set(err, EINVAL, "--restore-taps: goes with --restore alone");
	return machine_config_complete(&options->config, err);
}

/* What comes with the machine is not to be said here: it would not hold. */
static int check_comes_along(const struct run_options *options, struct error *err)
{
	static const char *const places[] = {"kernel", "initrd", "cache", "passt", "stats"};
	int ret = 0;

	for (unsigned i = 0; i < machine_fields.count; i++) {
		const char *name = machine_fields.fields[i].name;
		bool place = false;

		for (unsigned n = 0; n < ARRAY_SIZE(places); n++)
			place |= strcmp(places[n], name) == 0;
		if (!place && options->config.lines[i] == MACHINE_LINE_OPTION)
			return error_set(err, EINVAL,
				"--%s: comes with the machine (--incoming); leave it out", name);
	}
	for (unsigned i = 0; ret == 0 && i < options->config.device_count; i++)
		ret = machine_config_check_place(&options->config.devices[i], err);
	return ret;
}

static int check_incoming(const struct run_options *options, struct error *err)
{
	const struct mtls_files files = {options->cert, options->key, options->ca};
	struct address address;
	int ret;

	if (options->restore || options->restore_taps || options->track_dirty)
		return error_set(err, EINVAL,
			"--restore, --restore-taps, --track-dirty: not with --incoming, where the "
			"machine comes as it is; leave them out");
	if (options->print_config)
		return error_set(err, EINVAL,
			"--print-config: with --incoming there is nothing to print yet; leave one "
			"out");
	if (options->from)
		return error_set(err, EINVAL,
			"--config %s: with --incoming the machine comes with its configuration; "
			"leave it out, and say where its disks and networks are here by --disk, "
			"--net and --vsock",
			options->from);
	ret = check_comes_along(options, err);
	if (ret == 0)
		ret = address_parse(&address, options->incoming, "--incoming", err);
	return ret < 0 ? ret
		       : migration_check_address(
				 &address, &files, options->plain, "--incoming", err);
}

static int check_tls(const struct run_options *options, struct error *err)
{
	if (options->cert || options->key || options->ca || options->plain)
		return error_set(err, EINVAL,
			"--cert, --key, --ca, --plain: are for --incoming; leave them out (who "
			"sends "
			"a machine names them to duet ctl SOCK migrate)");
	return 0;
}

static int check_sandbox(const struct run_options *options, struct error *err)
{
	const struct confine confine = {
		.choice = options->sandbox, .allow = options->allow, .user = options->user};

	return confine_check(&confine, err);
}

int run_options_parse(
	struct run_options *options, unsigned count, const char *const *args, struct error *err)
{
	struct words words = {args, count, 0};
	struct option option = {0};
	uint64_t seen = 0;
	int ret;

	*options = (struct run_options){0};
	machine_config_init(&options->config);
	fields_init(&run_fields, options);
	ret = read_config(options, count, args, err);
	if (ret < 0 || options->help)
		return ret;
	while ((ret = next(&words, options, &option, err)) > 0) {
		ret = set(options, &option, &seen, err);
		if (ret < 0)
			return ret;
	}
	if (ret < 0)
		return ret;
	ret = check_sandbox(options, err);
	if (ret == 0 && options->incoming)
		return check_incoming(options, err);
	if (ret == 0)
		ret = check_tls(options, err);
	return ret < 0 ? ret : check(options, seen, err);
}

void run_options_free(struct run_options *options)
{
	machine_config_free(&options->config);
	fields_free(&run_fields, options);
}
