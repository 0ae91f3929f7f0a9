/* SPDX-License-Identifier: Apache-2.0 */
/* A guest whose first instructions reset it, over and over: nothing piles up in its process. */
#include "tiny.h"
#include "whole.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#define FIRST  50   /* resets after which all is there that ever will be */
#define RESETS 1000 /* more of them */
#define SLACK  16   /* KiB, of pages that happen to be touched late: 16 bytes a reset would show */

/* Through the keyboard controller, which here only resets. */
static const uint8_t resetting[] = {
	0xb0, 0xfe, /* mov $0xfe, %al */
	0xe6, 0x64, /* out %al, $0x64 */
	0xeb, 0xfe, /* 1: jmp 1b */
};

struct usage {
	unsigned descriptors, mappings;
	unsigned long resident; /* KiB */
};

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* By walking the page tables: VmRSS is counted by CPU, and lags. */
static unsigned long resident(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	unsigned long rss = 0;
	char line[256];

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Rss: %lu kB", &rss) == 1)
			break;
	fclose(file);
	CHECK(rss > 0);
	return rss;
}

static unsigned mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned lines = 0;
	int c;

	CHECK(file);
	while ((c = fgetc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

struct wait {
	struct machine *machine;
	uint64_t resets;
};

static bool has_reset(void *opaque)
{
	const struct wait *wait = opaque;

	return whole_resets(wait->machine) >= wait->resets;
}

static bool paused;

static bool is_paused(void *opaque)
{
	(void)opaque;
	return paused;
}

static void pause_done(struct machine_pause *pause, int result, const char *why)
{
	(void)pause;
	(void)why;
	CHECK(result == 0);
	paused = true;
}

/* At a point of its life where nothing is under way, after so many resets at least. */
static struct usage usage_after(struct machine *machine, uint64_t resets)
{
	struct wait wait = {machine, resets};
	struct machine_pause pause = {.done = pause_done};
	struct usage usage;

	whole_run_until(has_reset, &wait);
	paused = false;
	CHECK(machine_pause(machine, &pause, 0) == 0);
	whole_run_until(is_paused, NULL);
	usage = (struct usage){descriptors(), mappings(), resident()};
	printf("%llu resets: %u descriptors, %u mappings, %lu KiB\n",
		(unsigned long long)whole_resets(machine), usage.descriptors, usage.mappings,
		usage.resident);
	machine_resume(machine);
	return usage;
}

static bool has_ended(void *opaque)
{
	return machine_state(opaque) == MACHINE_ENDED;
}

static void test_resets_in_a_loop(const char *kernel)
{
	const struct machine_owner owner = {.loop = whole_loop, .output = STDOUT_FILENO};
	struct usage before, after;
	struct machine_config config;
	struct machine *machine;
	struct error err = {0};

	whole_config(&config, kernel);
	machine = whole_new(&config, &owner, false);
	CHECK(machine_start(machine, &err) == 0);
	/* Looking itself takes memory, the first time. */
	usage_after(machine, FIRST);
	before = usage_after(machine, 2 * FIRST);
	after = usage_after(machine, 2 * FIRST + RESETS);
	CHECK(after.descriptors == before.descriptors);
	CHECK(after.mappings <= before.mappings);
	CHECK(after.resident <= before.resident + SLACK);
	machine_kill(machine, "test");
	whole_run_until(has_ended, machine);
	CHECK(!machine_is_stuck(machine));
	machine_free(machine);
}

int main(void)
{
	char kernel[] = "/tmp/duet-resets-XXXXXX";

	if (!whole_open())
		return 77;
	whole_kernel(kernel, resetting, sizeof(resetting));
	test_resets_in_a_loop(kernel);
	unlink(kernel);
	tiny_ok("a guest that resets in a loop");
	whole_close();
	return 0;
}
