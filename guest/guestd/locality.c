/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which memory the threads of each vCPU use: some rounds, in each of which references are cleared,
 * a moment passes, and what the processes that ran have used goes to the CPU where they ran most.
 * Written pages are known one by one (soft-dirty), read ones by mapping.
 */
#include "guestd.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS   4
#define ROUND_MS 250
#define RUNS_MAX 16384 /* more of them are merged over gaps */
#define CPUS_MAX 1024

struct use {
	uint16_t vcpu;
	uint8_t seen; /* rounds by this vCPU, less those by others */
};

struct thread {
	pid_t tid;
	uint32_t cpu;
	uint64_t ticks; /* of CPU time */
};

struct survey {
	struct use *uses; /* for each frame */
	size_t count;     /* of frames */
	uint32_t vcpus[CPUS_MAX];
	struct thread *threads; /* as they were when the round began */
	size_t thread_count, thread_room;
	uint64_t ran[CPUS_MAX]; /* of the process that is looked at, ticks by CPU */
	uint16_t vcpu;          /* the one on which it ran most */
	int pagemap;
	struct patience patience;
	uint64_t used; /* what an entry of a used page has, in the mapping that is looked at */
};

/* ---- CPUs and threads ---- */

static void read_vcpus(struct survey *survey)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	unsigned cpu = CPUS_MAX, apic;
	char *line = NULL;
	size_t room = 0;

	while (file && getline(&line, &room, file) > 0)
		if (sscanf(line, "processor : %u", &cpu) != 1 && cpu < CPUS_MAX &&
			sscanf(line, "apicid : %u", &apic) == 1)
			survey->vcpus[cpu] = apic;
	free(line);
	if (file)
		fclose(file);
}

/* Fields 14 and 15 (time) and 39 (the CPU it last ran on), behind a name that holds anything. */
static bool read_thread(pid_t tid, struct thread *thread)
{
	char path[64], text[1024], *fields;
	uint64_t user, kernel;
	ssize_t length;
	int file;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
	if (file >= 0)
		close(file);
	if (length <= 0)
		return false;
	text[length] = 0;
	fields = strrchr(text, ')');
	if (!fields ||
		sscanf(fields,
			") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" SCNu64 " %" SCNu64
			" %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
			" %*s %*s %*s %*s %*s %*s %" SCNu32,
			&user, &kernel, &thread->cpu) != 3)
		return false;
	thread->tid = tid;
	thread->ticks = user + kernel;
	return thread->cpu < CPUS_MAX;
}

static bool note_thread(void *context, pid_t tid)
{
	struct survey *survey = context;

	if (survey->thread_count == survey->thread_room) {
		size_t room = survey->thread_room ? 2 * survey->thread_room : 256;
		struct thread *more = realloc(survey->threads, room * sizeof(*more));

		if (!more)
			return false;
		survey->threads = more;
		survey->thread_room = room;
	}
	if (read_thread(tid, &survey->threads[survey->thread_count]))
		survey->thread_count++;
	return true;
}

static int by_tid(const void *left, const void *right)
{
	pid_t a = ((const struct thread *)left)->tid, b = ((const struct thread *)right)->tid;

	return (a > b) - (a < b);
}

static bool count_thread(void *context, pid_t tid)
{
	struct survey *survey = context;
	struct thread now, key = {.tid = tid};
	const struct thread *before;

	if (!read_thread(tid, &now))
		return true;
	before = bsearch(&key, survey->threads, survey->thread_count, sizeof(key), by_tid);
	if (!before || now.ticks > before->ticks)
		survey->ran[now.cpu] += now.ticks - (before ? before->ticks : 0);
	return true;
}

/* Where its threads ran most since the round began; false: nowhere. */
static bool find_vcpu(struct survey *survey, pid_t pid)
{
	unsigned most = 0;

	memset(survey->ran, 0, sizeof(survey->ran));
	each_thread(pid, count_thread, survey);
	for (unsigned cpu = 1; cpu < CPUS_MAX; cpu++)
		if (survey->ran[cpu] > survey->ran[most])
			most = cpu;
	survey->vcpu = (uint16_t)survey->vcpus[most];
	return survey->ran[most] > 0;
}

/* ---- pages ---- */

