/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox.h"

#include "base/log.h"
#include "sandbox/private.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* What this host has not: an error where it is required. */
static int lack(const struct sandbox_options *options, struct error *err, const char *what)
{
	if (options->required)
		return error_set(
			err, ENOTSUP, "--sandbox on: %s; or leave it to --sandbox try", what);
	log_info("sandbox: %s", what);
	return 0;
}

/* A thread that would run without its limits does not run. */
static void confine(enum thread_kind kind)
{
	const bool keeps = kind == THREAD_MAIN || kind == THREAD_CALLER || kind == THREAD_DISCARD;
	int ret = keeps ? 0 : privileges_drop_main();

	violation_of(kind);
	if (ret == 0)
		ret = filter_load(kind);
	if (ret == 0)
		return;
	log_error("sandbox: a thread cannot be confined: %s; try --sandbox off", strerror(-ret));
	_exit(1);
}

static int enter_files(const struct sandbox_options *options, int version, struct error *err)
{
	if (version > 0)
		return landlock_enter(version, options, err);
	return lack(options, err,
		"this kernel has no Landlock, files are not limited; boot one that has it, with "
		"landlock among lsm=");
}

/* Landlock is cheaper where it does the same: a network's namespace takes memory of the kernel's.
 */
static int enter_network(const struct sandbox_options *options, int version, struct error *err)
{
	const bool stays = version >= LANDLOCK_SCOPES || options->calls;
	const int ret = stays ? 0 : privileges_leave_network();

	return ret == 0 ? 0
			: lack(options, err,
				  "no network namespace may be made, abstract unix sockets of "
				  "others "
				  "are in reach; run as root, allow user namespaces, or use Linux "
				  "6.12");
}

static int enter_filters(const struct sandbox_options *options, struct error *err)
{
	int ret;

	if (!filter_is_there())
		return lack(options, err,
			"this kernel has no seccomp filters, system calls are not limited; use one "
			"with CONFIG_SECCOMP_FILTER");
	ret = violation_watch();
	if (ret < 0)
		return error_errno(err, -ret, "--sandbox: SIGSYS");
	thread_confine_by(confine);
	return 0;
}

/* Its memory is the guest's: no dump of it, and no look at it by others of the same user. */
static int enter_process(const struct sandbox_options *options, struct error *err)
{
	const struct rlimit none = {0, 0};
	int ret = privileges_become(options);

	if (ret < 0)
		return error_errno(err, -ret, "--user %u:%u", options->user, options->group);
	ret = privileges_drop(options);
	if (ret < 0)
		return error_errno(err, -ret, "--sandbox: capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
		setrlimit(RLIMIT_CORE, &none) < 0)
		return error_errno(err, errno, "--sandbox: new privileges and dumps");
	return 0;
}

int sandbox_enter(const struct sandbox_options *options, struct error *err)
{
	const int version = landlock_version();
	int ret = enter_network(options, version, err);

	if (ret == 0)
		ret = enter_process(options, err);
	if (ret == 0)
		ret = enter_files(options, version, err);
	return ret == 0 ? enter_filters(options, err) : ret;
}
