/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/sharing.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/sharing_list.h"
#include "virtio/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_NS         (60 * SECOND_NS) /* between two wishes */
#define NO_DRIVER_NS   (5 * SECOND_NS)  /* until a guest without a driver is asked again */
#define LOOK_NS        SECOND_NS        /* for an answer, */
#define LOOKS_FOR      (10 * SECOND_NS) /* so long; later only before it is asked again */
#define BARRED_ANSWERS 16
/* Looking at what was written holds up the control thread, about a millisecond for 256 MiB. */
#define LOOK_MEMORY_MAX (8ULL << 30)

void sharing_init(struct sharing *sharing, struct memory *memory, struct loop *loop)
{
	*sharing = (struct sharing){.memory = memory, .loop = loop};
	memory_proc_open(&sharing->proc);
}

/* ---- offering and taking back ---- */

static int offer(void *opaque, uint64_t gpa, uint64_t length)
{
	struct sharing *sharing = opaque;
	struct error err = {0};
	int ret = memory_offer(sharing->memory, GPA(gpa), length, true, &err);

	if (ret < 0)
		snprintf(sharing->told.why, sizeof(sharing->told.why), "%.250s", err.text);
	return ret;
}

static int take_back(void *opaque, uint64_t gpa, uint64_t length)
{
	struct sharing *sharing = opaque;
	struct error err = {0};

	/* What cannot be taken back stays merged until it is written to. */
	if (memory_offer(sharing->memory, GPA(gpa), length, false, &err) < 0)
		log_warning("%s", err.text);
	sharing->told.taken_back += length;
	return 0;
}

static void take_back_all(struct sharing *sharing)
{
	const struct sharing_list none = {0};

	sharing_list_each_but(&sharing->offered, &none, take_back, sharing);
	sharing_list_free(&sharing->offered);
}

/* What is known of a run that stays as it is stays known. */
static void keep_looks(const struct sharing_list *from, struct sharing_list *to)
{
	for (unsigned i = 0; i < to->count; i++) {
		struct memory_part *part = &to->parts[i],
				   *before = sharing_list_find(from, part->gpa, part->length);

		*part = before ? *before
			       : (struct memory_part){.gpa = part->gpa, .length = part->length};
	}
}

/* @wanted is the sharing's then. All or nothing: half of it would have to be known. */
static int change_to(struct sharing *sharing, struct sharing_list *wanted)
{
	int ret;

	sharing_list_each_but(&sharing->offered, wanted, take_back, sharing);
	ret = sharing_list_each_but(wanted, &sharing->offered, offer, sharing);
	keep_looks(&sharing->offered, wanted);
	sharing_list_free(&sharing->offered);
	sharing->offered = *wanted;
	*wanted = (struct sharing_list){0};
	if (ret < 0)
		take_back_all(sharing);
	return ret;
}

/* ---- what the guest writes to ---- */

static void bar(struct sharing *sharing, const struct memory_part *part)
{
	if (!sharing->bars)
		sharing->bars = calloc(SHARING_RUNS_MAX, sizeof(*sharing->bars));
	if (!sharing->bars || sharing->bar_count == SHARING_RUNS_MAX)
		return;
	sharing->bars[sharing->bar_count++] = (struct sharing_bar){
		.gpa = part->gpa, .length = part->length, .answers = BARRED_ANSWERS};
	sharing->told.written += part->length;
}

/* Pages that are not merged any more though they are still there; those that went to swap or were
 * given up are not. */
static uint64_t written(const struct memory_part *before, const struct memory_part *now)
{
	const uint64_t fewer = before->merged > now->merged ? before->merged - now->merged : 0;
	const uint64_t gone =
		before->resident > now->resident ? before->resident - now->resident : 0;

	return fewer > gone ? fewer - gone : 0;
}

static void look_for_writes(struct sharing *sharing)
{
	struct sharing_list *offered = &sharing->offered;
	struct memory_part *now;

	sharing->told.sees_writes = false;
	if (!offered->count || memory_size(sharing->memory) > LOOK_MEMORY_MAX)
		return;
	now = malloc(offered->count * sizeof(*now));
	if (!now)
		return;
	memcpy(now, offered->parts, offered->count * sizeof(*now));
	if (memory_look_into(&sharing->proc, sharing->memory, now, offered->count) == 0) {
		sharing->told.sees_writes = true;
		for (unsigned i = 0; i < offered->count; i++)
			if (2 * written(&offered->parts[i], &now[i]) > offered->parts[i].merged)
				bar(sharing, &now[i]);
		memcpy(offered->parts, now, offered->count * sizeof(*now));
	}
	free(now);
}

static int barred(struct sharing *sharing, struct sharing_list *list)
{
	unsigned left = 0;
	int ret = 0;

	for (unsigned i = 0; i < sharing->bar_count; i++) {
		struct sharing_bar *one = &sharing->bars[i];

		if (ret == 0)
			ret = sharing_list_add(list, one->gpa, one->length);
		if (--one->answers)
			sharing->bars[left++] = *one;
	}
	sharing->bar_count = left;
	sharing_list_join(list);
	return ret;
}

/* ---- what the guest names ---- */

static void add_run(void *opaque, const struct virtio_coop_run *run)
{
	/* A list that could not grow is empty, and offers nothing. */
	sharing_list_add(opaque, run->gpa, run->pages * MEMORY_PAGE);
}

static int add_wanted(void *opaque, uint64_t gpa, uint64_t length)
{
	return sharing_list_add(opaque, gpa, length);
}

/* What is to be offered from now on: of this answer and the one before, without what is barred. */
static int reckon(
	struct sharing *sharing, const struct sharing_list *named, struct sharing_list *wanted)
{
	struct sharing_list bars = {0}, both = {0};
	int ret = sharing_list_unite(&both, named);

