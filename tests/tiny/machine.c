/* SPDX-License-Identifier: Apache-2.0 */
/* Whole machines, small ones and one with everything, whose drivers are at work: saved and
 * restored, and state from a hostile file: altered with its checksums right, cut, doubled, missing.
 * Each is refused with words, or makes a machine that can be run and ended. */
#include "damage.h"
#include "driver.h"
#include "everything.h"
#include "tiny.h"
#include "whole.h"

#include "base/bytes.h"
#include "state/state.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS  6                   /* for each section */
#define CLOSING (2 + 3 + 4 + 4 + 4) /* bytes of the section that ends a stream */

/* Which machine. */
enum kind {
	PLAIN,
	WITH_IDE,
	EVERYTHING
};

static char disk[] = "/tmp/duet-tiny-XXXXXX";
static char kernel[] = "/tmp/duet-tiny-XXXXXX";
static int nowhere;

static void changed(void *opaque, enum machine_state state)
{
	(void)opaque;
	if (state == MACHINE_ENDED)
		loop_stop(whole_loop);
}

static void add_disk(struct machine_config *config, enum disk_model model)
{
	struct device_config *device = machine_config_add(config, DEVICE_DISK);

	device->disk.path = strdup(disk);
	device->disk.model = model;
	device->disk.readonly = model == DISK_VIRTIO;
}

static void configure(struct machine_config *config, enum kind kind, const char *file)
{
	whole_config(config, file);
	config->console = CONSOLE_VIRTIO;
	if (kind == EVERYTHING)
		everything_add(config);
	else
		add_disk(config, kind == PLAIN ? DISK_VIRTIO : DISK_IDE);
}

/* Without a kernel: it comes with the state. */
static struct machine *new_machine(enum kind kind)
{
	const struct machine_owner owner = {
		.loop = whole_loop, .output = nowhere, .changed = changed};
	struct machine_config config;

	configure(&config, kind, "/nonexistent");
	return whole_new(&config, &owner, true);
}

static void save(struct machine *machine, struct state_writer *writer)
{
	struct error err = {0};

	state_writer_init(writer);
	if (machine_save(machine, writer, &err) < 0) {
		printf("save: %s\n", err.text);
		exit(1);
	}
	CHECK(state_writer_finish(writer) == 0);
}

static int restore(struct machine *machine, const void *bytes, size_t length, struct error *err)
{
	struct state_reader reader;
	int ret = state_reader_init(&reader, bytes, length, err);

	return ret < 0 ? ret : machine_restore(machine, &reader, err);
}

static void pause_done(struct machine_pause *pause, int result, const char *why)
{
	(void)pause;
	(void)why;
	CHECK(result == 0);
	loop_stop(whole_loop);
}

struct up {
	struct machine *machine;
	unsigned devices;
};

static bool are_up(void *opaque)
{
	const struct up *up = opaque;

	return driver_count_up(up->machine) == up->devices;
}

/* It runs, its drivers are at work, and it is paused. */
static struct machine *new_running(enum kind kind)
{
	const struct machine_owner owner = {
		.loop = whole_loop, .output = nowhere, .changed = changed};
	struct machine_pause pause = {.done = pause_done};
	struct machine_config config;
	struct machine *machine;
	struct error err = {0};
	struct up up;

	configure(&config, kind, kernel);
	machine = whole_new(&config, &owner, false);
	/* Console, entropy and perhaps the disk, or all that there are. */
	up = (struct up){machine, kind == EVERYTHING ? everything_virtio() : 2 + (kind == PLAIN)};
	CHECK(machine_start(machine, &err) == 0);
	driver_bring_up(machine);
	whole_run_until(are_up, &up);
	CHECK(machine_pause(machine, &pause, 0) == 0);
	loop_run(whole_loop);
	CHECK(machine_is_paused(machine));
	return machine;
}

static void end_running(struct machine *machine)
{
	whole_end(machine);
	machine_free(machine);
}

/* What was saved, of a machine that is gone. */
static void save_one(enum kind kind, struct state_writer *writer)
{
	struct machine *machine = new_running(kind);

	save(machine, writer);
	end_running(machine);
}

/* What was saved is what is saved again; clocks apart, which go on. */
static void test_same(enum kind kind)
{
	struct machine *machine;
	struct state_writer first, second;
	struct error err = {0};

	save_one(kind, &first);
	machine = new_machine(kind);
	if (restore(machine, first.bytes, first.length, &err) < 0) {
		printf("restore: %s\n", err.text);
		exit(1);
	}
	save(machine, &second);
	CHECK(first.length == second.length);
	state_writer_free(&first);
	state_writer_free(&second);
	machine_free(machine);
}

/* Of another machine. */
static void test_another(void)
{
	struct machine *machine;
	struct state_writer writer;
	struct error err = {0};

	save_one(PLAIN, &writer);
	machine = new_machine(WITH_IDE);
	CHECK(restore(machine, writer.bytes, writer.length, &err) < 0);
	CHECK(strstr(err.text, "section"));
	machine_free(machine);
	state_writer_free(&writer);
}

static void end_it(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(whole_loop);
}

