/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages worth sharing: the page cache of programs and libraries, by the mappings of all processes,
 * and the kernel's code and constants. Other guests of the same system have the same.
 */
#include "guestd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK 512 /* pages looked at in one call */

/* Of /proc/kpageflags: pages that are not the page cache's. */
#define FLAG_BUDDY  (1ULL << 10)
#define FLAG_ANON   (1ULL << 12)
#define FLAG_HUGE   (1ULL << 17)
#define FLAG_NOPAGE (1ULL << 20)
#define UNWANTED    (FLAG_BUDDY | FLAG_ANON | FLAG_HUGE | FLAG_NOPAGE)

struct survey {
	uint8_t *wanted; /* a bit for each frame */
	size_t count;    /* of frames */
	int pagemap;     /* of the process that is looked at */
	struct patience patience;
};

static void want(struct survey *survey, uint64_t frame)
{
	if (frame && frame < survey->count)
		survey->wanted[frame / 8] |= (uint8_t)(1 << frame % 8);
}

static void look_at_page(void *context, uint64_t entry)
{
	if (entry & PAGEMAP_PRESENT)
		want(context, PAGEMAP_FRAME(entry));
}

static bool look_at_mapping(void *context, const struct mapping *mapping)
{
	struct survey *survey = context;

	if (!mapping->file || mapping->writable || !mapping->readable)
		return true;
	return each_page(survey->pagemap, mapping, &survey->patience, look_at_page, survey);
}

static bool look_at_process(void *context, pid_t pid)
{
	struct survey *survey = context;

	patience_next_process(&survey->patience, survey->count);
	survey->pagemap = pagemap_open(pid);
	if (survey->pagemap < 0)
		return true;
	each_mapping(pid, false, look_at_mapping, survey);
	close(survey->pagemap);
	return true;
}

/* Copies that a process has written to are its own, and so on: by the kernel's own word. */
static void drop_unwanted(struct survey *survey)
{
	int file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags[CHUNK];

	if (file < 0)
		return;
	for (size_t at = 0; at < survey->count; at += CHUNK) {
		ssize_t length = pread(file, flags, sizeof(flags), (off_t)(at * sizeof(*flags)));

		for (size_t i = 0; length > 0 && i < (size_t)length / sizeof(*flags); i++)
			if (flags[i] & UNWANTED && at + i < survey->count)
				survey->wanted[(at + i) / 8] &= (uint8_t) ~(1 << (at + i) % 8);
	}
	close(file);
}

static bool want_region(void *context, uint64_t start, uint64_t end)
{
	for (uint64_t at = (start + PAGE - 1) / PAGE; at < end / PAGE; at++)
		want(context, at);
	return true;
}

static bool tell(const struct survey *survey, const struct answer *answer)
{
	struct run run = {0};

	for (size_t frame = 0; frame < survey->count; frame++) {
		if (!(survey->wanted[frame / 8] >> frame % 8 & 1))
			continue;
		if (run.pages && run.address / PAGE + run.pages == frame) {
			run.pages++;
			continue;
		}
		if (run.pages && !answer_run(answer, &run))
			break;
		run = (struct run){.address = frame * (uint64_t)PAGE, .pages = 1};
	}
	if (run.pages)
		answer_run(answer, &run);
	return answer_end(answer);
}

bool share(const struct answer *answer)
{
	struct survey survey = {.count = frames()};
	bool told;

	survey.wanted = calloc(survey.count / 8 + 1, 1);
	if (!survey.count || !survey.wanted) {
		fprintf(stderr, "duet-guestd: /proc/iomem tells no memory: run it as root\n");
		free(survey.wanted);
		return false;
	}
	patience_begin(&survey.patience, survey.count);
	each_process(look_at_process, &survey);
	drop_unwanted(&survey);
	each_region("Kernel code", want_region, &survey);
	each_region("Kernel rodata", want_region, &survey);
	told = tell(&survey, answer);
	free(survey.wanted);
	return told;
}
