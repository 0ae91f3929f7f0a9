/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/session.h"

#include <malloc.h>
#include <stdio.h>

/* ~/.cache/duet/kernels, or nothing when there is no home. */
static char *default_cache(void)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	char *path = NULL;
	int ret = -1;

	if (cache && *cache == '/')
		ret = asprintf(&path, "%s/duet/kernels", cache);
	else if (home && *home == '/')
		ret = asprintf(&path, "%s/.cache/duet/kernels", home);
	return ret < 0 ? NULL : path;
}

/* Tells what there is to tell; the exit status. */
static int run_session(struct session *session, const struct machine_config *config)
{
	struct error err = {0};
	int status = 1, ret = 0;

	if (config->stats)
		ret = report_check(config->stats, &err);
	if (ret == 0)
		ret = session_open(session, config, &err);
	if (ret == 0)
		ret = machine_build(session->machine, &err);
	if (ret == 0)
		ret = session_run(session, &err);
	if (ret == 0)
		status = session_status(session, &err);
	if (err.code)
		log_error("%s", err.text);
	if (ret == 0 && config->stats && report_write(session->machine, config->stats, &err) < 0) {
		log_error("%s", err.text);
		status = 1;
	}
	return status;
}

int command_run(unsigned count, const char *const *args)
{
	_cleanup_free_ char *cache = default_cache();
	struct session session = {.signals.fd = -1};
	struct run_options options;
	struct error err = {0};
	int status;

	/* One heap for all threads: each arena would cost memory in every VM. */
	mallopt(M_ARENA_MAX, 1);
	if (run_options_parse(&options, count, args, cache, &err) < 0) {
		log_error("%s", err.text);
		run_options_free(&options);
		return 2;
	}
	if (options.help) {
		fputs(run_help, stdout);
		run_options_free(&options);
		return 0;
	}
	log_set_level(options.log);
	signals_block();
	status = run_session(&session, &options.config);
	session_close(&session);
	run_options_free(&options);
	return status;
}
