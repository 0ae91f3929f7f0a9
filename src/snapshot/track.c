/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/track.h"

#include "base/log.h"
#include "machine/machine.h"
#include "snapshot/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t words_of(struct machine *machine)
{
	return machine_memory(machine)->pages / WORD_PAGES;
}

int snapshot_track_begin(struct snapshot_track *track, struct machine *machine,
	const struct snapshot_id *id, struct error *err)
{
	int ret;

	if (!track->wanted)
		return 0;
	/* There is one log, and who takes from it takes it from the others. */
	if (memory_is_logged(machine_memory(machine)))
		return error_set(err, EBUSY,
			"snapshot: writes to memory are logged for a migration already; the next "
			"one is full");
	track->changed = calloc(words_of(machine), sizeof(*track->changed));
	if (!track->changed)
		return error_errno(err, ENOMEM, "snapshot: table of changes");
	ret = machine_log_start(machine, err);
	if (ret < 0) {
		free(track->changed);
		track->changed = NULL;
		return ret;
	}
	track->last = *id;
	return 0;
}

static int collect_region(struct snapshot_track *track, struct machine *machine, unsigned number,
	uint64_t *bits, struct error *err)
{
	const struct memory_region *region = memory_region(machine_memory(machine), number);
	const uint64_t words = region->size / MEMORY_PAGE / WORD_PAGES;
	int ret = machine_log_take(machine, number, bits, err);

	for (uint64_t i = 0; ret == 0 && i < words; i++)
		track->changed[region->first_page / WORD_PAGES + i] |= bits[i];
	return ret;
}

int snapshot_track_collect(struct snapshot_track *track, struct machine *machine, struct error *err)
{
	uint64_t *bits;
	int ret = 0;

	if (!track->changed)
		return 0;
	bits = calloc(words_of(machine), sizeof(*bits));
	if (!bits)
		return error_errno(err, ENOMEM, "snapshot: table of changes");
	for (unsigned i = 0; ret == 0 && memory_region(machine_memory(machine), i); i++)
		ret = collect_region(track, machine, i, bits, err);
	free(bits);
	return ret;
}

void snapshot_track_done(
	struct snapshot_track *track, struct machine *machine, const struct snapshot_id *id)
{
	struct error err = {0};

	if (track->changed) {
		memset(track->changed, 0, words_of(machine) * sizeof(*track->changed));
		track->last = *id;
	} else if (snapshot_track_begin(track, machine, id, &err) < 0) {
		log_warning("%s; the next snapshot will have all of memory", err.text);
	}
}

void snapshot_track_end(struct snapshot_track *track)
{
	free(track->changed);
	track->changed = NULL;
	track->last = (struct snapshot_id){{0}};
}
