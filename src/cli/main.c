/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/log.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: duet COMMAND [OPTION]...\n"
	"A virtual machine monitor for Linux KVM whose guests and host play together.\n"
	"\n"
	"  run      run a virtual machine (duet run --help)\n"
	"  doctor   what this host can do, and what to do about what it cannot\n"
	"  --version, --help\n"
	"\n"
	"Example: duet run --kernel vmlinuz --initrd initrd.img --net user\n";

static const struct {
	const char *name;
	int (*run)(unsigned count, const char *const *args);
} commands[] = {
	{"run", command_run},
	{"doctor", command_doctor},
};

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(name, "--version") == 0) {
		puts("duet " DUET_VERSION);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(
				(unsigned)argc - 2, (const char *const *)(void *)(argv + 2));
	}
	if (*name)
		log_error("%s: unknown command; it is run or doctor, see duet --help", name);
	else
		fputs(usage, stderr);
	return 2;
}
