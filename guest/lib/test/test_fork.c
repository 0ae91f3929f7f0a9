/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() of /dev/duet-heap itself, in a guest that has it.
 *   test_fork cases               the odd cases; the last line is "test_fork: N passed"
 *   test_fork limit               in a memory cgroup that has no room for a copy of 24 MiB
 *   test_fork edge GROUP          in that memory cgroup: room for a copy, and not for its tables
 *   test_fork storm FORKS MIB     forks under writers on all CPUs; says what was torn
 * Without the device: exit status 77.
 */
#include "duet/heap_device.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096UL
#define COUNT "/sys/class/misc/duet-heap/"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("test_fork: %s:%d: not so: %s (errno %d)\n", __func__, __LINE__,    \
				#condition, errno);                                                \
			fflush(stdout);                                                            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static int device;

static long count(const char *name)
{
	char path[128], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), COUNT "%s", name);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return atol(text);
}

static long copied(void)
{
	return count("pages_by_host") + count("pages_by_guest");
}

static uint32_t *map(size_t pages)
{
	void *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

static uint32_t *page(uint32_t *memory, size_t number)
{
	return memory + number * (PAGE / sizeof(*memory));
}

static void fill(uint32_t *memory, size_t first, size_t end, uint32_t seed)
{
	for (size_t i = first; i < end; i++)
		for (size_t j = 0; j < PAGE / 4; j += 64)
			page(memory, i)[j] = seed + (uint32_t)(i * 1000 + j);
}

static int holds(uint32_t *memory, size_t first, size_t end, uint32_t seed)
{
	for (size_t i = first; i < end; i++)
		for (size_t j = 0; j < PAGE / 4; j += 64)
			if (page(memory, i)[j] != seed + (uint32_t)(i * 1000 + j))
				return 0;
	return 1;
}

/* The child's status as of waitpid(). */
static int child_of(void (*run)(void *), void *argument)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid) {
		run(argument);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

/* Cases */

static void sees_and_scribbles(void *argument)
{
	uint32_t *memory = argument;

	CHECK(holds(memory, 0, 40, 1));
	fill(memory, 0, 40, 2);
	CHECK(holds(memory, 0, 40, 2));
}

static void child_has_its_own(void)
{
	uint32_t *memory = map(40);

	fill(memory, 0, 40, 1);
	CHECK(child_of(sees_and_scribbles, memory) == 0);
	CHECK(holds(memory, 0, 40, 1));
	munmap(memory, 40 * PAGE);
}

static void sees_sparse(void *argument)
{
	uint32_t *memory = argument;

	CHECK(holds(memory, 7, 9, 1) && holds(memory, 99990, 100000, 1));
	CHECK(!*page(memory, 0) && !*page(memory, 50000));
	*page(memory, 50000) = 4;
}

static void only_touched_pages_are_copied(void)
{
	uint32_t *memory = map(100000);
	long before = copied();

	fill(memory, 7, 9, 1);
	fill(memory, 99990, 100000, 1);
	CHECK(child_of(sees_sparse, memory) == 0);
	CHECK(copied() - before == 12 && !*page(memory, 50000));
	munmap(memory, 100000 * PAGE);
}

static void has_a_child(void *argument)
{
	uint32_t *memory = argument;

	CHECK(holds(memory, 0, 300, 1));
	CHECK(child_of(sees_and_scribbles, memory) == 0);
	fill(memory, 100, 200, 5);
	CHECK(child_of(sees_and_scribbles, memory) == 0);
	CHECK(holds(memory, 0, 40, 1) && holds(memory, 100, 200, 5));
}

static void grandchildren(void)
{
	uint32_t *memory = map(300);

	fill(memory, 0, 300, 1);
	for (unsigned i = 0; i < 3; i++)
		CHECK(child_of(has_a_child, memory) == 0);
	CHECK(holds(memory, 0, 300, 1));
	munmap(memory, 300 * PAGE);
}

static void sees_parts(void *argument)
{
	uint32_t *memory = argument;

	CHECK(holds(memory, 0, 10, 1) && holds(memory, 20, 30, 1) && holds(memory, 35, 50, 1));
	fill(memory, 20, 30, 3);
}

static void split_and_shrunk(void)
{
	uint32_t *memory = map(64);
	long before;

	fill(memory, 0, 64, 1);
	CHECK(!munmap(page(memory, 10), 10 * PAGE));
	CHECK(!munmap(page(memory, 50), 14 * PAGE));
	CHECK(!mprotect(page(memory, 30), 5 * PAGE, PROT_NONE));
	before = copied();
	CHECK(child_of(sees_parts, memory) == 0);
	CHECK(copied() - before == 40);
	CHECK(!mprotect(page(memory, 30), 5 * PAGE, PROT_READ));
	CHECK(holds(memory, 0, 10, 1) && holds(memory, 20, 50, 1));
	CHECK(child_of(sees_parts, memory) == 0);
	munmap(memory, 64 * PAGE);
}

static void sees_moved(void *argument)
{
	CHECK(holds(argument, 0, 16, 1));
}

static void moves_but_does_not_grow(void)
{
	uint32_t *memory = map(16), *place = map(16), *moved;

	fill(memory, 0, 16, 1);
	CHECK(mremap(memory, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK(mremap(memory, 0, 16 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	moved = mremap(memory, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	CHECK(moved == place && holds(moved, 0, 16, 1));
	CHECK(child_of(sees_moved, moved) == 0);
	CHECK(mremap(moved, 16 * PAGE, 8 * PAGE, 0) == moved && holds(moved, 0, 8, 1));
	munmap(moved, 8 * PAGE);
}

static void sees_both(void *argument)
{
	uint32_t **both = argument;

	CHECK(holds(both[0], 0, 20, 1) && holds(both[1], 0, 20, 2));
	fill(both[1], 0, 20, 7);
	CHECK(holds(both[0], 0, 20, 1));
}

static void several_mappings(void)
{
	uint32_t *both[2] = {map(20), map(20)};

	fill(both[0], 0, 20, 1);
	fill(both[1], 0, 20, 2);
	CHECK(child_of(sees_both, both) == 0);
	CHECK(holds(both[0], 0, 20, 1) && holds(both[1], 0, 20, 2));
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, device, PAGE) == MAP_FAILED);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, device, 0) == MAP_FAILED);
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, device, 0) == MAP_FAILED);
	munmap(both[0], 20 * PAGE);
	munmap(both[1], 20 * PAGE);
}