/* Whatever it does: it goes on or ends, and comes to rest. */
static void run_shortly(struct machine *machine)
{
	struct loop_timer timer = {.expired = end_it};
	struct error err = {0};

	if (machine_start(machine, &err) < 0)
		return;
	loop_timer_after(whole_loop, &timer, 5000000);
	loop_run(whole_loop);
	loop_timer_stop(&timer);
	if (machine_state(machine) != MACHINE_ENDED)
		whole_end(machine);
}

/* False: it is refused, with words. */
static bool is_taken(enum kind kind, const void *bytes, size_t length, struct error *err)
{
	struct machine *machine = new_machine(kind);
	int ret;

	*err = (struct error){0};
	CHECK(memory_write(machine_memory(machine), GPA(WHOLE_KERNEL), whole_halting,
		      sizeof(whole_halting)) == 0);
	ret = restore(machine, bytes, length, err);
	CHECK(ret == 0 || err->text[0]);
	if (ret == 0)
		run_shortly(machine);
	machine_free(machine);
	return ret == 0;
}

static unsigned sections(const struct state_writer *writer)
{
	struct damage_place place;
	unsigned count = 0;

	while (damage_find(writer->bytes, writer->length, count, &place))
		count++;
	CHECK(count > 6);
	return count;
}

/* Section after section, so that none is left out. */
static void test_altered(enum kind kind)
{
	struct state_writer writer;
	unsigned refused = 0, rounds;
	uint64_t seed = 1;

	save_one(kind, &writer);
	rounds = ROUNDS * sections(&writer);
	for (unsigned round = 0; round < rounds; round++) {
		uint8_t *bytes = malloc(writer.length);
		struct damage_place place;
		struct error err;

		memcpy(bytes, writer.bytes, writer.length);
		CHECK(damage_find(bytes, writer.length, round / ROUNDS, &place));
		damage_section(bytes, &place, &seed);
		refused += !is_taken(kind, bytes, writer.length, &err);
		free(bytes);
	}
	CHECK(refused > 0 && refused < rounds);
	state_writer_free(&writer);
}

static void test_cut(enum kind kind)
{
	struct state_writer writer;
	struct damage_place place;
	struct error err;

	save_one(kind, &writer);
	CHECK(is_taken(kind, writer.bytes, writer.length, &err));
	for (unsigned i = 0; damage_find(writer.bytes, writer.length, i, &place); i++) {
		CHECK(!is_taken(kind, writer.bytes, place.begin, &err));
		CHECK(!is_taken(kind, writer.bytes, place.body + place.length / 2, &err));
	}
	state_writer_free(&writer);
}

/* Each section in turn, once more before the closing one. */
static void test_doubled(enum kind kind)
{
	struct state_writer writer;
	struct damage_place place;

	save_one(kind, &writer);
	for (unsigned i = 0; damage_find(writer.bytes, writer.length, i, &place); i++) {
		const size_t before = writer.length - CLOSING, size = place.end - place.begin;
		uint8_t *bytes = malloc(writer.length + size);
		struct error err;

		memcpy(bytes, writer.bytes, before);
		memcpy(bytes + before, writer.bytes + place.begin, size);
		memcpy(bytes + before + size, writer.bytes + before, CLOSING);
		CHECK(!is_taken(kind, bytes, writer.length + size, &err));
		CHECK(strstr(err.text, place.name) && strstr(err.text, "twice"));
		free(bytes);
	}
	state_writer_free(&writer);
}

/* Each section in turn: without it, and with one of a duet that is to come. */
static void test_missing_and_newer(enum kind kind)
{
	struct state_writer writer;
	struct damage_place place;

	save_one(kind, &writer);
	for (unsigned i = 0; damage_find(writer.bytes, writer.length, i, &place); i++) {
		const size_t rest = writer.length - place.end;
		uint8_t *bytes = malloc(writer.length);
		struct error err;

		memcpy(bytes, writer.bytes, writer.length);
		store_le32(bytes + place.body - 8, 1000);
		damage_seal(bytes, &place);
		CHECK(!is_taken(kind, bytes, writer.length, &err) && strstr(err.text, place.name));
		memmove(bytes + place.begin, bytes + place.end, rest);
		CHECK(!is_taken(kind, bytes, place.begin + rest, &err) &&
			strstr(err.text, place.name));
		free(bytes);
	}
	state_writer_free(&writer);
}

int main(void)
{
	int fd;

	if (!whole_open())
		return 77;
	fd = mkstemp(disk);
	CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
	nowhere = open("/dev/null", O_WRONLY);
	whole_kernel(kernel, whole_halting, sizeof(whole_halting));
	everything_open();
	test_same(PLAIN);
	test_same(WITH_IDE);
	test_same(EVERYTHING);
	tiny_ok("machine, saved and restored");
	test_another();
	test_doubled(EVERYTHING);
	test_cut(EVERYTHING);
	test_missing_and_newer(EVERYTHING);
	test_altered(EVERYTHING);
	tiny_ok("machine, hostile state");
	everything_close();
	whole_close();
	unlink(disk);
	unlink(kernel);
	return 0;
}
