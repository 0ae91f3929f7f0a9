/* SPDX-License-Identifier: Apache-2.0 */
/* Whole machines without a kernel: saved and restored, and state from a hostile file: altered with
 * its checksums right, cut, doubled. Each is refused with words, or makes a machine that can be run
 * and ended. */
#include "tiny.h"

#include "base/bytes.h"
#include "base/log.h"
#include "machine/machine.h"
#include "state/crc32c.h"
#include "state/state.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 60

static char disk[] = "/tmp/duet-tiny-XXXXXX";
static struct loop *loop;
static int nowhere;

static void changed(void *opaque, enum machine_state state)
{
	(void)opaque;
	if (state == MACHINE_ENDED)
		loop_stop(loop);
}

static void add_disk(struct machine_config *config, enum disk_model model)
{
	struct device_config *device = machine_config_add(config, DEVICE_DISK);

	device->disk.path = strdup(disk);
	device->disk.model = model;
	device->disk.readonly = model == DISK_VIRTIO;
}

/* With a device of each kind that needs nothing of the host. */
static struct machine *new_machine(enum disk_model model)
{
	struct machine_owner owner = {.loop = loop, .output = nowhere, .changed = changed};
	struct machine_config config;
	struct machine *machine;
	struct error err = {0};
	int ret;

	machine_config_init(&config);
	config.kernel = strdup("/nonexistent");
	config.memory = 16ULL << 20;
	config.cpus = 2;
	config.console = CONSOLE_VIRTIO;
	add_disk(&config, model);
	ret = machine_new(&machine, &config, &owner, &err);
	machine_config_free(&config);
	if (ret == 0)
		ret = machine_build_bare(machine, &err);
	if (ret < 0) {
		printf("machine: %s\n", err.text);
		exit(1);
	}
	return machine;
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

/* What was saved is what is saved again; clocks apart, which go on. */
static void test_same(enum disk_model model)
{
	struct machine *machine = new_machine(model);
	struct state_writer first, second;
	struct error err = {0};

	save(machine, &first);
	machine_free(machine);
	machine = new_machine(model);
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

/* The last section, with its name, once more. */
static void test_doubled(void)
{
	struct machine *machine = new_machine(DISK_VIRTIO);
	struct state_writer writer;
	struct error err = {0};

	save(machine, &writer);
	machine_free(machine);
	writer.length -= 2 + 3 + 4 + 4 + 4; /* the closing section */
	state_section_begin(&writer, "vm", 1);
	state_section_close(&writer);
	CHECK(state_writer_finish(&writer) == 0);
	machine = new_machine(DISK_VIRTIO);
	CHECK(restore(machine, writer.bytes, writer.length, &err) < 0);
	CHECK(strstr(err.text, "twice"));
	machine_free(machine);
	state_writer_free(&writer);
}

/* Of another machine. */
static void test_another(void)
{
	struct machine *machine = new_machine(DISK_VIRTIO);
	struct state_writer writer;
	struct error err = {0};

	save(machine, &writer);
	machine_free(machine);
	machine = new_machine(DISK_IDE);
	CHECK(restore(machine, writer.bytes, writer.length, &err) < 0);
	CHECK(strstr(err.text, "section"));
	machine_free(machine);
	state_writer_free(&writer);
}

static uint32_t chance(uint64_t *seed, uint32_t below)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33) % below;
}

/* Alters bytes of one section's body, and its checksum with them. */
static void alter(uint8_t *bytes, size_t length, uint64_t *seed)
{
	size_t at = 12, count = 0, chosen = chance(seed, 11);

	while (at < length) {
		size_t name = load_le16(bytes + at);
		size_t body = at + 2 + name + 8, size = load_le32(bytes + body - 4);
		uint32_t crc;

		if (count++ == chosen && size > 0) {
			for (unsigned i = 0; i <= chance(seed, 8); i++)
				bytes[body + chance(seed, (uint32_t)size)] =
					(uint8_t)chance(seed, 256);
			crc = crc32c(0, bytes + at + 2, name + 4);
			crc = crc32c(crc, bytes + body, size);
			store_le32(bytes + body + size, crc);
		}
		at = body + size + 4;
	}
}

static void end_it(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/* Whatever it does: it goes on or ends, and can be killed. */
static void run_shortly(struct machine *machine)
{
	struct loop_timer timer = {.expired = end_it};
	struct error err = {0};

	if (machine_start(machine, &err) < 0)
		return;
	loop_timer_after(loop, &timer, 5000000);
	loop_run(loop);
	loop_timer_stop(&timer);
	if (machine_state(machine) == MACHINE_ENDED)
		return;
	machine_kill(machine, "test");
	loop_run(loop);
	CHECK(machine_state(machine) == MACHINE_ENDED);
}

static void test_hostile(void)
{
	struct machine *machine = new_machine(DISK_VIRTIO);
	struct state_writer writer;
	uint64_t seed = 1;
	unsigned refused = 0;

	save(machine, &writer);
	machine_free(machine);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint8_t *bytes = malloc(writer.length);
		struct error err = {0};

		memcpy(bytes, writer.bytes, writer.length);
		alter(bytes, writer.length, &seed);
		machine = new_machine(DISK_VIRTIO);
		if (restore(machine, bytes, writer.length, &err) < 0) {
			CHECK(err.text[0]);
			refused++;
		} else {
			run_shortly(machine);
		}
		machine_free(machine);
		free(bytes);
	}
	CHECK(refused > 0 && refused < ROUNDS);
	state_writer_free(&writer);
}

int main(void)
{
	struct kvm_host host;
	struct error err = {0};
	int fd = mkstemp(disk);

	if (kvm_host_open(&host, &err) < 0) {
		printf("%s\n", err.text);
		return 77;
	}
	kvm_host_close(&host);
	/* That no kernel is there is said for each of them. */
	log_set_level(LOG_LEVEL_ERROR);
	CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
	nowhere = open("/dev/null", O_WRONLY);
	CHECK(loop_new(&loop, 16, &err) == 0);
	test_same(DISK_VIRTIO);
	test_same(DISK_IDE);
	tiny_ok("machine, saved and restored");
	test_doubled();
	test_another();
	test_hostile();
	tiny_ok("machine, hostile state");
	loop_free(loop);
	unlink(disk);
	return 0;
}
