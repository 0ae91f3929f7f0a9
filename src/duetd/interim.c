/* SPDX-License-Identifier: Apache-2.0 */
/* Policies that leave everything as it is, until there are others. */
#include "base/checked.h"
#include "base/log.h"
#include "duetd/commands.h"
#include "duetd/policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[MECHANISMS] = {"memory", "cpu", "numa"};

static void decide_nothing(const struct view *view, struct plan *plan)
{
}

static const struct policy off[MECHANISMS] = {
	{"off", MECHANISM_MEMORY, "Everything stays as it is.", decide_nothing},
	{"off", MECHANISM_CPU, "Everything stays as it is.", decide_nothing},
	{"off", MECHANISM_NUMA, "Everything stays as it is.", decide_nothing},
};
static const struct policy *const all[MECHANISMS][2] = {
	{&off[MECHANISM_MEMORY]}, {&off[MECHANISM_CPU]}, {&off[MECHANISM_NUMA]}};

const struct policy *const *policies_of(enum mechanism mechanism)
{
	return all[mechanism];
}

const struct policy *policy_by_name(enum mechanism mechanism, const char *name, struct error *err)
{
	if (strcmp(name, "off") == 0)
		return &off[mechanism];
	error_set(err, ENOENT, "%s: no such policy of %s; there is off", name, names[mechanism]);
	return NULL;
}

const char *mechanism_name(enum mechanism mechanism)
{
	return mechanism < MECHANISMS ? names[mechanism] : "";
}

void reason_words(enum reason reason, const struct view *view, const struct plan *plan, unsigned vm,
	char *words, size_t room)
{
	snprintf(words, room, "is left as it is: the policy is off");
}

int command_simulate(unsigned count, const char *const *args)
{
	log_error("simulate: this build has no policies to compare");
	return 1;
}
