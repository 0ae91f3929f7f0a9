/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/sweep.h"

#include "base/thread.h"
#include "state/crc32c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_SIZE (128U << 10)
/* Pages next to each other that go by one stream: 2 MiB, as huge pages and KVM's tables have them.
 */
#define PIECE_WORDS 8

struct lane {
	struct sweep *sweep;
	struct channel *channel;
	unsigned index;
	pthread_t thread;
	bool started;
	struct pages_batch batch;
	struct compressor *compressor; /* null: pages go as they are */
	uint64_t spared;               /* bytes, by it */
	struct pages_seen seen;        /* in this round */
	struct wire_last last;
	uint64_t sent; /* channel->sent as it was told last */
	int result;
	struct error err;
};

static int want_all(struct sweep *sweep, struct error *err)
{
	const struct memory_region *region;
	uint64_t most = 1;

	for (unsigned i = 0; (region = memory_region(sweep->memory, i)); i++) {
		uint64_t pages = region->size / MEMORY_PAGE, words = memory_words(region->size);

		sweep->wanted[i] = malloc(words * sizeof(uint64_t));
		if (!sweep->wanted[i])
			return error_errno(err, ENOMEM, "migration");
		memset(sweep->wanted[i], 0xff, words * sizeof(uint64_t));
		if (pages % 64)
			sweep->wanted[i][words - 1] = (1ULL << pages % 64) - 1;
		most = words > most ? words : most;
	}
	sweep->taken = calloc(most, sizeof(uint64_t));
	return sweep->taken ? 0 : error_errno(err, ENOMEM, "migration");
}

int sweep_init(struct sweep *sweep, struct source *source, struct error *err)
{
	*sweep = (struct sweep){.source = source, .memory = source->ops->memory(source->opaque)};
	sweep->lanes = calloc(source->streams, sizeof(*sweep->lanes));
	for (unsigned i = 0; sweep->lanes && i < source->streams; i++) {
		struct lane *lane = &sweep->lanes[i];

		*lane = (struct lane){.sweep = sweep, .channel = &source->channels[i], .index = i};
		lane->batch.data = malloc(PAGES_BATCH * MEMORY_PAGE);
		if (!lane->batch.data)
			return error_errno(err, ENOMEM, "migration");
		if (source->compress && compressor_new(&lane->compressor, err) < 0)
			return -ENOMEM;
	}
	return sweep->lanes ? want_all(sweep, err) : error_errno(err, ENOMEM, "migration");
}

void sweep_free(struct sweep *sweep)
{
	for (unsigned i = 0; sweep->lanes && i < sweep->source->streams; i++) {
		free(sweep->lanes[i].batch.data);
		compressor_free(sweep->lanes[i].compressor);
	}
	for (unsigned i = 0; i < MEMORY_MAX_REGIONS; i++) {
		free(sweep->wanted[i]);
		free((void *)sweep->gone[i]);
		free(sweep->named[i]);
	}
	free(sweep->taken);
	free(sweep->lanes);
}

int sweep_take_log(struct sweep *sweep, struct error *err)
{
	struct source *source = sweep->source;
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(sweep->memory, i)); i++) {
		uint64_t words = memory_words(region->size);
		int ret;

		memset(sweep->taken, 0, words * sizeof(uint64_t));
		ret = source->ops->take(source->opaque, i, sweep->taken, err);
		if (ret < 0)
			return ret;
		for (uint64_t word = 0; word < words; word++)
			sweep->wanted[i][word] |= sweep->taken[word];
	}
	return 0;
}

uint64_t sweep_wanted(const struct sweep *sweep)
{
	const struct memory_region *region;
	uint64_t sum = 0;

	for (unsigned i = 0; (region = memory_region(sweep->memory, i)); i++)
		for (uint64_t word = 0; word < memory_words(region->size); word++)
			sum += (unsigned)__builtin_popcountll(sweep->wanted[i][word]);
	return sum;
}

/* ---- one stream ---- */

static void tell(struct lane *lane)
{
	struct source_progress *progress = lane->sweep->source->progress;

	atomic_fetch_add(&progress->sent, lane->seen.full);
	atomic_fetch_add(&progress->zero, lane->seen.zero);
	if (lane->sweep->again)
		atomic_fetch_add(&progress->resent, lane->seen.full + lane->seen.zero);
	if (lane->sweep->gone[0])
		atomic_fetch_sub(&progress->left, lane->seen.full + lane->seen.zero);
	atomic_fetch_add(&progress->bytes, lane->channel->sent - lane->sent);
	lane->sent = lane->channel->sent;
	lane->seen = (struct pages_seen){0};
}

/* The target says nothing while it takes pages, unless that is that it failed. */
static int listen_for_failure(struct lane *lane, struct error *err)
{
	struct message message = {0};
	int ret = 0;

	if (lane->index == 0 && channel_has_word(lane->channel))
		ret = channel_expect(lane->channel, &message, WIRE_READY, err) < 0
			      ? -EREMOTEIO
			      : error_set(err, EPROTO, "the other side is ready too early");
	message_free(&message);
	return ret;
}

