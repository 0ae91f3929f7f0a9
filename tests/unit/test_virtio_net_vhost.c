/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net with its rings handed over, to a vhost-net of the test's own: open() and ioctl() end
 * up here. */
#include "device_rig.h"
#include "device_stats.h"

#include "backend/net_private.h"
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

#define FEATURES (VIRTIO_FEATURE(5) /* MAC */ | VIRTIO_FEATURE(17) /* CTRL_VQ */)

static struct {
	int fd;
	_Atomic int backends[2], faults[2]; /* of the rings; -1: none */
	unsigned bases[2];                  /* I/O loop */
	_Atomic unsigned starts;
} vhost;

/* By the linker's --wrap. */
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

int __wrap_open64(const char *path, int flags, ...)
{
	if (strcmp(path, "/dev/vhost-net") != 0)
		return __real_open64(path, flags);
	vhost.fd = eventfd(0, EFD_CLOEXEC);
	return vhost.fd;
}

static void set_file(unsigned long request, const struct vhost_vring_file *file)
{
	if (request == VHOST_SET_VRING_ERR)
		vhost.faults[file->index] = file->fd;
	if (request != VHOST_NET_SET_BACKEND)
		return;
	vhost.starts += file->fd >= 0;
	vhost.backends[file->index] = file->fd;
}

/* It moves no frames: a ring is where it was when it was handed over. */
static void base(unsigned long request, struct vhost_vring_state *state)
{
	if (request == VHOST_SET_VRING_BASE)
		vhost.bases[state->index] = state->num;
	else
		state->num = vhost.bases[state->index];
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	if (fd != vhost.fd) {
		errno = ENOTTY;
		return -1;
	}
	if (request == VHOST_GET_FEATURES)
		*(uint64_t *)argument = ~0ULL;
	if (request == VHOST_SET_VRING_BASE || request == VHOST_GET_VRING_BASE)
		base(request, argument);
	if (request == VHOST_SET_VRING_ERR || request == VHOST_NET_SET_BACKEND)
		set_file(request, argument);
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

static void rig_init(struct device_rig *rig)
{
	struct virtio_net_options options = {.mac = {2}, .vhost = true};
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	vhost.backends[0] = vhost.backends[1] = vhost.faults[0] = vhost.faults[1] = -1;
	vhost.starts = 0;
	options.net = calloc(1, sizeof(*options.net));
	assert_int_equal(net_init(options.net, &no_ops, 1, &err), 0);
	options.net->is_tap = true;
	options.net->queues[0].fd = eventfd(0, EFD_CLOEXEC);
	net = options.net;
	fake_machine_init(&rig->machine);
	assert_int_equal(virtio_net_new(&rig->device, "net0", &options, &err), 0);
	device_rig_start(rig);
}

static void await_starts(unsigned count)
{
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && vhost.starts != count; i++)
		usleep(1000);
	assert_int_equal(vhost.starts, count);
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
		assert_true(vhost.faults[0] >= 0 && vhost.faults[1] >= 0);
		usleep(10000);
		assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
		assert_int_equal(eventfd_write(vhost.faults[i % 2], 1), 0);
		assert_true(device_rig_needs_reset(&rig));
		assert_true(fake_host_wait_msi(&rig.machine.host, 0x100));
		assert_true(driver_reset(&rig.driver));
		assert_int_equal(vhost.backends[0], -1);
		assert_int_equal(vhost.faults[1], -1);
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
		assert_int_equal(vhost.backends[0], -1);
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
	assert_int_equal(vhost.starts, 2);
	device_rig_free(&rig);
}

static void await_backends(bool on)
{
	for (unsigned i = 0; i < FAKE_PATIENCE_MS && (vhost.backends[0] >= 0) != on; i++)
		usleep(1000);
	assert_int_equal(vhost.backends[0] >= 0, on);
	assert_int_equal(vhost.backends[1] >= 0, on);
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
	assert_int_equal(vhost.backends[0], -1);
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
		assert_int_equal(vhost.backends[0], -1);
		assert_int_equal(vhost.backends[1], -1);
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
		cmocka_unit_test(test_log_takes_the_rings_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
