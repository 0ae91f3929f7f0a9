/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net with its rings handed over, to a vhost-net of the test's own: open() and ioctl() end
 * up here. */
#include "device_rig.h"
#include "device_stats.h"

#include "backend/net_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <linux/vhost.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define FEATURES   (VIRTIO_FEATURE(5) /* MAC */ | VIRTIO_FEATURE(17) /* CTRL_VQ */)
#define FEATURE_MQ VIRTIO_FEATURE(22)
#define PAIRS      8
#define DATA       DEVICE_RIG_DATA

/* Of each pair; the count of rings that were started and given back. */
static struct vhost_fake {
	int fd;
	_Atomic int backends[2], faults[2]; /* of the rings; -1: none */
	unsigned bases[2];                  /* I/O loop */
} vhosts[PAIRS], *const vhost = &vhosts[0];
static unsigned opened;
static _Atomic unsigned starts, stops;
static unsigned stop_us; /* what it takes the kernel to give a ring back */

/* By the linker's --wrap. */
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

int __wrap_open64(const char *path, int flags, ...)
{
	if (strcmp(path, "/dev/vhost-net") != 0)
		return __real_open64(path, flags);
	assert_true(opened < PAIRS);
	vhosts[opened].fd = eventfd(0, EFD_CLOEXEC);
	return vhosts[opened++].fd;
}

static void set_file(
	struct vhost_fake *fake, unsigned long request, const struct vhost_vring_file *file)
{
	if (request == VHOST_SET_VRING_ERR)
		fake->faults[file->index] = file->fd;
	if (request != VHOST_NET_SET_BACKEND)
		return;
	if (file->fd >= 0) {
		starts++;
	} else if (fake->backends[file->index] >= 0) {
		usleep(stop_us);
		stops++;
	}
	fake->backends[file->index] = file->fd;
}

static struct vhost_fake *fake_of(int fd)
{
	for (unsigned i = 0; i < opened; i++)
		if (vhosts[i].fd == fd)
			return &vhosts[i];
	return NULL;
}

/* It moves no frames: a ring is where it was when it was handed over. */
static void base(struct vhost_fake *fake, unsigned long request, struct vhost_vring_state *state)
{
	if (request == VHOST_SET_VRING_BASE)
		fake->bases[state->index] = state->num;
	else
		state->num = fake->bases[state->index];
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	struct vhost_fake *fake = fake_of(fd);

	if (!fake) {
		errno = ENOTTY;
		return -1;
	}
	if (request == VHOST_GET_FEATURES)
		*(uint64_t *)argument = ~0ULL;
	if (request == VHOST_SET_VRING_BASE || request == VHOST_GET_VRING_BASE)
		base(fake, request, argument);
	if (request == VHOST_SET_VRING_ERR || request == VHOST_NET_SET_BACKEND)
		set_file(fake, request, argument);
	return 0;
}

static void net_close_nothing(struct net *net)
{
	free(net);
}

static void set_number(struct net *net, unsigned number)
{
}

/* Frames that duet's own path has sent. */
static _Atomic unsigned sent;

static int none(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	return -EAGAIN;
}

static int send_away(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	sent++;
	return 0;
}

/* Its frames are the kernel's business, most often. */
static const struct net_ops no_ops = {
	.close = net_close_nothing,
	.set_offloads = set_number,
	.set_queues = set_number,
	.send = send_away,
	.receive = none,
};

/* The device's. */
static struct net *net;

static void rig_init_pairs(struct device_rig *rig, unsigned pairs)
{
	struct virtio_net_options options = {.mac = {2}, .vhost = true, .queue_pairs = pairs};
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	for (unsigned i = 0; i < PAIRS; i++)
		vhosts[i] = (struct vhost_fake){.fd = -1, .backends = {-1, -1}, .faults = {-1, -1}};
	opened = stop_us = 0;
	starts = 0;
	stops = 0;
	options.net = calloc(1, sizeof(*options.net));
	assert_int_equal(net_init(options.net, &no_ops, pairs, &err), 0);
	options.net->is_tap = true;
	for (unsigned i = 0; i < pairs; i++)
		options.net->queues[i].fd = eventfd(0, EFD_CLOEXEC);
	net = options.net;
	fake_machine_init(&rig->machine);
	assert_int_equal(virtio_net_new(&rig->device, "net0", &options, &err), 0);
	device_rig_start(rig);
}

static void rig_init(struct device_rig *rig)
{
	rig_init_pairs(rig, 1);
}

static void await_starts(unsigned count)
{
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && starts != count; i++)
		usleep(1000);
	assert_int_equal(starts, count);
}

/* The kernel gave a ring up, which otherwise nobody would hear of. */
static void test_fault(void **state)
{
	struct device_rig rig;

	(void)state;
	rig_init(&rig);
	for (unsigned i = 1; i <= 4; i++) {
		device_rig_up(&rig, FEATURES, 3);
		await_starts(2 * i);
		assert_true(vhost->faults[0] >= 0 && vhost->faults[1] >= 0);
		usleep(10000);
		assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
		assert_int_equal(eventfd_write(vhost->faults[i % 2], 1), 0);
		assert_true(device_rig_needs_reset(&rig));
		assert_true(fake_host_wait_msi(&rig.machine.host, 0x100));
		assert_true(driver_reset(&rig.driver));
		assert_int_equal(vhost->backends[0], -1);
		assert_int_equal(vhost->faults[1], -1);
	}
	device_rig_free(&rig);
}

