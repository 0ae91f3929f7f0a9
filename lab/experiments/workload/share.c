/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that guests have in common, and memory that each has for itself; bursts of writes into the
 * first; and, on the host, what of processes' memory could be shared, found by hashing all of it.
 */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define PAGE    4096
#define WORDS   (PAGE / sizeof(uint64_t))
#define PRESENT (1ULL << 63) /* of /proc/PID/pagemap, */
#define FRAME   ((1ULL << 55) - 1)
#define ANON    (1ULL << 12) /* and of /proc/kpageflags */

static uint64_t next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void fill(uint64_t *page, uint64_t seed)
{
	for (size_t i = 0; i < WORDS; i++)
		page[i] = next(&seed);
}

/* ---- in guests ---- */

/* A child goes on in the background and holds @pages; the caller ends once it does. It touches them
 * itself: fork() leaves what is mapped of a file to be found again. */
static void leave_behind(const volatile char *pages, size_t count)
{
	int ready[2];
	char byte = 0;
	pid_t child;

	if (pipe(ready) < 0 || (child = fork()) < 0)
		fail("fork");
	if (child) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			fail("the one who stays");
		return;
	}
	for (size_t i = 0; i < count; i++)
		(void)pages[i * PAGE];
	if (write(ready[1], &byte, 1) != 1)
		_exit(1);
	close(STDIN_FILENO);
	for (;;)
		pause();
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0755);

	if (fd < 0)
		fail(path);
	return fd;
}

static void write_page(int fd, unsigned long index)
{
	uint64_t page[WORDS];

	fill(page, index);
	if (pwrite(fd, page, PAGE, (off_t)index * PAGE) != PAGE)
		fail("write");
}

int library(char **args)
{
	const unsigned long count = number(args[1]);
	int fd = open_file(args[0], O_RDWR | O_CREAT | O_TRUNC);
	const char *mapped;

	for (unsigned long i = 0; i < count; i++)
		write_page(fd, i);
	mapped = mmap(NULL, count * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		fail(args[0]);
	leave_behind(mapped, count);
	printf("{\"pages\": %lu}\n", count);
	return 0;
}

int data(char **args)
{
	const size_t count = number(args[0]) * (1048576 / PAGE);
	char *pages = mmap(
		NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t seed;

	if (pages == MAP_FAILED || getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		fail("memory");
	for (size_t i = 0; i < count; i++)
		fill((uint64_t *)(void *)(pages + i * PAGE), seed + (i << 20));
	leave_behind(pages, count);
	printf("{\"pages\": %zu}\n", count);
	return 0;
}

int burst(char **args)
{
	const unsigned long first = number(args[1]), count = number(args[2]),
			    writes = number(args[3]);
	int fd = open_file(args[0], O_WRONLY);
	uint64_t seed = first + 1;
	bool *touched = calloc(count, 1);
	unsigned long distinct = 0;

	if (!touched || !count)
		fail("memory");
	for (unsigned long i = 0; i < writes; i++) {
		const uint64_t word = next(&seed), page = word % count;

		distinct += !touched[page];
		touched[page] = true;
		if (pwrite(fd, &word, sizeof(word), (off_t)((first + page) * PAGE)) < 0)
			fail("write");
	}
	free(touched);
	printf("{\"distinct\": %lu}\n", distinct);
	return 0;
}

/* ---- on the host ---- */

struct hashes {
	uint64_t *of; /* each page */
	size_t count, room;
};

static uint64_t hash(const uint64_t *page)
{
	uint64_t sum = 0xcbf29ce484222325;

	for (size_t i = 0; i < WORDS; i++) {
		sum = (sum ^ page[i]) * 0x9fb21c651e98df25;
		sum ^= sum >> 32;
	}
	return sum;
}

static void add_page(struct hashes *hashes, const uint64_t *page)
{
	if (hashes->count == hashes->room) {
		hashes->room = hashes->room ? hashes->room * 2 : 65536;
		hashes->of = reallocarray(hashes->of, hashes->room, sizeof(*hashes->of));
		if (!hashes->of)
			fail("memory");
	}
	hashes->of[hashes->count++] = hash(page);
}

static int open_proc(const char *pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s%s%s", pid, *pid ? "/" : "", name);
	return open_file(path, O_RDONLY);
}

static uint64_t entry_of(int file, uint64_t index)
{
	uint64_t entry;

	return pread(file, &entry, sizeof(entry), (off_t)(index * sizeof(entry))) == sizeof(entry)
		       ? entry
		       : 0;
}

/* Where a guest has only read so far, the kernel's page of zeroes is: it costs nothing, and is none
 * that KSM could merge. */
static bool can_merge(int map, int flags, uint64_t address)
{
	const uint64_t entry = entry_of(map, address / PAGE);

	return entry & PRESENT && entry_of(flags, entry & FRAME) & ANON;
}

struct process {
	int memory, map, flags;
};

static void add_mapping(
	struct hashes *hashes, const struct process *process, uint64_t from, uint64_t to)
{
	uint64_t page[WORDS];

	for (uint64_t at = from; at < to; at += PAGE)
		if (can_merge(process->map, process->flags, at) &&
			pread(process->memory, page, PAGE, (off_t)at) == PAGE)
			add_page(hashes, page);
}

/* Mappings that are offered have "mg" among their VmFlags. */
static void add_process(struct hashes *hashes, const char *pid)
{
	const struct process process = {.memory = open_proc(pid, "mem"),
		.map = open_proc(pid, "pagemap"),
		.flags = open_proc("", "kpageflags")};
	FILE *maps = fdopen(open_proc(pid, "smaps"), "r");
	uint64_t from = 0, to = 0, start, end;
	char line[512];

	if (!maps)
		fail("smaps");
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
			from = start;
			to = end;
		} else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " mg")) {
			add_mapping(hashes, &process, from, to);
		}
	}
	fclose(maps);
	close(process.memory);
	close(process.map);
	close(process.flags);
}

static int by_value(const void *one, const void *other)
{
	const uint64_t *a = one, *b = other;

	return *a < *b ? -1 : *a > *b;
}

int shareable(char **args)
{
	struct hashes hashes = {0};
	size_t distinct = 0, alone = 0;

	for (char *pid; (pid = strsep(&args[0], ","));)
		add_process(&hashes, pid);
	if (hashes.count)
		qsort(hashes.of, hashes.count, sizeof(*hashes.of), by_value);
	for (size_t i = 0, end; i < hashes.count; i = end) {
		for (end = i + 1; end < hashes.count && hashes.of[end] == hashes.of[i];)
			end++;
		distinct++;
		alone += end == i + 1;
	}
	printf("{\"pages\": %zu, \"distinct\": %zu, \"same\": %zu}\n", hashes.count, distinct,
		hashes.count - alone);
	free(hashes.of);
	return 0;
}