static void runs_another(void *argument)
{
	execl("/proc/self/exe", "test_fork", "nothing", NULL);
	_exit(3);
}

static void exec_and_vfork(void)
{
	uint32_t *memory = map(20);
	pid_t pid;
	int status;
	long before;

	fill(memory, 0, 20, 1);
	CHECK(child_of(runs_another, NULL) == 0);
	before = count("forks");
	pid = vfork();
	if (!pid) {
		memory[1] = 77; /* the parent's own memory, by vfork() */
		execl("/proc/self/exe", "test_fork", "nothing", NULL);
		_exit(3);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(memory[1] == 77 && count("forks") == before);
	munmap(memory, 20 * PAGE);
}

static void has_no_first_half(void *argument)
{
	uint32_t *memory = argument;

	CHECK(msync(memory, PAGE, MS_ASYNC) < 0 && errno == ENOMEM);
	CHECK(holds(memory, 10, 20, 1));
}

static void dontfork(void)
{
	uint32_t *memory = map(20);
	long before = copied();

	fill(memory, 0, 20, 1);
	CHECK(!madvise(memory, 10 * PAGE, MADV_DONTFORK));
	CHECK(child_of(has_no_first_half, memory) == 0);
	CHECK(copied() - before == 10 && holds(memory, 0, 20, 1));
	munmap(memory, 20 * PAGE);
}

static void sees_given_back(void *argument)
{
	CHECK(holds(argument, 0, 8, 1) && holds(argument, 24, 60, 1) && !*page(argument, 9));
}

static void gives_pages_back(void)
{
	uint32_t *memory = map(64);
	struct duet_heap_range range = {(uintptr_t)page(memory, 8), 16 * PAGE};
	struct duet_heap_range bad = {(uintptr_t)memory, 65 * PAGE};
	long before;

	CHECK(!munmap(page(memory, 64 - 1), PAGE)); /* nothing behind it */
	fill(memory, 0, 60, 1);
	CHECK(ioctl(device, DUET_HEAP_FREE, &range) == 0);
	CHECK(ioctl(device, DUET_HEAP_FREE, &bad) < 0 && errno == EINVAL);
	bad.length = 0;
	CHECK(ioctl(device, DUET_HEAP_FREE, &bad) < 0 && errno == EINVAL);
	bad = (struct duet_heap_range){UINT64_MAX & ~(PAGE - 1), 2 * PAGE};
	CHECK(ioctl(device, DUET_HEAP_FREE, &bad) < 0 && errno == EINVAL);
	bad = (struct duet_heap_range){(uintptr_t)&bad & ~(PAGE - 1), PAGE};
	CHECK(ioctl(device, DUET_HEAP_FREE, &bad) < 0 && errno == EINVAL);
	CHECK(holds(memory, 0, 8, 1) && holds(memory, 24, 60, 1));
	before = copied();
	CHECK(child_of(sees_given_back, memory) == 0);
	CHECK(copied() - before == 60 - 16);
	for (unsigned i = 8; i < 24; i++)
		CHECK(!*page(memory, i));
	/* MADV_DONTNEED drops what is mapped, not what is in it. */
	CHECK(!madvise(memory, 8 * PAGE, MADV_DONTNEED) && holds(memory, 0, 8, 1));
	munmap(memory, 63 * PAGE);
}

static void killed_in_the_middle(void)
{
	const size_t pages = 4096;
	uint32_t *memory = map(pages);

	fill(memory, 0, pages, 1);
	for (unsigned i = 0; i < 10; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (!pid) {
			for (;;) {
				pid_t inner = fork();

				if (!inner)
					_exit(0);
				waitpid(inner, NULL, 0);
			}
		}
		usleep(3000 * i);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, NULL, 0) == pid);
		CHECK(holds(memory, 0, pages, 1));
	}
	munmap(memory, pages * PAGE);
}

