/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "machine/machine.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const int exit_statuses[] = {
	[MACHINE_POWERED_OFF] = 0,
	[MACHINE_RESET] = 0,
	[MACHINE_PANICKED] = 3,
	[MACHINE_TRIPLE_FAULT] = 3,
	[MACHINE_KILLED] = 4,
	[MACHINE_FAILED] = 1,
};

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

/* They arrive through the main loop; threads inherit the mask. */
static void block_signals(void)
{
	sigset_t set;

	machine_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Errors of the write that met them, not the end of the machine. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static int run_machine(const struct machine_config *config, enum machine_end *end)
{
	struct machine *machine = NULL;
	struct error err = {0};
	int ret = 0;

	if (config->stats)
		ret = machine_check_stats_path(config->stats, &err);
	if (ret == 0)
		ret = machine_new(&machine, config, &err);
	if (ret == 0)
		ret = machine_run(machine, end, &err);
	if (err.code)
		log_error("%s", err.text);
	if (ret == 0 && config->stats) {
		ret = machine_write_stats(machine, &err);
		if (ret < 0)
			log_error("%s", err.text);
	}
	machine_free(machine);
	return ret;
}

int command_run(unsigned count, const char *const *args)
{
	_cleanup_free_ char *cache = default_cache();
	enum machine_end end = MACHINE_FAILED;
	struct run_options options;
	struct error err = {0};
	int ret;

	/* One heap for all threads: each arena would cost memory in every VM. */
	mallopt(M_ARENA_MAX, 1);
	ret = run_options_parse(&options, count, args, cache, &err);
	if (ret < 0) {
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
	block_signals();
	ret = run_machine(&options.config, &end);
	run_options_free(&options);
	if (ret < 0)
		return 1;
	if (end == MACHINE_RESET && options.config.restart)
		return COMMAND_RESTART;
	return exit_statuses[end];
}
