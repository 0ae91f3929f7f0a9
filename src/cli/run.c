/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/stats_file.h"

#include <malloc.h>
#include <stdio.h>

/* Unless it was said: ~/.cache/duet/kernels, or none when there is no home. */
static void choose_cache(struct machine_config *config)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int ret = 0;

	if (config->cache)
		return;
	if (cache && *cache == '/')
		ret = asprintf(&config->cache, "%s/duet/kernels", cache);
	else if (home && *home == '/')
		ret = asprintf(&config->cache, "%s/.cache/duet/kernels", home);
	if (ret < 0)
		config->cache = NULL;
}

static int print_config(const struct machine_config *config)
{
	_cleanup_free_ char *text = NULL;
	struct error err = {0};

	if (machine_config_write(config, &text, &err) < 0) {
		log_error("--print-config: %s", err.text);
		return 2;
	}
	puts(text);
	return 0;
}

static int print_help(void)
{
	_cleanup_free_ char *text = run_help();

	if (text)
		fputs(text, stdout);
	return text ? 0 : 1;
}

/* Tells what there is to tell; the exit status. */
static int run_session(struct session *session, const struct machine_config *config)
{
	struct error err = {0};
	int status = 1, ret = 0;

	if (config->stats)
		ret = stats_file_check(config->stats, &err);
	if (ret == 0)
		ret = session_open(session, &err);
	if (ret == 0)
		ret = session_machine(session, config, &err);
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

static int run(struct run_options *options)
{
	struct session session = {.signals.fd = -1};
	int status;

	if (options->help)
		return print_help();
	if (options->print_config)
		return print_config(&options->config);
	log_set_level(options->log);
	log_set_patience(SESSION_LOG_PATIENCE_MS);
	choose_cache(&options->config);
	signals_block();
	status = run_session(&session, &options->config);
	session_close(&session);
	return status;
}

int command_run(unsigned count, const char *const *args)
{
	struct run_options options;
	struct error err = {0};
	int status = 2;

	/* One heap for all threads: each arena would cost memory in every VM. */
	mallopt(M_ARENA_MAX, 1);
	if (run_options_parse(&options, count, args, &err) == 0)
		status = run(&options);
	else
		log_error("%s", err.text);
	run_options_free(&options);
	return status;
}