static void a_child_opens_its_own(void *argument)
{
	uint32_t *memory = map(10), *old = argument;

	fill(memory, 0, 10, 8);
	CHECK(holds(old, 0, 10, 1) && holds(memory, 0, 10, 8));
	CHECK(!munmap(old, 10 * PAGE) && holds(memory, 0, 10, 8));
}

static void children_map_more(void)
{
	uint32_t *memory = map(10);

	fill(memory, 0, 10, 1);
	CHECK(child_of(a_child_opens_its_own, memory) == 0 && holds(memory, 0, 10, 1));
	munmap(memory, 10 * PAGE);
}

static int cases(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		{"a child has its own copy", child_has_its_own},
		{"only touched pages are copied", only_touched_pages_are_copied},
		{"grandchildren", grandchildren},
		{"split and shrunk mappings", split_and_shrunk},
		{"moves but does not grow", moves_but_does_not_grow},
		{"several mappings", several_mappings},
		{"exec and vfork", exec_and_vfork},
		{"MADV_DONTFORK", dontfork},
		{"gives pages back", gives_pages_back},
		{"killed in the middle", killed_in_the_middle},
		{"children map more", children_map_more},
	};
	const unsigned number = sizeof(all) / sizeof(*all);
	long failed = count("failed");

	for (unsigned i = 0; i < number; i++) {
		all[i].run();
		printf("test_fork: %s\n", all[i].name);
		fflush(stdout);
	}
	printf("test_fork: %ld forks without a copy; %u passed\n", count("failed") - failed,
		number);
	return 0;
}

/* No room for a copy */

static void touches(void *argument)
{
	*(volatile uint32_t *)argument = 1;
}

static int limit(void)
{
	const size_t pages = 6144;
	uint32_t *memory = map(pages), *more;
	long before = count("failed");
	int status;

	fill(memory, 0, pages, 1);
	status = child_of(touches, memory);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	CHECK(child_of(runs_another, NULL) == 0);
	CHECK(count("failed") - before == 2 && holds(memory, 0, pages, 1));
	/* With room again it goes on. */
	munmap(page(memory, 100), (pages - 100) * PAGE);
	more = map(100);
	fill(more, 0, 100, 3);
	CHECK(child_of(sees_moved, memory) == 0 && count("failed") - before == 2);
	printf("test_fork: limit passed\n");
	return 0;
}

/* A page here and there: each has a page table of its own, also in the child. The group has room
 * for less than half of these, whatever the kernel has set aside for it (64 pages on each CPU). */
#define EDGE_PAGES  256
#define EDGE_STRIDE 512
#define EDGE_ROOM   94 /* beside the pages: what they are listed in, and what any fork takes */

static const char *edge_group;

static void set_limit(const char *bytes)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/memory.max", edge_group);
	fd = open(path, O_WRONLY);
	CHECK(fd >= 0 && write(fd, bytes, strlen(bytes)) == (ssize_t)strlen(bytes));
	close(fd);
}

static unsigned long group_holds(void)
{
	char path[128], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/memory.current", edge_group);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strtoul(text, NULL, 10);
}

static void sees_edge(void *argument)
{
	set_limit("max");
	for (size_t i = 0; i < EDGE_PAGES; i++)
		CHECK(*page(argument, i * EDGE_STRIDE) == i + 1);
}

