/* SPDX-License-Identifier: Apache-2.0 */
#include "duetctl/machines.h"
#include "base/checked.h"
#include "base/log.h"
#include "duetctl/ask.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Systemd's words for a unit, and ours. */
static const struct {
	const char *state, *word;
} states[] = {
	{"active", "runs"},
	{"activating", "starts"},
	{"deactivating", "ends"},
	{"inactive", "stopped"},
	{"failed", "failed"},
};

static const char *text(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

static const char *word_of(const char *state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(states); i++)
		if (strcmp(states[i].state, state) == 0)
			return states[i].word;
	return *state ? state : "-";
}

static void print_machine(const json_t *machine)
{
	const char *name = text(machine, "name"), *fault = text(machine, "fault");
	const char *result = text(machine, "result");

	printf("%-20s %-8s %-7s", name, word_of(text(machine, "state")),
		json_is_true(json_object_get(machine, "at_boot")) ? "yes" : "no");
	if (*fault)
		printf("  %s", fault);
	else if (*result)
		printf("  %s; journalctl -u duet@%s says more", result, name);
	putchar('\n');
}

int machines_list(const char *socket, unsigned count, const char *const *args)
{
	struct error err = {0};
	json_t *answer = ask(socket, "GET", "/machines", NULL, &err);
	const json_t *machines = json_object_get(answer, "machines");
	int status = 0;

	if (!answer) {
		log_error("%s", err.text);
		return 1;
	}
	if (json_array_size(machines))
		printf("%-20s %-8s %-7s\n", "machine", "state", "at boot");
	else
		puts("no machines; each is a file, /etc/duet/NAME.json, as duet run --print-config "
		     "writes it");
	for (size_t i = 0; i < json_array_size(machines); i++)
		print_machine(json_array_get(machines, i));
	if (*text(answer, "fault")) {
		log_error("%s", text(answer, "fault"));
		status = 1;
	}
	json_decref(answer);
	return status;
}

static int order(const char *socket, const char *action, const char *name)
{
	struct error err = {0};
	char path[256], body[64];
	json_t *answer;

	if (!*name || strpbrk(name, "/?% \r\n") ||
		snprintf(path, sizeof(path), "/machines/%s", name) >= (int)sizeof(path)) {
		log_error("%s %s: no name of a machine; duetctl list shows them", action, name);
		return 2;
	}
	snprintf(body, sizeof(body), "{\"action\": \"%s\"}", action);
	answer = ask(socket, "PUT", path, body, &err);
	if (!answer) {
		log_error("%s", err.text);
		return 1;
	}
	json_decref(answer);
	return 0;
}

int machines_start(const char *socket, unsigned count, const char *const *args)
{
	return order(socket, "start", args[0]);
}

int machines_stop(const char *socket, unsigned count, const char *const *args)
{
	return order(socket, "stop", args[0]);
}