static void test_stops_and_goes_on(void **state)
{
	struct device_rig rig;
	struct error err;

	(void)state;
	rig_init(&rig);
	device_rig_up(&rig, FEATURES, 3);
	for (unsigned i = 1; i <= 20; i++) {
		await_starts(2 * i);
		fake_stop(rig.device);
		assert_int_equal(vhost->backends[0], -1);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
	}
	device_rig_free(&rig);
}

/* The next driver has no MSI-X and uses fewer queues: what an earlier one's were is forgotten. */
static void test_handed_over_no_more(void **state)
{
	const struct virtqueue_setup setup = {.size = 64};
	struct device_rig rig;

	(void)state;
	rig_init(&rig);
	device_rig_up(&rig, FEATURES, 3);
	await_starts(2);
	assert_true(driver_reset(&rig.driver));
	fake_guest_config_write(
		&rig.machine, rig.driver.slot, rig.driver.msix_capability + 2, 2, 0);
	assert_true(driver_negotiate(&rig.driver, FEATURES | DEVICE_RIG_FEATURES));
	driver_queue(&rig.driver, 1, &rig.rings[1], 0x100000, &setup, 0xffff);
	driver_ok(&rig.driver);
	/* The doorbell is the last of an activation. */
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && fake_host_doorbells(&rig.machine.host) == 0;
		i++)
		usleep(1000);
	/* Only frames that go through this process are counted. */
	assert_int_equal(device_stat(rig.device, "queue1", "frames"), 0);
	assert_int_equal(starts, 2);
	device_rig_free(&rig);
}

static void await_backends(bool on)
{
	for (unsigned i = 0; i < FAKE_PATIENCE_MS &&
			     ((vhost->backends[0] >= 0) != on || (vhost->backends[1] >= 0) != on);
		i++)
		usleep(1000);
	assert_int_equal(vhost->backends[0] >= 0, on);
	assert_int_equal(vhost->backends[1] >= 0, on);
}

/* While there is a policy the rings are ours, whenever it comes and goes. */
static void test_policy_takes_the_rings_back(void **state)
{
	struct net_policy_options options[2] = {{.deny = true}, {.deny = false}};
	struct device_rig rig;
	struct error err;

	(void)state;
	rig_init(&rig);
	device_rig_up(&rig, FEATURES, 3);
	await_starts(2);
	for (unsigned i = 0; i < 20; i++) {
		struct net_policy *policy = NULL;

		assert_int_equal(net_policy_new(&policy, &options[i % 2], &err), 0);
		assert_int_equal(net_set_policy(net, rig.machine.place.io, policy), 0);
		await_backends(i % 2);
		/* Also for the next driver, and after a pause. */
		if (i == 10)
			device_rig_up(&rig, FEATURES, 3);
		if (i == 14) {
			fake_stop(rig.device);
			assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
		}
		assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	}
	await_backends(true);
	device_rig_free(&rig);
}

/* Posts itself once a round, and notes how many rings were given back between. */
struct watcher {
	struct loop_task task;
	struct loop *loop;
	_Atomic bool stop, stopped;
	unsigned before, most_a_round;
};

static void look(struct loop_task *task)
{
	struct watcher *watcher = container_of(task, struct watcher, task);
	unsigned now = stops;

	if (now - watcher->before > watcher->most_a_round)
		watcher->most_a_round = now - watcher->before;
	watcher->before = now;
	if (watcher->stop)
		watcher->stopped = true;
	else
		loop_post(watcher->loop, task);
}

static void watch_stops(struct watcher *watcher, struct device_rig *rig)
{
	*watcher =
		(struct watcher){.task.run = look, .loop = rig->machine.place.io, .before = stops};
	loop_post(watcher->loop, &watcher->task);
}

/* The two rings of a pair in a round, at most. */
static void no_round_was_long(struct watcher *watcher)
{
	watcher->stop = true;
	while (!watcher->stopped)
		usleep(100);
	assert_in_range(watcher->most_a_round, 1, 2);
}

static void use_pairs(struct device_rig *rig, uint16_t pairs)
{
	const struct ring_buffer buffers[] = {{DATA, 4, false}, {DATA + 32, 1, true}};
	uint8_t *bytes = device_rig_at(rig, DATA);

	bytes[0] = 4;
	bytes[1] = 0;
	store_le16(bytes + 2, pairs);
	bytes[32] = 0xff;
	assert_int_equal(device_rig_request(rig, 2 * PAIRS, buffers, 2, false), 1);
	assert_int_equal(bytes[32], 0);
}

/* Two commands and one kick: the first gives up a pair, which asks for a turn of the queue in whose
 * turn it is. Both have their answers, in their order, and the loop lives. */
