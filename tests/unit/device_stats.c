/* SPDX-License-Identifier: Apache-2.0 */
#include "device_stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct finder {
	struct stats_sink sink; /* first */
	const char *group, *name;
	bool found;
	uint64_t value;
};

static void find_count(struct stats_sink *sink, const char *group, const char *name, uint64_t value)
{
	struct finder *finder = (struct finder *)sink;

	if (!group != !finder->group || (group && strcmp(group, finder->group) != 0) ||
		strcmp(name, finder->name) != 0)
		return;
	finder->found = true;
	finder->value = value;
}

static void pass_text(
	struct stats_sink *sink, const char *group, const char *name, const char *value)
{
}

static bool find(struct device *device, const char *group, const char *name, uint64_t *value)
{
	struct finder finder = {.sink = {find_count, pass_text}, .group = group, .name = name};

	device->ops->stats(device, &finder.sink);
	*value = finder.value;
	return finder.found;
}

uint64_t device_stat(struct device *device, const char *group, const char *name)
{
	uint64_t value;

	if (!find(device, group, name, &value))
		fail_msg("%s has no counter \"%s\" of \"%s\"", device->name, name,
			group ? group : "");
	return value;
}

uint64_t device_stat_or_zero(struct device *device, const char *group, const char *name)
{
	uint64_t value;

	find(device, group, name, &value);
	return value;
}
