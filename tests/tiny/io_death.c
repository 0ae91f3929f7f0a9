/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O loop's io_uring fails while a guest runs, and while it is paused: the machine ends, and
 * says why. */
#include "tiny.h"
#include "whole.h"

#include "machine/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LETTERS    200 /* that the guest has typed before */
#define PATIENCE_S 120 /* a machine that does not end fails the test */

/* Letters at the serial port, for ever. */
static const uint8_t typing[] = {
	0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
	0xb0, 'x',              /* mov $'x', %al */
	0xee,                   /* 1: out %al, %dx */
	0xeb, 0xfd,             /* jmp 1b */
};

struct dying {
	struct machine *machine;
	int out[2]; /* the console's pipe */
	uint64_t typed;
	unsigned ends;    /* times that its owner was told */
	unsigned answers; /* to the pause */
	struct machine_pause pause;
};

/* Those that are stuck are never freed; here they are found by who looks for leaks. */
static struct dying dyings[2];

static bool is_ring(const char *name)
{
	char path[64], target[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%.16s", name);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = 0;
	return strcmp(target, "anon_inode:[io_uring]") == 0;
}

/* Into @rings, by descriptor: whether it is a ring. */
static void find_rings(bool rings[256])
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;

	CHECK(dir);
	memset(rings, 0, 256 * sizeof(*rings));
	while ((entry = readdir(dir)))
		if (is_ring(entry->d_name)) {
			CHECK(atoi(entry->d_name) < 256);
			rings[atoi(entry->d_name)] = true;
		}
	closedir(dir);
}

/* The one that is there now and was not @before. */
static int new_ring(const bool before[256])
{
	bool now[256];
	int found = -1;

	find_rings(now);
	for (int fd = 0; fd < 256; fd++) {
		if (!now[fd] || before[fd])
			continue;
		CHECK(found < 0);
		found = fd;
	}
	CHECK(found >= 0);
	return found;
}

static void changed(void *opaque, enum machine_state state)
{
	struct dying *dying = opaque;

	dying->ends += state == MACHINE_ENDED;
}

static bool types(void *opaque)
{
	struct dying *dying = opaque;
	char bytes[4096];
	ssize_t got;

	while ((got = read(dying->out[0], bytes, sizeof(bytes))) > 0)
		dying->typed += (uint64_t)got;
	return dying->typed >= LETTERS;
}

static void begin(struct dying *dying, const char *kernel)
{
	struct machine_owner owner = {.loop = whole_loop, .changed = changed, .opaque = dying};
	struct machine_config config;
	struct error err = {0};

	CHECK(pipe2(dying->out, O_CLOEXEC | O_NONBLOCK) == 0);
	owner.output = dying->out[1];
	whole_config(&config, kernel);
	dying->machine = whole_new(&config, &owner, false);
	CHECK(machine_start(dying->machine, &err) == 0);
	whole_run_until(types, dying);
}

static void nothing(struct loop_task *task)
{
	(void)task;
}

/* The loop waits in the ring, which stays until it wakes; the next time it asks another file. */
static void kill_ring(struct machine *machine, int ring)
{
	static struct loop_task wake = {.run = nothing};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK(null >= 0 && dup2(null, ring) == ring);
	close(null);
	loop_post(machine->place.io, &wake);
}

static bool has_ended(void *opaque)
{
	types(opaque);
	return machine_state(((struct dying *)opaque)->machine) == MACHINE_ENDED;
}

static void expect_the_end(struct dying *dying)
{
	static const char words[] = "the I/O thread: io_uring: ";
	const char *why;

	whole_run_until(has_ended, dying);
	CHECK(machine_outcome(dying->machine, &why) == MACHINE_FAILED);
	printf("%s\n", why);
	CHECK(strncmp(why, words, strlen(words)) == 0 && why[strlen(words)]);
	CHECK(machine_is_stuck(dying->machine));
	CHECK(dying->ends == 1);
	machine_free(dying->machine); /* leaves it, for its I/O will never come to rest */
}

static void test_while_it_runs(struct dying *dying, const char *kernel)
{
	bool before[256];

	find_rings(before);
	begin(dying, kernel);
	kill_ring(dying->machine, new_ring(before));
	expect_the_end(dying);
}

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct dying *dying = container_of(pause, struct dying, pause);

	(void)why;
	CHECK(result == 0);
	dying->answers++;
}

static bool is_paused(void *opaque)
{
	types(opaque);
	return machine_is_paused(((struct dying *)opaque)->machine);
}

static void test_while_it_is_paused(struct dying *dying, const char *kernel)
{
	bool before[256];

	find_rings(before);
	begin(dying, kernel);
	dying->pause.done = paused;
	CHECK(machine_pause(dying->machine, &dying->pause, 0) == 0);
	whole_run_until(is_paused, dying);
	CHECK(dying->answers == 1);
	kill_ring(dying->machine, new_ring(before));
	expect_the_end(dying);
}

int main(void)
{
	char kernel[] = "/tmp/duet-io-death-XXXXXX";

	if (!whole_open())
		return 77;
	alarm(PATIENCE_S);
	whole_kernel(kernel, typing, sizeof(typing));
	test_while_it_runs(&dyings[0], kernel);
	test_while_it_is_paused(&dyings[1], kernel);
	unlink(kernel);
	tiny_ok("the end of the I/O loop");
	return 0;
}