static int flush(struct lane *lane, struct error *err)
{
	struct pages_batch *batch = &lane->batch;
	const uint8_t *data;
	size_t length, head;
	int ret;

	if (!batch->runs)
		return 0;
	head = pages_finish(batch, lane->compressor, &data, &length);
	ret = listen_for_failure(lane, err);
	if (ret == 0)
		ret = channel_send(lane->channel, WIRE_PAGES, batch->head, head, data, length, err);
	if (ret < 0)
		return ret;
	lane->spared += batch->filled * MEMORY_PAGE - length;
	lane->last.crc = crc32c(lane->last.crc, lane->channel->crc, sizeof(lane->channel->crc));
	lane->last.messages++;
	lane->last.pages += batch->pages;
	pages_clear(batch);
	tell(lane);
	return 0;
}

static int send_page(
	struct lane *lane, const struct memory_region *region, uint64_t page, struct error *err)
{
	gpa_t gpa = gpa_add(region->base, page * MEMORY_PAGE);
	const uint8_t *host = memory_begin(lane->sweep->memory, gpa, MEMORY_PAGE);
	int ret = 0;

	if (!host)
		return error_errno(err, EFAULT, "migration");
	if (pages_add(&lane->batch, gpa, host, &lane->seen))
		return 0;
	ret = flush(lane, err);
	if (ret == 0)
		pages_add(&lane->batch, gpa, host, &lane->seen);
	return ret;
}

static int send_word(struct lane *lane, unsigned index, const struct memory_region *region,
	uint64_t word, struct error *err)
{
	uint64_t *bits = &lane->sweep->wanted[index][word];
	int ret = 0;

	while (ret == 0 && *bits) {
		unsigned bit = (unsigned)__builtin_ctzll(*bits);

		if (sweep_claim(lane->sweep, index, word * 64 + bit))
			ret = send_page(lane, region, word * 64 + bit, err);
		*bits &= *bits - 1;
	}
	return ret;
}

static int send_region(
	struct lane *lane, unsigned index, const struct memory_region *region, struct error *err)
{
	const unsigned streams = lane->sweep->source->streams;
	const uint64_t words = memory_words(region->size);
	unsigned looked = 0;
	int ret = 0;

	for (uint64_t word = 0; ret == 0 && word < words; word++) {
		if (word / PIECE_WORDS % streams != lane->index ||
			!lane->sweep->wanted[index][word])
			continue;
		/* A region of zeroes is one message, and nothing of it waits. */
		if (looked++ % PIECE_WORDS == 0 && channel_is_stopped(lane->channel))
			return error_set(err, ECANCELED, "cancelled");
		if (atomic_load_explicit(&lane->sweep->broken, memory_order_relaxed))
			return error_set(err, ECANCELED, "another stream has failed");
		ret = send_word(lane, index, region, word, err);
	}
	return ret;
}

static void *send_lane(void *opaque)
{
	struct lane *lane = opaque;
	const struct memory_region *region;

	lane->result = 0;
	for (unsigned i = 0; lane->result == 0 && (region = memory_region(lane->sweep->memory, i));
		i++)
		lane->result = send_region(lane, i, region, &lane->err);
	if (lane->result == 0)
		lane->result = flush(lane, &lane->err);
	if (lane->result < 0)
		atomic_store(&lane->sweep->broken, true);
	return NULL;
}

/* ---- all of them ---- */

static uint64_t sum_sent(const struct sweep *sweep)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < sweep->source->streams; i++)
		sum += sweep->lanes[i].channel->sent + sweep->lanes[i].spared;
	return sum;
}

/* The first that failed, and not for another's sake. */
static int result_of(const struct sweep *sweep, struct error *err)
{
	const struct lane *failed = NULL;

	for (unsigned i = 0; i < sweep->source->streams; i++) {
		const struct lane *lane = &sweep->lanes[i];

		if (lane->result < 0 && (!failed || failed->result == -ECANCELED))
			failed = lane;
	}
	return failed ? error_set(err, failed->err.code, "%s", failed->err.text) : 0;
}

int sweep_send(struct sweep *sweep, uint64_t *bytes, struct error *err)
{
	const unsigned streams = sweep->source->streams;
	const uint64_t before = sum_sent(sweep);

	atomic_store(&sweep->broken, false);
	for (unsigned i = 1; i < streams; i++) {
		struct lane *lane = &sweep->lanes[i];

		lane->started = thread_start(&lane->thread, STACK_SIZE, send_lane, lane) == 0;
	}
	send_lane(&sweep->lanes[0]);
	for (unsigned i = 1; i < streams; i++)
		if (sweep->lanes[i].started)
			pthread_join(sweep->lanes[i].thread, NULL);
		else /* the host gives no thread: it takes longer */
			send_lane(&sweep->lanes[i]);
	sweep->again = true;
	*bytes = sum_sent(sweep) - before;
	return result_of(sweep, err);
}

void sweep_reconnect(struct sweep *sweep)
{
	for (unsigned i = 0; i < sweep->source->streams; i++) {
		pages_clear(&sweep->lanes[i].batch);
		sweep->lanes[i].sent = 0;
	}
}

int sweep_finish(struct sweep *sweep, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < sweep->source->streams; i++) {
		uint8_t last[WIRE_LAST_SIZE];

		wire_put_last(last, &sweep->lanes[i].last);
		ret = channel_send(
			&sweep->source->channels[i], WIRE_LAST, last, sizeof(last), "", 0, err);
	}
	return ret;
}
