/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's KSM: whether it runs, and how fast it looks. One that ran before duetd wanted it is
 * somebody else's, who has set it as he wants it: it is left alone, then and at the end.
 * merge_across_nodes is left alone always, for it can only be changed while nothing is merged.
 */
#include "base/checked.h"
#include "base/log.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KSM "/sys/kernel/mm/ksm/"

/* Put back from the last to the first: the rate can only be written while no advisor sets it. */
static const char *const knobs[LEVER_KSM_KNOBS] = {
	[KSM_PAGES] = "pages_to_scan",
	[KSM_SLEEP] = "sleep_millisecs",
	[KSM_SMART] = "smart_scan",
	[KSM_ADVISOR] = "advisor_mode",
	[KSM_RUN] = "run",
};

/* "[none] scan-time": the word in brackets, of files that list what there is. */
static void choose(char *text)
{
	const char *begin = strchr(text, '['), *end = begin ? strchr(begin, ']') : NULL;

	if (end) {
		const size_t length = (size_t)(end - begin) - 1;

		memmove(text, begin + 1, length);
		text[length] = 0;
	}
	text[strcspn(text, "\n")] = 0;
}

static bool read_knob(const struct levers *levers, unsigned knob, char text[LEVER_KSM_TEXT])
{
	if (lever_read(levers, text, LEVER_KSM_TEXT, KSM "%s", knobs[knob]) <= 0)
		return false;
	choose(text);
	return *text;
}

static const char *path_of(unsigned knob, char path[64])
{
	snprintf(path, 64, KSM "%s", knobs[knob]);
	return path;
}

static int note(struct levers *levers, unsigned knob, struct error *err)
{
	struct lever_knob *own = &levers->ksm.knobs[knob];
	char path[64];
	const struct undo noted = {
		.kind = UNDO_FILE, .where = path_of(knob, path), .value = own->before};

	own->there = read_knob(levers, knob, own->before);
	if (!own->there)
		return 0;
	memcpy(own->now, own->before, sizeof(own->now));
	return journal_note(levers->journal, &noted, err);
}

/* All of it is noted before anything is changed, for the order in which it is put back. */
static int take_over(struct levers *levers, struct error *err)
{
	char advisor[LEVER_KSM_TEXT];
	int ret = 0;

	/* A rate that an advisor sets comes back with it. */
	levers->ksm.knobs[KSM_PAGES].there = false;
	if (!read_knob(levers, KSM_ADVISOR, advisor) || strcmp(advisor, "none") == 0)
		ret = note(levers, KSM_PAGES, err);
	for (unsigned i = KSM_SLEEP; ret == 0 && i < LEVER_KSM_KNOBS; i++)
		ret = note(levers, i, err);
	levers->ksm.ours = ret == 0;
	return ret;
}

static int set(struct levers *levers, unsigned knob, const char *text, struct error *err)
{
	struct lever_knob *own = &levers->ksm.knobs[knob];
	int ret;

	if ((!own->there && knob != KSM_PAGES) || strcmp(own->now, text) == 0)
		return 0;
	ret = lever_write(levers, text, KSM "%s", knobs[knob]);
	if (ret < 0)
		return error_errno(err, -ret, KSM "%s: %s", knobs[knob], text);
	snprintf(own->now, sizeof(own->now), "%s", text);
	return 0;
}

static int set_number(struct levers *levers, unsigned knob, unsigned number, struct error *err)
{
	char text[LEVER_KSM_TEXT];

	snprintf(text, sizeof(text), "%u", number);
	return set(levers, knob, text, err);
}

/* Without a rate it is as fast as the kernel finds right: by its advisor, where it has one. */
static int set_rate(struct levers *levers, const struct ksm_plan *plan, struct error *err)
{
	int ret = set(levers, KSM_ADVISOR, plan->pages ? "none" : "scan-time", err);

	if (ret < 0)
		return ret;
	if (!plan->pages) {
		/* What the advisor has made of it meanwhile is not known. */
		levers->ksm.knobs[KSM_PAGES].now[0] = 0;
		return set(levers, KSM_SLEEP, levers->ksm.knobs[KSM_SLEEP].before, err);
	}
	ret = set_number(levers, KSM_PAGES, plan->pages, err);
	return ret < 0 ? ret : set_number(levers, KSM_SLEEP, plan->sleep_ms, err);
}

static void put_back(struct levers *levers)
{
	for (unsigned i = LEVER_KSM_KNOBS; i-- > 0;) {
		struct lever_knob *own = &levers->ksm.knobs[i];
		struct error err = {0};
		char path[64];

		if (!own->there)
			continue;
		if (set(levers, i, own->before, &err) < 0)
			log_warning("%s", err.text);
		else
			journal_forget(levers->journal, path_of(i, path));
	}
	levers->ksm = (struct lever_ksm){0};
}

static bool runs_for_others(struct levers *levers)
{
	char text[LEVER_KSM_TEXT];
	const bool runs =
		read_knob(levers, KSM_RUN, text) && strcmp(text, "1") == 0 && !levers->ksm.ours;

	if (runs && !levers->ksm.others)
		log_info("KSM runs already: its settings are left as they are");
	levers->ksm.others = runs;
	return runs;
}

int levers_apply_ksm(struct levers *levers, const struct ksm_plan *plan, struct error *err)
{
	int ret = 0;

	if (!levers->states[LEVER_KSM].works)
		return 0;
	if (!plan->runs) {
		if (levers->ksm.ours)
			put_back(levers);
		return 0;
	}
	if (levers->ksm.ours || !runs_for_others(levers)) {
		ret = levers->ksm.ours ? 0 : take_over(levers, err);
		if (ret == 0)
			ret = set_rate(levers, plan, err);
		if (ret == 0)
			ret = set(levers, KSM_SMART, "1", err);
		if (ret == 0)
			ret = set(levers, KSM_RUN, "1", err);
	}
	return ret;
}

void lever_ksm_view(const struct levers *levers, struct host_view *host)
{
	host->ksm = levers->states[LEVER_KSM].works;
	host->ksm_others = levers->ksm.others;
}

uint64_t lever_ksm_merged(const struct levers *levers, pid_t pid)
{
	char text[32];
	uint64_t bytes;

	if (lever_read(levers, text, sizeof(text), "/proc/%d/ksm_merging_pages", (int)pid) <= 0 ||
		mul_overflows(strtoull(text, NULL, 10), 4096, &bytes))
		return 0;
	return bytes;
}
