/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/log.h"
#include "cli/commands.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: duet COMMAND [OPTION]...\n"
	"A virtual machine monitor for Linux KVM whose guests and host play together.\n"
	"\n"
	"  run      run a virtual machine (duet run --help)\n"
	"  check    whether configurations are right, without running them\n"
	"  ctl      ask or change a running one through its API\n"
	"  snapshot put snapshots together, or check them\n"
	"  doctor   what this host can do, and what to do about what it cannot\n"
	"  help [COMMAND], version\n"
	"  --api-sock PATH [OPTION]...\n"
	"           a virtual machine by its API, as firecracker does (duet --api-sock --help)\n"
	"\n"
	"Example: duet run --kernel vmlinuz --initrd initrd.img --net user\n";

static const struct {
	const char *name;
	int (*run)(unsigned count, const char *const *args);
} commands[] = {
	{"run", command_run},
	{"check", command_check},
	{"ctl", command_ctl},
	{"snapshot", command_snapshot},
	{"doctor", command_doctor},
};

/* What was printed is worth something only where it arrived. */
static int checked(int status)
{
	int code = fflush(stdout) < 0 ? errno : 0;

	if (!code && !ferror(stdout))
		return status;
	log_error("standard output cannot be written%s%s; make room, or redirect it elsewhere",
		code ? ": " : "", code ? strerror(code) : "");
	return 1;
}

static bool is(const char *name, const char *option, const char *letter)
{
	return strcmp(name, option) == 0 || strcmp(name, option + 2) == 0 ||
	       strcmp(name, letter) == 0;
}

static int run_named(const char *name, unsigned count, const char *const *args)
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(count, args);
	if (*name)
		log_error("%s: unknown command; it is run, check, ctl, snapshot or doctor, see "
			  "duet --help",
			name);
	else
		fputs(usage, stderr);
	return 2;
}

static int run_command(const char *name, unsigned count, const char *const *args)
{
	static const char *const help[] = {"--help"};

	if (is(name, "--help", "-h") && count > 0)
		return run_named(args[0], 1, help);
	if (is(name, "--help", "-h")) {
		fputs(usage, stdout);
		return 0;
	}
	if (is(name, "--version", "-V")) {
		if (count) {
			log_error("version: %s: it takes nothing", args[0]);
			return 2;
		}
		puts("duet " DUET_VERSION);
		return 0;
	}
	return run_named(name, count, args);
}

/* Called as firecracker, or with its options and no command. */
static bool is_firecracker(unsigned count, const char *const *args)
{
	static const char *const first[] = {"--api-sock", "--config-file", "--no-api", "--id"};

	if (strcmp(program_invocation_short_name, "firecracker") == 0)
		return true;
	for (unsigned i = 0; count > 1 && i < ARRAY_SIZE(first); i++)
		if (strncmp(args[1], first[i], strlen(first[i])) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	unsigned count = argc > 2 ? (unsigned)argc - 2 : 0;

	if (is_firecracker((unsigned)argc, (const char *const *)(void *)argv))
		return checked(command_firecracker(
			(unsigned)argc - 1, (const char *const *)(void *)(argv + 1)));
	return checked(run_command(argc > 1 ? argv[1] : "", count,
		(const char *const *)(void *)(argv + argc - count)));
}
