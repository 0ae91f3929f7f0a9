/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/confine.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/thread.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ALLOW_MAX 16 /* words of --allow */
#define PATHS_MAX (5 + MACHINE_DEVICES_MAX + ALLOW_MAX)

/* What is opened, made or removed later on. */
struct paths {
	struct sandbox_path list[PATHS_MAX];
	char *names[PATHS_MAX];
	unsigned count;
	bool failed; /* no memory */
};

/* @length: of @path, what counts. */
static void add_part(struct paths *paths, const char *path, size_t length, unsigned access)
{
	char *name = strndup(path, length);

	paths->failed |= !name;
	if (!name)
		return;
	paths->names[paths->count] = name;
	paths->list[paths->count++] = (struct sandbox_path){.path = name, .access = access};
}

static void add(struct paths *paths, const char *path, unsigned access)
{
	add_part(paths, path, strlen(path), access);
}

static void forget(struct paths *paths)
{
	for (unsigned i = 0; i < paths->count; i++)
		free(paths->names[i]);
}

/* The directory that the file is in, or will be. */
static void add_directory(struct paths *paths, const char *file, unsigned access)
{
	const char *slash = strrchr(file, '/');

	if (slash)
		add_part(paths, file, (size_t)(slash - file) + 1, access);
	else
		add(paths, ".", access);
}

/* A file is made beside it and takes its place; a FIFO or a device is written to (stats_file.c). */
static void add_stats(struct paths *paths, const char *path)
{
	struct stat status;

	if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode))
		add(paths, path, SANDBOX_WRITE);
	else
		add_directory(paths, path, SANDBOX_MAKE);
}

/* The next word of a list by commas; its length, 0: there is none. */
static size_t next_word(const char **at)
{
	*at += strspn(*at, ",");
	return strcspn(*at, ",");
}

static bool is_tcp(const char *word, size_t length)
{
	return length == 3 && strncmp(word, "tcp", 3) == 0;
}

bool confine_calls(const struct confine *confine)
{
	const char *at = confine->allow ? confine->allow : "";
	size_t length;

	for (; (length = next_word(&at)); at += length)
		if (is_tcp(at, length))
			return true;
	return confine->choice == CONFINE_OFF;
}

static int check_allowed(const char *word, size_t length, struct error *err)
{
	_cleanup_free_ char *name = strndup(word, length);
	struct stat status;

	if (!name)
		return error_errno(err, ENOMEM, "--allow");
	if (is_tcp(word, length) || (stat(name, &status) == 0 && S_ISDIR(status.st_mode)))
		return 0;
	return error_set(err, EINVAL,
		"--allow %s: is neither a directory nor tcp; make it before the machine starts",
		name);
}

static int check_allow(const char *allow, struct error *err)
{
	unsigned count = 0;
	size_t length;
	int ret = 0;

	for (; ret == 0 && (length = next_word(&allow)); allow += length)
		ret = ++count > ALLOW_MAX
			      ? error_set(err, EINVAL, "--allow: %u words at most", ALLOW_MAX)
			      : check_allowed(allow, length, err);
	return ret;
}

static void add_allowed(struct paths *paths, const char *allow)
{
	size_t length;

	for (; (length = next_word(&allow)); allow += length)
		if (!is_tcp(allow, length))
			add_part(paths, allow, length, SANDBOX_KEEP);
}

static void collect(
	struct paths *paths, const struct confine *confine, const struct machine_config *config)
{
	const struct device_config *device;

	if (config->stats)
		add_stats(paths, config->stats);
	/* A guest that resets has its kernel loaded again. */
	if (config->cache && strcmp(config->cache, "off") != 0)
		add(paths, config->cache, SANDBOX_READ | SANDBOX_MAKE);
	/* What clients of the API name later. */
	if (confine->allow)
		add_allowed(paths, confine->allow);
	/* Sockets go when the machine does. */
	if (confine->api_sock)
		add_directory(paths, confine->api_sock, SANDBOX_REMOVE);
	if (confine->incoming)
		add_directory(paths, confine->incoming, SANDBOX_REMOVE);
	for (unsigned i = 0; (device = machine_config_device(config, DEVICE_VSOCK, i)); i++)
		add_directory(paths, device->vsock.path, SANDBOX_REMOVE);
}

static bool has_yield(const struct machine_config *config)
{
	const struct device_config *coop = machine_config_device(config, DEVICE_COOP, 0);

	return coop && coop->coop.yield;
}

/* Digits only: a static program has no names of users. */
static bool number(const char **at, unsigned *value)
{
	uint64_t found = 0;
	const char *from = *at;

	while (**at >= '0' && **at <= '9' && found < UINT32_MAX)
		found = found * 10 + (uint64_t)(*(*at)++ - '0');
	*value = (unsigned)found;
	return *at > from && found < UINT32_MAX;
}

static bool parse_user(const char *text, unsigned *user, unsigned *group)
{
	if (!number(&text, user))
		return false;
	*group = *user;
	return !*text || (*text++ == ':' && number(&text, group) && !*text);
}

int confine_check(const struct confine *confine, struct error *err)
{
	unsigned user, group;
	int ret = confine->allow ? check_allow(confine->allow, err) : 0;

	if (ret < 0 || !confine->user)
		return ret;
	if (confine->choice == CONFINE_OFF)
		return error_set(
			err, EINVAL, "--user: is a part of the sandbox; leave out --sandbox off");
	if (!parse_user(confine->user, &user, &group))
		return error_set(err, EINVAL,
			"--user %.40s: is UID or UID:GID, in numbers; see `id NAME`",
			confine->user);
	return 0;
}

static int enter(const struct confine *confine, const struct machine_config *config,
	const struct paths *paths, struct error *err)
{
	struct sandbox_options options = {.required = confine->choice == CONFINE_ON,
		.files = confine->files,
		.calls = confine_calls(confine),
		.paths = paths->list,
		.path_count = paths->count,
		.schedules = has_yield(config),
		.counts = config->pmu == PMU_PV};

	options.other_user =
		confine->user && parse_user(confine->user, &options.user, &options.group);
	return paths->failed ? error_errno(err, ENOMEM, "--sandbox") : sandbox_enter(&options, err);
}

int confine_process(struct confine *confine, const struct machine_config *config, struct error *err)
{
	struct paths paths = {.count = 0};
	int ret;

	if (confine->choice == CONFINE_OFF || confine->done)
		return 0;
	collect(&paths, confine, config);
	ret = enter(confine, config, &paths, err);
	confine->done = ret == 0;
	forget(&paths);
	return ret;
}

void confine_main_thread(const struct confine *confine)
{
	if (confine->done)
		thread_confine(confine_calls(confine) ? THREAD_CALLER : THREAD_MAIN);
}
