/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/settings.h"

#include "base/checked.h"
#include "oci/text.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of the paths that match, the one of the highest version. */
static char *newest(const char *pattern)
{
	glob_t found;
	const char *best = NULL;
	char *copy = NULL;

	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			if (!best || strverscmp(best, found.gl_pathv[i]) < 0)
				best = found.gl_pathv[i];
	if (best)
		copy = strdup(best);
	globfree(&found);
	return copy;
}

static int find_kernel(struct settings *settings, struct error *err)
{
	if (!settings->kernel)
		settings->kernel = getenv("DUET_OCI_KERNEL");
	if (!settings->kernel)
		settings->kernel = newest("/boot/vmlinuz-*-cloud-amd64");
	if (!settings->kernel)
		settings->kernel = newest("/boot/vmlinuz-*-amd64");
	if (!settings->kernel)
		return error_set(err, ENOENT,
			"there is no kernel for the guest in /boot; install "
			"linux-image-cloud-amd64, "
			"or name one by --kernel or DUET_OCI_KERNEL");
	return 0;
}

static int find_modules(struct settings *settings, struct error *err)
{
	const char *release = strrchr(settings->kernel, '/');

	if (!settings->modules)
		settings->modules = getenv("DUET_OCI_MODULES");
	if (settings->modules)
		return 0;
	release = release ? release + 1 : settings->kernel;
	if (strncmp(release, "vmlinuz-", 8) != 0)
		return error_set(err, EINVAL,
			"%s: its name does not say which modules are its own; name their folder by "
			"DUET_OCI_MODULES",
			settings->kernel);
	settings->modules = text_format("/lib/modules/%s", release + 8);
	return settings->modules ? 0 : error_set(err, ENOMEM, "there is no memory");
}

/* The folder that this program is in; false: it is not to be known. */
static bool find_own_folder(char *path, size_t room)
{
	const ssize_t length = readlink("/proc/self/exe", path, room - 1);
	char *slash;

	path[length < 0 ? 0 : length] = 0;
	slash = strrchr(path, '/');
	if (slash)
		*slash = 0;
	return slash;
}

/* Beside this program, as it was built, or where it is installed, whatever the prefix. */
static const char *find_program(const char *name, const char *variable, const char *usual)
{
	static const char *const places[] = {"", "/../libexec/duet"};
	const char *said = getenv(variable);
	char own[PATH_MAX], *path;

	if (said || !find_own_folder(own, sizeof(own)))
		return said ? said : usual;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		path = text_format("%s%s/%s", own, places[i], name);
		if (path && access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return usual;
}

int settings_complete(struct settings *settings, struct error *err)
{
	if (!settings->cache)
		settings->cache = getenv("DUET_OCI_CACHE");
	if (!settings->cache)
		settings->cache = SETTINGS_CACHE;
	if (!settings->duet)
		settings->duet = find_program("duet", "DUET_OCI_DUET", "/usr/bin/duet");
	if (!settings->agent)
		settings->agent = find_program(
			"duet-agent", "DUET_OCI_AGENT", "/usr/libexec/duet/duet-agent");
	return find_kernel(settings, err) ?: find_modules(settings, err);
}
