/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round of free page hints. The guest may take back what it has hinted at, and write to it, so
 * that its pages are looked up in the log of writes before they go: it begins before the round
 * does, and is asked when no vCPU runs (virtio 1.2, 5.5.6.5.2).
 */
#include "base/checked.h"
#include "base/clock.h"
#include "machine/internal.h"
#include "virtio/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS     5000000ULL /* at how far the guest is */
#define REST_WITHIN 10000000000ULL
#define WORD_PAGES  64

/* It takes its log with it. */
static bool is_ending(struct machine *machine)
{
	return atomic_load(&machine->life.end) != 0;
}

/* What was written to, by regions. */
struct written {
	struct memory *memory;
	uint64_t *bitmaps[MEMORY_MAX_REGIONS];
};

/* Kernels that clear what they allocate, as Debian's do, write to each page that they then hint at.
 * A page of zeroes is the same after it was given back. */
static bool is_clear(struct memory *memory, gpa_t page)
{
	const uint64_t *words = memory_begin(memory, page, MEMORY_PAGE);
	bool clear =
		words && !words[0] && memcmp(words, words + 1, MEMORY_PAGE - sizeof(*words)) == 0;

	memory_end(memory, words, 0);
	return clear;
}

/* And holds something. */
static bool was_written(void *opaque, gpa_t page)
{
	const struct written *written = opaque;
	const struct memory_region *region;
	unsigned index;
	uint64_t number;

	region = memory_region_at(written->memory, page, &index);
	if (!region)
		return true;
	number = (page.value - region->base.value) / MEMORY_PAGE;
	return (written->bitmaps[index][number / WORD_PAGES] >> number % WORD_PAGES & 1) &&
	       !is_clear(written->memory, page);
}

static int take_log(struct machine *machine, struct written *written, struct error *err)
{
	const struct memory_region *region;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && (region = memory_region(&machine->memory, i)); i++) {
		uint64_t words = region->size / MEMORY_PAGE / WORD_PAGES;

		written->bitmaps[i] = calloc(words, sizeof(**written->bitmaps));
		ret = written->bitmaps[i] ? machine_log_take(machine, i, written->bitmaps[i], err)
					  : error_errno(err, ENOMEM, "balloon: log of writes");
	}
	return ret;
}

/* The round is over, or has taken too long: what was hinted at by now is good. */
static void give_back(struct machine_hints *hints)
{
	struct machine *machine = hints->machine;
	struct written written = {.memory = &machine->memory};
	struct virtio_balloon_hints status;
	struct error err = {0};
	uint64_t bytes = 0;
	int ret = take_log(machine, &written, &err);

	virtio_balloon_hint_status(machine->balloon, &status);
	if (ret == 0) {
		/* As long as the guest likes: each piece that it has not written to is a system
		 * call. */
		machine_waits(machine, true);
		bytes = virtio_balloon_hints_give_back(machine->balloon, was_written, &written);
		machine_waits(machine, false);
	}
	for (unsigned i = 0; i < MEMORY_MAX_REGIONS; i++)
		free(written.bitmaps[i]);
	machine_log_stop(machine);
	virtio_balloon_hint_stop(machine->balloon);
	machine_resume(machine);
	if (ret == 0 && !status.complete)
		ret = -ETIMEDOUT;
	hints->done(hints, ret, bytes, err.text);
}

static void begin(struct machine_hints *hints)
{
	struct machine *machine = hints->machine;
	struct error err = {0};
	int ret = machine_log_start(machine, &err);

	if (ret == 0)
		ret = virtio_balloon_hint_start(machine->balloon, &err);
	if (ret < 0)
		machine_log_stop(machine);
	machine_resume(machine);
	if (ret < 0) {
		hints->done(hints, ret, 0, err.text);
		return;
	}
	hints->asked = true;
	loop_timer_after(machine->owner.loop, &hints->timer, LOOK_NS);
}

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct machine_hints *hints = container_of(pause, struct machine_hints, pause);
	struct machine *machine = hints->machine;

	if (result == 0 && hints->asked) {
		give_back(hints);
	} else if (result == 0) {
		begin(hints);
	} else if (hints->asked && !is_ending(machine)) {
		/* Somebody has resumed it, or something did not come to rest: once more. */
		loop_timer_after(machine->owner.loop, &hints->timer, LOOK_NS);
	} else {
		hints->done(hints, result, 0, why);
	}
}

static void look(struct loop_timer *timer)
{
	struct machine_hints *hints = container_of(timer, struct machine_hints, timer);
	struct machine *machine = hints->machine;
	struct virtio_balloon_hints status;

	if (is_ending(machine)) {
		hints->done(hints, -ECANCELED, 0, "the machine has ended");
		return;
	}
	virtio_balloon_hint_status(machine->balloon, &status);
	if (!status.complete && clock_ns() < hints->until)
		loop_timer_after(machine->owner.loop, timer, LOOK_NS);
	/* Another pause is on its way, or it is reset. */
	else if (machine_pause(machine, &hints->pause, REST_WITHIN) < 0)
		loop_timer_after(machine->owner.loop, timer, LOOK_NS);
}

int machine_take_hints(
	struct machine *machine, struct machine_hints *hints, uint64_t limit, struct error *err)
{
	int ret;

	if (!machine->balloon)
		return error_set(
			err, ENOTSUP, "the machine has no balloon; --balloon gives it one");
	if (memory_is_logged(&machine->memory))
		return error_set(err, EBUSY, "memory: writes are logged already, for a move");
	/* It is looked at on this thread, which waits for nobody. */
	if (memory_arriving(&machine->memory))
		return error_set(err, EBUSY,
			"memory: pages of it are still to come from where the machine was");
	hints->machine = machine;
	hints->pause.done = paused;
	hints->timer.expired = look;
	hints->until = clock_ns() + limit;
	hints->asked = false;
	ret = machine_pause(machine, &hints->pause, REST_WITHIN);
	return ret < 0 ? error_errno(err, -ret, "balloon: the machine cannot be paused now") : 0;
}

void machine_cut_hints(struct machine_hints *hints)
{
	hints->until = 0;
}