/* A vote: the vCPU that used a page most often is left. */
static void count_use(struct survey *survey, uint64_t frame)
{
	struct use *use = &survey->uses[frame];

	if (!frame || frame >= survey->count)
		return;
	if (!use->seen)
		use->vcpu = survey->vcpu;
	if (use->vcpu == survey->vcpu)
		use->seen++;
	else
		use->seen--;
}

static void look_at_page(void *context, uint64_t entry)
{
	struct survey *survey = context;

	if ((entry & survey->used) == survey->used)
		count_use(survey, PAGEMAP_FRAME(entry));
}

static bool look_at_mapping(void *context, const struct mapping *mapping)
{
	struct survey *survey = context;
	/* Half of what is there was used: all of it, for no more is known of reads. */
	bool all = mapping->referenced * 2 >= mapping->resident;

	if (!mapping->referenced)
		return true;
	survey->used = PAGEMAP_PRESENT | (all ? 0 : PAGEMAP_SOFT_DIRTY);
	return each_page(survey->pagemap, mapping, &survey->patience, look_at_page, survey);
}

static bool look_at_process(void *context, pid_t pid)
{
	struct survey *survey = context;

	if (!find_vcpu(survey, pid))
		return true;
	patience_next_process(&survey->patience, survey->count);
	survey->pagemap = pagemap_open(pid);
	if (survey->pagemap < 0)
		return true;
	each_mapping(pid, true, look_at_mapping, survey);
	close(survey->pagemap);
	return true;
}

/* 1: references; 4: soft-dirty bits. Kernel threads have none. */
static bool clear(void *context, pid_t pid)
{
	char path[64];
	int file;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	file = open(path, O_WRONLY | O_CLOEXEC);
	if (file >= 0 && (write(file, "1", 1) < 0 || write(file, "4", 1) < 0))
		fprintf(stderr, "duet-guestd: %s: cannot clear\n", path);
	if (file >= 0)
		close(file);
	return each_thread(pid, note_thread, context);
}

static bool look_once(struct survey *survey)
{
	const struct timespec moment = {.tv_nsec = ROUND_MS * 1000000L};

	survey->thread_count = 0;
	if (!each_process(clear, survey))
		return false;
	qsort(survey->threads, survey->thread_count, sizeof(*survey->threads), by_tid);
	nanosleep(&moment, NULL);
	patience_begin(&survey->patience, survey->count);
	return each_process(look_at_process, survey);
}

/* ---- runs ---- */

/* The next run behind frame *@at, over gaps of at most @gap pages; false: there is none. */
static bool next_run(const struct survey *survey, size_t gap, size_t *at, struct run *run)
{
	const struct use *uses = survey->uses;
	size_t start, last;

	for (start = *at; start < survey->count && !uses[start].seen; start++)
		;
	if (start == survey->count)
		return false;
	*run = (struct run){start * (uint64_t)PAGE, 0, uses[start].vcpu, uses[start].seen};
	last = start;
	for (size_t i = start + 1; i < survey->count && i - last <= gap + 1; i++) {
		if (!uses[i].seen)
			continue;
		if (uses[i].vcpu != run->vcpu)
			break;
		last = i;
		if (uses[i].seen > run->seen)
			run->seen = uses[i].seen;
	}
	run->pages = last - start + 1;
	*at = last + 1;
	return true;
}

static size_t count_runs(const struct survey *survey, size_t gap)
{
	size_t at = 0, count = 0;
	struct run run;

	while (next_run(survey, gap, &at, &run))
		count++;
	return count;
}

static bool tell(const struct survey *survey, const struct answer *answer)
{
	size_t gap = 0, at = 0;
	struct run run;

	while (count_runs(survey, gap) > RUNS_MAX && gap < survey->count)
		gap = 2 * gap + 1;
	while (next_run(survey, gap, &at, &run) && answer_run(answer, &run))
		;
	return answer_end(answer);
}

bool locality(const struct answer *answer)
{
	static struct survey survey;
	bool good;

	survey = (struct survey){.count = frames()};
	survey.uses = calloc(survey.count + 1, sizeof(*survey.uses));
	good = survey.count && survey.uses;
	if (!good)
		fprintf(stderr, "duet-guestd: /proc/iomem tells no memory: run it as root\n");
	read_vcpus(&survey);
	for (unsigned round = 0; round < ROUNDS && good; round++)
		good = look_once(&survey);
	if (good)
		good = tell(&survey, answer);
	free(survey.threads);
	free(survey.uses);
	return good;
}