static int edge(const char *group)
{
	uint32_t *memory = map(EDGE_PAGES * EDGE_STRIDE);
	long before = count("failed");
	char bytes[32];

	edge_group = group;
	for (size_t i = 0; i < EDGE_PAGES; i++)
		*page(memory, i * EDGE_STRIDE) = (uint32_t)i + 1;
	snprintf(bytes, sizeof(bytes), "%lu", group_holds() + (EDGE_PAGES + EDGE_ROOM) * PAGE);
	set_limit(bytes);
	CHECK(child_of(sees_edge, memory) == 0 && count("failed") == before);
	printf("test_fork: edge passed\n");
	return 0;
}

/* Forks under writers, which write to nothing but the heap: a fork stops them at their first write
 * to ordinary memory, which the control must not rely on. Each has a word of its own in every page
 * and goes round, up or down; at one instant a round's number is in the first pages, the number
 * before it in the others. */

static struct {
	uint32_t *memory;
	size_t pages;
	unsigned writers;
	_Atomic int stop;
} storm;

static volatile uint32_t *word(unsigned writer, size_t step)
{
	size_t number = writer % 2 ? storm.pages - 1 - step : step;

	return page(storm.memory, number) + writer * 16;
}

static void *writes(void *argument)
{
	unsigned writer = (unsigned)(uintptr_t)argument;

	for (uint32_t round = 1; !storm.stop; round++)
		for (size_t i = 0; i < storm.pages; i++)
			*word(writer, i) = round;
	return NULL;
}

static int is_torn(unsigned writer)
{
	uint32_t first = *word(writer, 0), before = first, now;

	for (size_t i = 1; i < storm.pages; i++, before = now) {
		now = *word(writer, i);
		if (now > before || first - now > 1)
			return 1;
	}
	return 0;
}

static uint32_t sum(void)
{
	uint32_t all = 0;

	for (size_t i = 0; i < storm.pages; i++)
		for (unsigned j = 0; j < storm.writers; j++)
			all = all * 31 + *word(j, i);
	return all;
}

/* Of the writer that has made the fewest. */
static uint32_t rounds(void)
{
	uint32_t least = UINT32_MAX;

	for (unsigned i = 0; i < storm.writers; i++)
		if (*word(i, storm.pages - 1) < least)
			least = *word(i, storm.pages - 1);
	return least;
}

/* 1: torn, 2: it changed while it was looked at, 4: what nobody writes to is not as it was. */
static void looks(void *argument)
{
	int found = 0;
	uint32_t before = sum();

	for (unsigned i = 0; i < storm.writers; i++)
		found |= is_torn(i);
	usleep(2000);
	if (sum() != before)
		found |= 2;
	for (size_t i = 0; i < storm.pages; i++)
		if (page(storm.memory, i)[1000] != i * 7)
			found |= 4;
	memset(storm.memory, 0xee, storm.pages * PAGE);
	_exit(found);
}

static int run_storm(unsigned forks, size_t mebibytes)
{
	unsigned torn = 0, changed = 0, wrong = 0;
	pthread_t threads[64];

	storm.pages = mebibytes * 256;
	storm.memory = mmap((void *)(1UL << 32), storm.pages * PAGE, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_FIXED_NOREPLACE, device, 0);
	CHECK(storm.memory != MAP_FAILED);
	storm.writers = (unsigned)get_nprocs() < 48 ? (unsigned)get_nprocs() : 48;
	for (size_t i = 0; i < storm.pages; i++)
		page(storm.memory, i)[1000] = (uint32_t)(i * 7);
	for (uintptr_t i = 0; i < storm.writers; i++)
		CHECK(!pthread_create(&threads[i], NULL, writes, (void *)i));
	while (rounds() < 2)
		usleep(1000);
	for (unsigned i = 0; i < forks; i++) {
		int status = child_of(looks, NULL);

		CHECK(WIFEXITED(status));
		torn += WEXITSTATUS(status) & 1;
		changed += WEXITSTATUS(status) >> 1 & 1;
		wrong += WEXITSTATUS(status) >> 2 & 1;
	}
	storm.stop = 1;
	for (unsigned i = 0; i < storm.writers; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < storm.pages; i++)
		wrong += page(storm.memory, i)[1000] != i * 7;
	printf("test_fork: storm: forks %u writers %u rounds %u torn %u changed %u wrong %u\n",
		forks, storm.writers, rounds(), torn, changed, wrong);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "cases";

	if (!strcmp(what, "nothing"))
		return 0;
	device = open(DUET_HEAP_DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		printf("test_fork: %s: %s\n", DUET_HEAP_DEVICE, strerror(errno));
		return 77;
	}
	if (!strcmp(what, "storm") && argc == 4)
		return run_storm((unsigned)atoi(argv[2]), (size_t)atoi(argv[3]));
	if (!strcmp(what, "edge") && argc == 3)
		return edge(argv[2]);
	return !strcmp(what, "limit") ? limit() : cases();
}
