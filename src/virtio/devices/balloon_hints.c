/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free page hints (5.5.6.5): in a round the driver takes its free memory and names it, block by
 * block, and holds it until the device is done. But it may take a block back and write to it at any
 * moment, also before the device has seen the hint. So a hint is only noted here; a page is given
 * back when the log of writes says that the guest has not written to it since the round began
 * (virtio_balloon_hints_give_back(), while no vCPU runs).
 */
#include "virtio/devices/balloon_private.h"

#include <errno.h>
#include <stdlib.h>

#define COMMAND_SIZE 4
#define BLOCK        (4ULL << 20) /* what Linux hints at a time */
#define ROOM_LEAST   64U

static void add_run(struct balloon_hints *hints, struct balloon_run run)
{
	struct balloon_run *runs = hints->runs, *last;

	if (!runs)
		return; /* no memory for them: nothing is given back in this round */
	/* The same pages again and again: each would be looked at while no vCPU runs. */
	if (run.count > hints->most - counter_read(&hints->pages))
		return;
	last = hints->count ? &runs[hints->count - 1] : NULL;
	if (last && run.first == last->first + last->count)
		last->count += run.count;
	else if (hints->count < hints->room)
		runs[hints->count++] = run;
	else
		return; /* smaller pieces than anybody hints: the rest of them stays */
	counter_add(&hints->pages, run.count);
}

static void take_command(struct balloon *balloon, const struct virtqueue_chain *chain)
{
	struct balloon_hints *hints = &balloon->hints;
	uint32_t host = atomic_load(&hints->host_command);
	uint8_t bytes[COMMAND_SIZE];
	uint32_t command;

	if (chain->readable_bytes != COMMAND_SIZE) {
		balloon_add(balloon, BALLOON_REFUSED, 1);
		return;
	}
	iov_copy_from(chain->segments, chain->readable, 0, bytes, sizeof(bytes));
	command = load_le32(bytes);
	if (command == BALLOON_STOP && atomic_load(&hints->guest_command) == host)
		atomic_store(&hints->complete, host >= BALLOON_FIRST_ROUND);
	atomic_store(&hints->guest_command, command);
}

void balloon_hint(struct balloon *balloon, const struct virtqueue_chain *chain)
{
	struct balloon_hints *hints = &balloon->hints;
	uint32_t host = atomic_load(&hints->host_command);
	struct balloon_run run;

	if (chain->readable)
		take_command(balloon, chain);
	/* Of another round, or pages whose content the guest relies on. */
	if (host < BALLOON_FIRST_ROUND || atomic_load(&hints->guest_command) != host ||
		atomic_load(&balloon->poison))
		return;
	for (unsigned i = 0; i < chain->writable; i++)
		if (balloon_run_of(balloon, &chain->segments[chain->readable + i], &run)) {
			balloon_add(balloon, BALLOON_HINTED, run.count);
			add_run(hints, run);
		}
}

static void forget(struct balloon_hints *hints)
{
	free(hints->runs);
	hints->runs = NULL;
	hints->count = hints->room = 0;
}

void balloon_hints_begin(struct balloon *balloon)
{
	struct balloon_hints *hints = &balloon->hints;
	uint64_t size = memory_size(balloon->virtio.memory);
	unsigned room = (unsigned)(size / BLOCK) + ROOM_LEAST;

	forget(hints);
	hints->most = size / MEMORY_PAGE;
	hints->runs = calloc(room, sizeof(*hints->runs));
	hints->room = hints->runs ? room : 0;
	atomic_store(&hints->pages, 0);
	atomic_store(&hints->complete, false);
	/* None that is used again, 0 and 1 left out. */
	hints->last_round =
		hints->last_round < BALLOON_FIRST_ROUND || hints->last_round == UINT32_MAX
			? BALLOON_FIRST_ROUND
			: hints->last_round + 1;
	atomic_store(&hints->host_command, hints->last_round);
}

void balloon_hints_end(struct balloon *balloon, enum balloon_command command)
{
	forget(&balloon->hints);
	atomic_store(&balloon->hints.pages, 0);
	atomic_store(&balloon->hints.complete, false);
	atomic_store(&balloon->hints.host_command, command);
}
