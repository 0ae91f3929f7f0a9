/* SPDX-License-Identifier: Apache-2.0 */
/* `duet check`: whether files are configurations that would start, a line for each. */
#include "base/log.h"
#include "cli/commands.h"
#include "machine/config.h"

#include <stdio.h>
#include <string.h>

#define OPTION "--config "

static const char help[] =
	"Usage: duet check FILE...\n"
	"Says of each configuration (duet run --config FILE) whether it is right: a line for "
	"each,\n"
	"FILE: ok, or what is wrong, with the line and the field. The files that it names "
	"(kernel,\n"
	"disks) are not opened.\n"
	"\n"
	"Exit status: 0 all are right; 1 one at least is not; 2 wrong command line.\n"
	"\n"
	"Example: duet check /etc/duet/*.json\n";

/* What a file is called and what stands in it may hold anything: a line for each is promised. */
static void print(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

static bool check(const char *path)
{
	struct machine_config config;
	struct error err = {0};
	const char *text = err.text;
	int ret;

	machine_config_init(&config);
	ret = machine_config_read_file(&config, path, &err);
	if (ret == 0)
		ret = machine_config_complete(&config, &err);
	machine_config_free(&config);
	/* Of a message that names the option too, which nobody gave here, that is left out. */
	if (strncmp(text, OPTION, strlen(OPTION)) == 0)
		text += strlen(OPTION);
	if (ret == 0 || strncmp(text, path, strlen(path)) != 0) {
		print(path);
		print(": ");
	}
	print(ret == 0 ? "ok" : text);
	putchar('\n');
	return ret == 0;
}

int command_check(unsigned count, const char *const *args)
{
	bool right = true;

	if (count && (strcmp(args[0], "--help") == 0 || strcmp(args[0], "-h") == 0)) {
		fputs(help, stdout);
		return 0;
	}
	if (count && args[0][0] == '-') {
		log_error("check: %s: it takes configurations alone, as duet check "
			  "/etc/duet/web.json",
			args[0]);
		return 2;
	}
	if (!count) {
		log_error("check: name the configurations, as duet check /etc/duet/web.json");
		return 2;
	}
	for (unsigned i = 0; i < count; i++)
		right &= check(args[i]);
	return right ? 0 : 1;
}
