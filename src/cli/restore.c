/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/restore.h"

#include "base/cleanup.h"
#include "snapshot/restore.h"

#include <errno.h>
#include <string.h>

/* "net0=tap7" */
static int override_one(struct machine_config *config, char *item, struct error *err)
{
	char *equals = strchr(item, '=');

	if (!equals || equals == item || !equals[1])
		return error_set(err, EINVAL, "%s: write ID=IFNAME, as net0=tap7", item);
	*equals = 0;
	return snapshot_override_net(config, item, equals + 1, err);
}

static int override_taps(struct run_options *options, struct error *err)
{
	_cleanup_free_ char *text = strdup(options->restore_taps);
	char *rest = text, *item;

	if (!text)
		return error_errno(err, ENOMEM, "--restore-taps");
	while ((item = strsep(&rest, ",")))
		if (override_one(&options->config, item, err) < 0)
			return error_prefix(err, "--restore-taps: ");
	return 0;
}

/* What stands on the command line beside it. */
static int load_config(
	const struct snapshot *snapshot, struct run_options *options, struct error *err)
{
	char *stats = options->config.stats;
	int ret;

	options->config.stats = NULL;
	machine_config_free(&options->config);
	ret = snapshot_config(snapshot, &options->config, err);
	if (ret < 0) {
		free(stats);
		return ret;
	}
	options->config.stats = stats;
	return options->restore_taps ? override_taps(options, err) : 0;
}

int restore_open(struct snapshot *snapshot, struct run_options *options, struct error *err)
{
	const struct snapshot_place place = {.directory = options->restore};
	int ret = snapshot_open(snapshot, &place, true, err);

	return ret < 0 ? error_prefix(err, "--restore: ") : load_config(snapshot, options, err);
}

int restore_machine(struct session *session, const struct machine_config *config,
	const struct snapshot *snapshot, struct error *err)
{
	int ret = session_machine(session, config, err);

	snapshot_tell_faults();
	return ret < 0 ? ret : snapshot_restore(snapshot, session->machine, err);
}
