/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/api_session.h"
#include "cli/cache.h"
#include "cli/commands.h"
#include "cli/incoming.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/restore.h"
#include "cli/session.h"
#include "cli/stats_file.h"

#include <malloc.h>
#include <stdio.h>

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

static int open_api(struct api_session *api, struct session *session, struct run_options *options,
	const struct snapshot *snapshot, struct error *err)
{
	const struct api_session_options of_api = {.path = options->api_sock,
		.id = "duet",
		.body_max = HTTP_BODY_MAX,
		.config = &options->config,
		.running = true};
	int ret = options->api_sock ? api_session_open(api, session, &of_api, err) : 0;

	if (ret < 0 || !options->track_dirty)
		return ret;
	return api_track(api->api, options->restore ? &snapshot->head.id : NULL, err);
}

static void choose_sandbox(struct session *session, const struct run_options *options)
{
	session->confine = (struct confine){.choice = options->sandbox,
		.files = true,
		.allow = options->allow,
		.api_sock = options->api_sock,
		.user = options->user};
}

static int build(struct session *session, struct api_session *api, struct run_options *options,
	const struct snapshot *snapshot, struct error *err)
{
	const struct machine_config *config = &options->config;
	int ret = config->stats ? stats_file_check(config->stats, err) : 0;

	if (ret == 0)
		ret = session_open(session, err);
	if (ret < 0)
		return ret;
	choose_sandbox(session, options);
	if (options->restore)
		ret = restore_machine(session, config, snapshot, err);
	else
		ret = session_machine(session, config, err);
	if (ret == 0 && !options->restore)
		ret = machine_build(session->machine, err);
	return ret < 0 ? ret : open_api(api, session, options, snapshot, err);
}

/* The exit status of the machine that has ended; what there is to say is in @err. */
static int end_machine(
	struct session *session, const struct run_options *options, struct error *err)
{
	int status = session_status(session, err);

	if (err->code)
		log_error("%s", err->text);
	if (options->config.stats &&
		report_write(session->machine, session->maps, options->config.stats, err) < 0) {
		log_error("%s", err->text);
		return 1;
	}
	return status;
}

static int run_incoming(
	struct session *session, struct api_session *api, struct run_options *options)
{
	struct incoming *incoming = NULL;
	struct error err = {0};
	int ret = session_open(session, &err);

	choose_sandbox(session, options);
	if (ret == 0)
		ret = incoming_open(&incoming, session, api, options, &err);
	if (ret == 0)
		ret = session_run(session, &err);
	if (ret == 0)
		ret = incoming_result(incoming, &err);
	if (ret < 0)
		log_error("%s", err.text);
	ret = ret < 0 ? 1 : end_machine(session, options, &err);
	incoming_close(incoming);
	return ret;
}

/* Tells what there is to tell; the exit status. */
static int run_session(struct session *session, struct api_session *api,
	struct run_options *options, struct snapshot *snapshot)
{
	struct error err = {0};
	int ret = build(session, api, options, snapshot, &err);

	snapshot_close(snapshot);
	if (ret == 0)
		ret = session_run(session, &err);
	if (ret == 0)
		return end_machine(session, options, &err);
	log_error("%s", err.text);
	return 1;
}

static int run_with(struct run_options *options, struct snapshot *snapshot)
{
	struct session session = {.signals.fd = -1, .maps = -1};
	struct api_session api = {.log = -1, .metrics.fd = -1, .serial = -1};
	int status;

	if (options->print_config)
		return print_config(&options->config);
	log_set_level(options->log);
	log_set_patience(SESSION_LOG_PATIENCE_MS);
	cache_choose(&options->config);
	signals_block();
	status = options->incoming ? run_incoming(&session, &api, options)
				   : run_session(&session, &api, options, snapshot);
	api_session_close(&api);
	session_close(&session);
	return status;
}

static int run(struct run_options *options)
{
	struct snapshot snapshot = {.memory_fd = -1};
	struct error err = {0};
	int status = 1;

	if (options->help)
		return print_help();
	if (!options->restore || restore_open(&snapshot, options, &err) == 0)
		status = run_with(options, &snapshot);
	else
		log_error("%s", err.text);
	snapshot_close(&snapshot);
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