	if (ret == 0)
		ret = sharing_list_unite(&both, &sharing->named);
	if (ret == 0)
		ret = barred(sharing, &bars);
	if (ret == 0)
		ret = sharing_list_each_but(&both, &bars, add_wanted, wanted);
	sharing->told.left_out = sharing_list_cut(wanted, SHARING_RUNS_MAX);
	sharing_list_free(&bars);
	sharing_list_free(&both);
	return ret;
}

static void take(struct sharing *sharing, uint32_t wish)
{
	struct sharing_list named = {0}, wanted = {0};

	sharing->asked = false;
	sharing->answered = wish;
	sharing->told.answers++;
	sharing->told.why[0] = 0;
	virtio_coop_each_run(sharing->coop, VIRTIO_COOP_SHARE, add_run, &named);
	sharing_list_join(&named);
	look_for_writes(sharing);
	if (reckon(sharing, &named, &wanted) < 0)
		snprintf(sharing->told.why, sizeof(sharing->told.why),
			"no memory to reckon with what the guest names");
	else if (change_to(sharing, &wanted) < 0)
		log_warning("%s", sharing->told.why);
	sharing_list_free(&wanted);
	sharing_list_free(&sharing->named);
	sharing->named = named;
}

static void ask(struct sharing *sharing, uint64_t now)
{
	struct error err = {0};

	sharing->asked = virtio_coop_wish(sharing->coop, VIRTIO_COOP_SHARE, &err) == 0;
	sharing->ask_at = now + (sharing->asked ? ASK_NS : NO_DRIVER_NS);
	sharing->told.wishes += sharing->asked;
	snprintf(sharing->told.why, sizeof(sharing->told.why), "%.250s", err.text);
}

/* An answer to the last wish, whoever made it. */
static bool is_answered(const struct sharing *sharing, uint32_t *wish)
{
	struct virtio_coop_runs runs;

	virtio_coop_runs(sharing->coop, VIRTIO_COOP_SHARE, &runs);
	*wish = runs.told;
	return runs.complete && runs.told == runs.wished && runs.told != sharing->answered;
}

static void look(struct loop_timer *timer)
{
	struct sharing *sharing = container_of(timer, struct sharing, timer);
	const uint64_t now = clock_ns();
	uint32_t wish;

	if (is_answered(sharing, &wish))
		take(sharing, wish);
	if (now >= sharing->ask_at)
		ask(sharing, now);
	if (sharing->asked && sharing->ask_at - now > ASK_NS - LOOKS_FOR)
		loop_timer_after(sharing->loop, timer, LOOK_NS);
	else
		loop_timer_at(sharing->loop, timer, sharing->ask_at);
}

/* ---- states ---- */

static int begin_blind(struct sharing *sharing, struct error *err)
{
	struct sharing_list all = {0};
	int ret = 0;

	for (unsigned i = 0; ret == 0 && memory_region(sharing->memory, i); i++) {
		const struct memory_region *region = memory_region(sharing->memory, i);

		ret = sharing_list_add(&all, region->base.value, region->size);
	}
	sharing_list_join(&all);
	ret = ret < 0 ? ret : change_to(sharing, &all);
	sharing_list_free(&all);
	return ret < 0 ? error_set(err, -ret, "%s", sharing->told.why) : 0;
}

static int begin_hinted(struct sharing *sharing, struct error *err)
{
	if (!sharing->coop)
		return error_set(err, ENOTSUP,
			"sharing: the machine has no cooperation device by which its guest could "
			"name pages; --coop gives it one, or share it blind");
	sharing->timer.expired = look;
	sharing->ask_at = 0;
	loop_timer_after(sharing->loop, &sharing->timer, 0);
	return 0;
}

static void forget(struct sharing *sharing)
{
	loop_timer_stop(&sharing->timer);
	sharing_list_free(&sharing->named);
	sharing->bar_count = 0;
	sharing->asked = false;
	sharing->told.left_out = 0;
	sharing->told.why[0] = 0;
}

static int begin(struct sharing *sharing, struct error *err)
{
	switch (sharing->state) {
	case MACHINE_SHARING_HINTED:
		return begin_hinted(sharing, err);
	case MACHINE_SHARING_BLIND:
		return begin_blind(sharing, err);
	default:
		return 0;
	}
}

int sharing_set(struct sharing *sharing, enum machine_sharing_state state, struct error *err)
{
	int ret = state == MACHINE_SHARING_OFF ? 0 : memory_may_offer(sharing->memory, err);

	if (ret < 0 || state == sharing->state)
		return ret;
	forget(sharing);
	take_back_all(sharing);
	sharing->state = state;
	ret = begin(sharing, err);
	if (ret < 0)
		sharing->state = MACHINE_SHARING_OFF;
	return ret;
}

void sharing_tell(const struct sharing *sharing, struct machine_sharing *told)
{
	*told = sharing->told;
	told->state = sharing->state;
	told->offered = sharing_list_bytes(&sharing->offered);
	told->runs = sharing->offered.count;
}

void sharing_reset(struct sharing *sharing)
{
	if (sharing->state != MACHINE_SHARING_HINTED)
		return;
	forget(sharing);
	take_back_all(sharing);
	begin_hinted(sharing, NULL);
}

void sharing_end(struct sharing *sharing)
{
	forget(sharing);
	sharing->state = MACHINE_SHARING_OFF;
	free(sharing->bars);
	sharing->bars = NULL;
	sharing_list_free(&sharing->offered);
	memory_proc_close(&sharing->proc);
}
