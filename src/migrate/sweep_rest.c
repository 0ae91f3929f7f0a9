/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages go after the machine: they are wanted by the other side, and sent by whoever comes to
 * them first. */
#include "migrate/lacks.h"
#include "migrate/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* None of what is wanted is gone. */
static void share_again(struct sweep *sweep)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(sweep->memory, i)); i++)
		for (uint64_t word = 0; word < memory_words(region->size); word++)
			atomic_store(&sweep->gone[i][word], ~sweep->wanted[i][word]);
	atomic_store(&sweep->source->progress->left, sweep_wanted(sweep));
}

int sweep_share(struct sweep *sweep, struct error *err)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(sweep->memory, i)); i++) {
		const uint64_t words = memory_words(region->size);

		sweep->gone[i] = calloc(words, sizeof(*sweep->gone[i]));
		sweep->named[i] = calloc(words, sizeof(*sweep->named[i]));
		if (!sweep->gone[i] || !sweep->named[i])
			return error_errno(err, ENOMEM, "migration");
		memcpy(sweep->named[i], sweep->wanted[i], words * sizeof(*sweep->named[i]));
	}
	share_again(sweep);
	return 0;
}

bool sweep_claim(struct sweep *sweep, unsigned region, uint64_t page)
{
	const uint64_t bit = 1ULL << page % 64;

	return !sweep->gone[region] ||
	       !(atomic_fetch_or(&sweep->gone[region][page / 64], bit) & bit);
}

static bool find(const struct sweep *sweep, gpa_t gpa, unsigned *index, uint64_t *page)
{
	const struct memory_region *region = memory_region_at(sweep->memory, gpa, index);

	*page = region ? (gpa.value - region->base.value) / MEMORY_PAGE : 0;
	return region;
}

bool sweep_claim_at(struct sweep *sweep, gpa_t gpa)
{
	unsigned index;
	uint64_t page;

	return find(sweep, gpa, &index, &page) && sweep_claim(sweep, index, page);
}

bool sweep_named(const struct sweep *sweep, gpa_t gpa)
{
	unsigned index;
	uint64_t page;

	return find(sweep, gpa, &index, &page) &&
	       sweep->named[index][page / 64] & 1ULL << page % 64;
}

/* ---- said and heard ---- */

static uint64_t get(void *opaque, gpa_t gpa)
{
	const struct sweep *sweep = opaque;
	unsigned index;
	uint64_t page;

	return find(sweep, gpa, &index, &page) ? sweep->wanted[index][page / 64] : 0;
}

static void put(void *opaque, gpa_t gpa, uint64_t bits)
{
	const struct sweep *sweep = opaque;
	unsigned index;
	uint64_t page;

	if (find(sweep, gpa, &index, &page))
		sweep->wanted[index][page / 64] = bits & sweep->named[index][page / 64];
}

static const struct lacks_ops ops = {.get = get, .put = put};

int sweep_say_wanted(struct sweep *sweep, struct channel *channel, struct error *err)
{
	return lacks_say(channel, sweep->memory, &ops, sweep, err);
}

static int hear(
	struct sweep *sweep, struct channel *channel, struct message *message, struct error *err)
{
	uint64_t after = 0;
	int ret;

	do {
		ret = channel_receive_either(channel, message, WIRE_READY, WIRE_LACKS, err);
		if (ret < 0 || message->header.kind == WIRE_READY)
			return ret;
		ret = lacks_take(sweep->memory, message->body, message->header.length, &after, &ops,
			sweep, err);
	} while (ret == 0);
	return ret;
}

int sweep_hear_wanted(struct sweep *sweep, struct channel *channel, struct error *err)
{
	const struct memory_region *region;
	struct message message = {0};
	int ret;

	for (unsigned i = 0; (region = memory_region(sweep->memory, i)); i++)
		memset(sweep->wanted[i], 0, memory_words(region->size) * sizeof(uint64_t));
	ret = hear(sweep, channel, &message, err);
	message_free(&message);
	share_again(sweep);
	return ret;
}
