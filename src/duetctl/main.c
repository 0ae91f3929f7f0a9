/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/log.h"
#include "duetctl/ask.h"
#include "duetctl/machines.h"
#include "duetctl/tables.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REFRESH_S 2
#define ROWS      24
#define TOP_HEAD  5 /* rows that are no VM's */

static const char usage[] =
	"Usage: duetctl [--socket PATH] COMMAND [ARGUMENT]...\n"
	"Asks and tells duetd, which manages the virtual machines of this host.\n"
	"\n"
	"  ps                     the VMs, and what each has\n"
	"  top                    the host and its busiest VMs, again every two seconds on a\n"
	"                         terminal\n"
	"  explain VM             why it has what it has\n"
	"  list                   the machines of /etc/duet, their units, what is wrong with them\n"
	"  start NAME, stop NAME  the machine of /etc/duet/NAME.json, by its unit duet@NAME\n"
	"  policy                 the policies, the present ones with a star, and what this\n"
	"                         host has not\n"
	"  policy MECHANISM NAME  another one from now on: policy memory pressure\n"
	"\n"
	"  --socket PATH          of duetd (default: /run/duetd.sock)\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0 done; 1 refused, or nobody listens; 2 wrong command line.\n"
	"\n"
	"Examples\n"
	"  duetctl ps\n"
	"  duetctl explain web\n"
	"  duetctl start web\n"
	"  duetctl policy cpu share\n";

static int failed(const struct error *err)
{
	log_error("%s", err->text);
	return 1;
}

static int show(const char *socket, const char *path, void (*print)(const json_t *answer))
{
	struct error err = {0};
	json_t *answer = ask(socket, "GET", path, NULL, &err);

	if (!answer)
		return failed(&err);
	print(answer);
	json_decref(answer);
	return 0;
}

static int ps(const char *socket, unsigned count, const char *const *args)
{
	return show(socket, "/vms", table_vms);
}

/* What stands in a path as it is. */
static bool is_name(const char *name)
{
	return *name && !strpbrk(name, "/?% \r\n");
}

static int explain(const char *socket, unsigned count, const char *const *args)
{
	char path[256];

	if (!is_name(args[0]) ||
		snprintf(path, sizeof(path), "/vms/%s", args[0]) >= (int)sizeof(path)) {
		log_error("explain %s: no name of a VM; duetctl ps lists them", args[0]);
		return 2;
	}
	return show(socket, path, table_vm);
}

static unsigned rows(void)
{
	struct winsize window = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) < 0 || window.ws_row <= TOP_HEAD)
		return ROWS;
	return window.ws_row;
}

static int top_once(const char *socket, bool terminal)
{
	struct error err = {0};
	json_t *host = ask(socket, "GET", "/host", NULL, &err);
	json_t *vms = host ? ask(socket, "GET", "/vms", NULL, &err) : NULL;

	if (vms) {
		/* From the upper left corner of an empty screen. */
		if (terminal)
			fputs("\033[H\033[2J", stdout);
		table_top(host, vms, terminal ? rows() - TOP_HEAD : UINT32_MAX);
		fflush(stdout);
	}
	json_decref(host);
	json_decref(vms);
	return vms ? 0 : failed(&err);
}

static int top(const char *socket, unsigned count, const char *const *args)
{
	const bool terminal = isatty(STDOUT_FILENO);
	int status = top_once(socket, terminal);

	while (terminal && status == 0) {
		sleep(REFRESH_S);
		status = top_once(socket, terminal);
	}
	return status;
}

static int policy(const char *socket, unsigned count, const char *const *args)
{
	struct error err = {0};
	char path[64], body[128];
	json_t *answer;

	if (count == 0)
		return show(socket, "/policies", table_policies);
	if (count != 2 || !is_name(args[0]) || !is_name(args[1]) || strpbrk(args[1], "\"\\")) {
		log_error("policy: name a mechanism and a policy, as memory pressure; "
			  "duetctl policy lists them");
		return 2;
	}
	snprintf(path, sizeof(path), "/policies/%s", args[0]);
	snprintf(body, sizeof(body), "{\"policy\": \"%s\"}", args[1]);
	answer = ask(socket, "PUT", path, body, &err);
	if (!answer)
		return failed(&err);
	json_decref(answer);
	return 0;
}

static const struct {
	const char *name;
	unsigned least, most; /* arguments */
	int (*run)(const char *socket, unsigned count, const char *const *args);
} commands[] = {
	{"ps", 0, 0, ps},
	{"top", 0, 0, top},
	{"explain", 1, 1, explain},
	{"list", 0, 0, machines_list},
	{"start", 1, 1, machines_start},
	{"stop", 1, 1, machines_stop},
	{"policy", 0, 2, policy},
};

static int run(const char *socket, unsigned count, const char *const *args)
{
	if (!count) {
		fputs(usage, stderr);
		return 2;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, args[0]) != 0)
			continue;
		if (count - 1 >= commands[i].least && count - 1 <= commands[i].most)
			return commands[i].run(socket, count - 1, args + 1);
		log_error("%s: wrong number of arguments; see duetctl --help", args[0]);
		return 2;
	}
	log_error(
		"%s: unknown command; see duetctl --help; --socket PATH stands before it", args[0]);
	return 2;
}

static bool is(const char *arg, const char *name, const char *letter)
{
	return strcmp(arg, name) == 0 || strcmp(arg, letter) == 0;
}

/* What was printed is worth something only where it arrived. */
static int checked(int status)
{
	int code = fflush(stdout) < 0 ? errno : 0;

	if (!code && !ferror(stdout))
		return status;
	log_error("standard output cannot be written; make room, or redirect it elsewhere");
	return 1;
}

int main(int argc, char **argv)
{
	const char *const *args = (const char *const *)(void *)argv;
	const char *socket = "/run/duetd.sock";
	unsigned first = 1, count = argc > 0 ? (unsigned)argc : 1;

	log_set_program("duetctl");
	for (unsigned i = 1; i < count; i++) {
		if (is(args[i], "--help", "-h")) {
			fputs(usage, stdout);
			return checked(0);
		}
	}
	if (count > 1 && is(args[1], "--version", "-V")) {
		puts("duetctl " DUET_VERSION);
		return checked(0);
	}
	if (count > 1 && strcmp(args[1], "--socket") == 0) {
		if (count == 2) {
			log_error("--socket: a path and a command are to follow it");
			return 2;
		}
		socket = args[2];
		first = 3;
	}
	return checked(run(socket, count - first, args + first));
}