static void test_two_commands_in_one_kick(void **state)
{
	const struct ring_buffer pairs[] = {{DATA, 4, false}, {DATA + 32, 1, true}},
				 unknown[] = {{DATA + 64, 3, false}, {DATA + 96, 1, true}};
	struct device_rig rig;
	uint64_t token;
	uint32_t written;

	(void)state;
	rig_init_pairs(&rig, PAIRS);
	device_rig_up(&rig, FEATURES | FEATURE_MQ, 2 * PAIRS + 1);
	use_pairs(&rig, 2);
	await_starts(4);
	for (unsigned i = 0; i < 20; i++) {
		uint8_t *bytes = device_rig_at(&rig, DATA);
		struct ring_driver *ring = &rig.rings[2 * PAIRS];

		bytes[0] = 4;
		bytes[1] = 0;
		store_le16(bytes + 2, 1);
		memset(bytes + 64, 0xff, 3);
		assert_true(ring_driver_offer(ring, pairs, 2, false, 1));
		assert_true(ring_driver_offer(ring, unknown, 2, false, 2));
		driver_kick(&rig.driver, 2 * PAIRS);
		for (uint64_t next = 1; next <= 2; next++) {
			assert_true(driver_await(ring, &token, &written));
			assert_int_equal(token, next);
		}
		use_pairs(&rig, 2);
		await_starts(4 + 2 * (i + 1));
	}
	device_rig_free(&rig);
}

/* A kernel that takes its time to give rings back: the others on this loop have their turns between
 * two pairs, and the driver's answer comes after the last, for nothing may come by a pair then. */
static void test_stops_one_pair_a_round(void **state)
{
	struct watcher watcher;
	struct device_rig rig;
	struct error err;

	(void)state;
	rig_init_pairs(&rig, PAIRS);
	device_rig_up(&rig, FEATURES | FEATURE_MQ, 2 * PAIRS + 1);
	use_pairs(&rig, PAIRS);
	await_starts(2 * PAIRS);
	stop_us = 1000;
	watch_stops(&watcher, &rig);
	use_pairs(&rig, 3);
	assert_int_equal(stops, 2 * (PAIRS - 3));
	for (unsigned i = 0; i < PAIRS; i++)
		assert_int_equal(vhosts[i].backends[1] >= 0, i < 3);
	no_round_was_long(&watcher);
	/* So it is at rest, and for the next driver. */
	use_pairs(&rig, PAIRS);
	await_starts(2 * (2 * PAIRS - 3));
	watch_stops(&watcher, &rig);
	fake_stop(rig.device);
	for (unsigned i = 0; i < PAIRS; i++)
		assert_true(vhosts[i].backends[0] < 0 && vhosts[i].backends[1] < 0);
	no_round_was_long(&watcher);
	assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
	await_starts(2 * (3 * PAIRS - 3));
	watch_stops(&watcher, &rig);
	assert_true(driver_reset(&rig.driver));
	assert_int_equal(stops, 2 * (3 * PAIRS - 3));
	no_round_was_long(&watcher);
	device_rig_free(&rig);
}

/* The log has a word for each 64 pages, of which the first region's come first. */
static bool is_logged(struct device_rig *rig, uint64_t gpa)
{
	uint64_t page = gpa / MEMORY_PAGE;

	return memory_dirty_take(&rig->machine.memory, page / 64) >> page % 64 & 1;
}

static void pause_and(struct device_rig *rig, bool log)
{
	struct error err;

	fake_stop(rig->device);
	assert_int_equal(vhost->backends[0], -1);
	if (log)
		assert_int_equal(memory_dirty_start(&rig->machine.memory), 0);
	else
		memory_dirty_stop(&rig->machine.memory);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
}

/* The kernel's writes are in no log: while there is one the rings are ours, also those of the next
 * driver, and frames go by duet's own path, whose writes are in it. */
static void test_log_takes_the_rings_back(void **state)
{
	const struct ring_buffer frame = {DEVICE_RIG_DATA, 12 + 60, false};
	struct device_rig rig;

	(void)state;
	rig_init(&rig);
	device_rig_up(&rig, FEATURES, 3);
	for (unsigned i = 0; i < 10; i++) {
		uint64_t used;

		await_backends(true);
		sent = 0;
		pause_and(&rig, true);
		if (i == 4)
			device_rig_up(&rig, FEATURES, 3);
		used = rig.rings[1].setup.device.value;
		is_logged(&rig, used);
		assert_int_equal(device_rig_request(&rig, 1, &frame, 1, false), 0);
		assert_int_equal(sent, 1);
		assert_true(is_logged(&rig, used));
		assert_int_equal(vhost->backends[0], -1);
		assert_int_equal(vhost->backends[1], -1);
		pause_and(&rig, false);
	}
	await_backends(true);
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	device_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_stops_and_goes_on),
		cmocka_unit_test(test_handed_over_no_more),
		cmocka_unit_test(test_policy_takes_the_rings_back),
		cmocka_unit_test(test_two_commands_in_one_kick),
		cmocka_unit_test(test_stops_one_pair_a_round),
		cmocka_unit_test(test_log_takes_the_rings_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
