/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine gives up and takes when it moves: disks, the guest's time, its place on a network;
 * its back ends are real, its guest is not there. */
#include "backend/net_private.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/thread.h"
#include "machine/internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define DISKS 3

static void make_paths(char paths[DISKS][64])
{
	for (unsigned i = 0; i < DISKS; i++) {
		int fd;

		strcpy(paths[i], "/tmp/duet-handover-XXXXXX");
		fd = mkstemp(paths[i]);
		assert_int_equal(ftruncate(fd, 65536), 0);
		close(fd);
	}
}

static struct machine *with_disks(char paths[DISKS][64], bool unclaimed)
{
	struct machine *machine = calloc(1, sizeof(*machine));

	for (unsigned i = 0; i < DISKS; i++) {
		const struct block_options options = {.path = paths[i],
			.lock = !unclaimed,
			.cache = i == 1 ? BLOCK_CACHE_DIRECT : BLOCK_CACHE_WRITEBACK};
		struct error err;

		/* Between others that have none. */
		if (block_open(&machine->backends[2 * i + 1].block, &options, &err) < 0)
			fail_msg("%s", err.text);
	}
	return machine;
}

static void free_machine(struct machine *machine)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
		block_close(machine->backends[i].block);
	free(machine);
}

static void test_disks_are_one_machine_s_at_a_time(void **state)
{
	char paths[DISKS][64];
	struct machine *source, *target;
	struct error err;

	make_paths(paths);
	source = with_disks(paths, false);
	target = with_disks(paths, true);
	assert_int_equal(machine_claim_disks(target, &err), -EBUSY);
	assert_non_null(strstr(err.text, paths[0]));
	assert_int_equal(machine_release_disks(source, &err), 0);
	assert_int_equal(machine_claim_disks(target, &err), 0);
	assert_int_equal(machine_claim_disks(source, &err), -EBUSY);
	assert_int_equal(machine_release_disks(target, &err), 0);
	assert_int_equal(machine_claim_disks(source, &err), 0);
	/* What it has already does not hinder it. */
	assert_int_equal(machine_claim_disks(source, &err), 0);
	free_machine(source);
	free_machine(target);
	for (unsigned i = 0; i < DISKS; i++)
		unlink(paths[i]);
}

static void test_all_disks_or_none(void **state)
{
	char paths[DISKS][64];
	struct machine *machine;
	struct block *other;
	struct error err;

	make_paths(paths);
	machine = with_disks(paths, true);
	assert_int_equal(
		block_open(&other, &(struct block_options){.path = paths[2], .lock = true}, NULL),
		0);
	assert_int_equal(machine_claim_disks(machine, &err), -EBUSY);
	assert_non_null(strstr(err.text, paths[2]));
	block_close(other);
	for (unsigned i = 0; i < DISKS; i++) {
		const struct block_options options = {.path = paths[i], .lock = true};

		assert_int_equal(block_open(&other, &options, &err), 0);
		block_close(other);
		unlink(paths[i]);
	}
	free_machine(machine);
}

/* ---- its place ---- */

static void read_all(int fd, uint8_t *bytes, size_t length)
{
	while (length) {
		ssize_t got = read(fd, bytes, length);

		assert_true(got > 0);
		bytes += got;
		length -= (size_t)got;
	}
}

/* A frame as passt has it: behind its length. */
static void check_frame(int fd, const uint8_t *mac)
{
	static const uint8_t head[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t kind[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
	uint8_t length[4], frame[60];

	read_all(fd, length, sizeof(length));
	assert_int_equal(length[3], sizeof(frame));
	read_all(fd, frame, sizeof(frame));
	assert_memory_equal(frame, head, 6);
	assert_memory_equal(frame + 6, mac, 6);
	assert_memory_equal(frame + 12, kind, sizeof(kind));
	assert_memory_equal(frame + 22, mac, 6);
	assert_memory_equal(frame + 32, mac, 6);
}

static void test_each_network_hears_of_it_five_times(void **state)
{
	static const uint8_t mac[6] = {2, 1, 2, 3, 4, 5};
	const struct loop_thread_options io = {.name = "duet-io", .entries = 16};
	struct machine *machine = calloc(1, sizeof(*machine));
	struct device_config *config;
	int pair[2];

	machine_config_init(&machine->config);
	machine_config_add(&machine->config, DEVICE_ENTROPY);
	config = machine_config_add(&machine->config, DEVICE_NET);
	memcpy(config->net.mac.bytes, mac, sizeof(mac));
	assert_int_equal(loop_thread_start(&machine->io, &io, NULL), 0);
	machine->place.io = loop_thread_loop(machine->io);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(passt_open_stream(&machine->backends[1].net, pair[0], NULL), 0);
	machine_announce(machine);
	machine_announce(machine);
	for (unsigned i = 0; i < 5; i++)
		check_frame(pair[1], mac);
	loop_thread_quit(machine->io);
	machine_free_announcements(machine);
	net_close(machine->backends[1].net);
	loop_thread_stop(machine->io);
	machine_config_free(&machine->config);
	close(pair[1]);
	free(machine);
}

/* ---- its time ---- */

struct held {
	struct gate gate;
	uint64_t until;
	pthread_t thread;
	_Atomic bool out;
};

static void *hold(void *opaque)
{
	struct held *held = opaque;

	gate_hold(&held->gate, held->until);
	atomic_store(&held->out, true);
	return NULL;
}

static void nobody_inside(void *opaque)
{
}

static void test_a_pause_does_not_wait_for_who_is_throttled(void **state)
{
	static const enum gate_state shut[] = {GATE_SHUT, GATE_LEAVE};

	for (unsigned i = 0; i < ARRAY_SIZE(shut); i++) {
		struct held held = {.until = clock_ns() + 3600 * SECOND_NS};

		gate_init(&held.gate);
		gate_set(&held.gate, GATE_OPEN);
		gate_enter(&held.gate);
		assert_true(gate_pass(&held.gate, nobody_inside, NULL));
		assert_int_equal(thread_start(&held.thread, 65536, hold, &held), 0);
		assert_false(atomic_load(&held.out));
		gate_set(&held.gate, shut[i]);
		pthread_join(held.thread, NULL);
		gate_destroy(&held.gate);
	}
}

static void test_throttled_for_as_long_as_it_was_said(void **state)
{
	struct held held = {.until = clock_ns() + 20000000};

	gate_init(&held.gate);
	gate_set(&held.gate, GATE_OPEN);
	hold(&held);
	assert_true(clock_ns() >= held.until);
	/* Over already. */
	hold(&held);
	gate_destroy(&held.gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disks_are_one_machine_s_at_a_time),
		cmocka_unit_test(test_all_disks_or_none),
		cmocka_unit_test(test_each_network_hears_of_it_five_times),
		cmocka_unit_test(test_a_pause_does_not_wait_for_who_is_throttled),
		cmocka_unit_test(test_throttled_for_as_long_as_it_was_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
