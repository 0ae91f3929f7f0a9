/* SPDX-License-Identifier: Apache-2.0 */
/* `duetd dashboard`. */
#include "base/checked.h"
#include "base/log.h"
#include "duetd/commands.h"
#include "duetd/dashboard.h"
#include "duetd/signals.h"

#include <stdio.h>
#include <string.h>

#define LOOP_ENTRIES 64

static const char usage[] =
	"Usage: duetd dashboard [OPTION]...\n"
	"Serves one page with the host as a picture to a browser on this host: memory by machine,\n"
	"CPU shares against use, who waits, what was decided. It prints the page's address, which\n"
	"has a secret in it, and ends with Ctrl-C. It only shows, and asks the duetd that runs.\n"
	"\n"
	"  --listen ADDRESS:PORT  of the loopback interface (default: 127.0.0.1:8478; port 0: "
	"any)\n"
	"  --socket PATH          of duetd (default: /run/duetd.sock)\n"
	"  --help\n"
	"\n"
	"Exit status: 0 ended by a signal; 1 it cannot start; 2 wrong command line.\n"
	"\n"
	"Example, from another machine\n"
	"  ssh -L 8478:127.0.0.1:8478 root@host duetd dashboard\n";

static int serve_page(const struct dashboard_options *options, struct error *err)
{
	struct signals signals = {.fd = -1};
	struct dashboard *dashboard = NULL;
	struct loop *loop;
	int ret = loop_new(&loop, LOOP_ENTRIES, err);

	if (ret < 0)
		return ret;
	ret = signals_open(&signals, loop, "the dashboard ends", err);
	if (ret == 0)
		ret = dashboard_open(&dashboard, loop, options, err);
	if (ret == 0) {
		puts(dashboard_url(dashboard));
		fflush(stdout);
		ret = signals_run(&signals, err);
	}
	dashboard_close(dashboard);
	signals_close(&signals);
	signals_settle(loop);
	loop_free(loop);
	return ret;
}

static bool read_line(struct dashboard_options *options, unsigned count, const char *const *args)
{
	for (unsigned i = 0; i < count; i += 2) {
		const bool listens = strcmp(args[i], "--listen") == 0;

		if (!listens && strcmp(args[i], "--socket") != 0) {
			log_error("dashboard %s: no such option; see duetd dashboard --help",
				args[i]);
			return false;
		}
		if (i + 1 == count || !*args[i + 1]) {
			log_error(
				"%s: a value is to follow it; see duetd dashboard --help", args[i]);
			return false;
		}
		if (listens)
			options->address = args[i + 1];
		else
			options->socket = args[i + 1];
	}
	return true;
}

int command_dashboard(unsigned count, const char *const *args)
{
	struct dashboard_options options = {
		.address = "127.0.0.1:8478", .socket = "/run/duetd.sock"};
	struct error err = {0};

	if (count && (strcmp(args[0], "--help") == 0 || strcmp(args[0], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (!read_line(&options, count, args))
		return 2;
	if (serve_page(&options, &err) == 0)
		return 0;
	log_error("%s", err.text);
	return 1;
}
