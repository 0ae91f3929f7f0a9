/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/footprint.h"
#include "cli/stats_file.h"
#include "machine/machine.h"
#include "memory/memory.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

static json_t *memory_stats(int maps, const struct memory *memory)
{
	struct footprint footprint = {0};
	int ret = footprint_read(maps, memory, &footprint);
	json_t *object = json_pack("{s:I}", "guest_ram", (json_int_t)memory_size(memory));

	if (ret == 0) {
		json_object_set_new(
			object, "guest_ram_pss", json_integer((json_int_t)footprint.guest_pss));
		json_object_set_new(
			object, "outside_pss", json_integer((json_int_t)footprint.outside_pss));
		json_object_set_new(
			object, "outside_rss", json_integer((json_int_t)footprint.outside_rss));
	}
	return object;
}

/* The process's memory first, before there is all the rest of this to count. */
static json_t *all_stats(struct machine *machine, int maps)
{
	json_t *memory = memory_stats(maps, machine_memory(machine));
	json_t *stats = machine_stats(machine);

	json_object_set_new(stats, "memory", memory);
	json_object_set_new(stats, "log", json_pack("{s:I}", "dropped", (json_int_t)log_dropped()));
	return stats;
}

int report_write(struct machine *machine, int maps, const char *path, struct error *err)
{
	json_t *stats = all_stats(machine, maps);
	_cleanup_free_ char *text = json_dumps(stats, JSON_INDENT(2));

	json_decref(stats);
	if (!text)
		return error_errno(err, ENOMEM, "--stats %s", path);
	return stats_file_write(path, text, strlen(text), err);
}
