/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport: registers, negotiation, doorbells, interrupts, life cycle, saved state. */
#include "virtio_rig.h"

#include "base/checked.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PACKED VIRTIO_FEATURE(VIRTIO_F_RING_PACKED)
#define ALL                                                                                        \
	(1 | VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) |         \
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1))
#define RING_BASE   0x100000ULL
#define DATA        0x800000ULL
#define SLOT        1
#define NEEDS_RESET 64

struct rig {
	struct fake_machine machine;
	struct device *device;
	struct rig_model *model;
	struct virtio_driver driver;
	struct ring_driver rings[RIG_QUEUES];
};

static void rig_init(struct rig *rig)
{
	struct error err;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(rig_model_new(&rig->device, &rig->model, RIG_QUEUES, PACKED, &err), 0);
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	driver_probe(&rig->driver, &rig->machine, SLOT);
}

static void rig_free(struct rig *rig)
{
	_Atomic bool freed = false;

	rig->model->freed_flag = &freed;
	fake_stop(rig->device);
	rig->device->ops->free(rig->device);
	assert_true(freed);
	assert_int_equal(fake_host_doorbells(&rig->machine.host), 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	fake_machine_free(&rig->machine);
}

static void bring_up(struct rig *rig, uint64_t features, unsigned queues, bool msix)
{
	struct virtqueue_setup setup = {.size = 16,
		.packed = features & PACKED,
		.event_idx = features & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
		.indirect = features & VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC)};

	assert_true(driver_reset(&rig->driver));
	assert_true(driver_negotiate(&rig->driver, features));
	if (msix) {
		driver_msix(&rig->driver, RIG_QUEUES + 1);
		driver_write(&rig->driver, COMMON_CONFIG_VECTOR, 2, 0);
	}
	for (unsigned i = 0; i < queues; i++)
		driver_queue(&rig->driver, i, &rig->rings[i], RING_BASE + 0x40000 * i, &setup,
			msix ? (uint16_t)(i + 1) : 0xffff);
	driver_ok(&rig->driver);
}

static void pause_briefly(void)
{
	const struct timespec step = {.tv_nsec = 1000000};

	nanosleep(&step, NULL);
}

static void await_doorbells(struct rig *rig, unsigned count)
{
	for (unsigned i = 0; i < 1000 && fake_host_doorbells(&rig->machine.host) != count; i++)
		pause_briefly();
	assert_int_equal(fake_host_doorbells(&rig->machine.host), count);
}

static void await_status(struct rig *rig, uint8_t bits)
{
	for (unsigned i = 0; i < 1000; i++) {
		if ((driver_read(&rig->driver, COMMON_STATUS, 1) & bits) == bits)
			return;
		pause_briefly();
	}
	fail_msg("status never showed 0x%x", bits);
}

static void request(struct rig *rig, unsigned queue)
{
	struct ring_buffer buffers[] = {{DATA, 16, false}, {DATA + 0x1000, 32, true}};

	memset(rig->machine.ram + DATA + 0x1000, 0, 64);
	assert_true(ring_driver_offer(&rig->rings[queue], buffers, 2, false, 77));
	if (ring_driver_kick(&rig->rings[queue]))
		driver_kick(&rig->driver, queue);
}

static void assert_answered(struct rig *rig, unsigned queue)
{
	uint32_t written;
	uint64_t token;

	assert_true(driver_await(&rig->rings[queue], &token, &written));
	assert_int_equal(token, 77);
	assert_int_equal(written, 32);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(rig->machine.ram[DATA + 0x1000 + i], i < 32 ? 0x5a : 0);
}

static void test_identity(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_int_equal(fake_guest_config_read(&rig.machine, SLOT, 0, 4), 0x10441af4);
	assert_int_equal(fake_guest_config_read(&rig.machine, SLOT, 8, 4), 0xff000001);
	assert_true(rig.driver.common && rig.driver.isr && rig.driver.config && rig.driver.notify);
	assert_int_equal(rig.driver.stride, 4);
	assert_true(rig.driver.ports);
	assert_int_equal(rig.driver.port_stride, 2);
	assert_int_equal(driver_read(&rig.driver, COMMON_NUM_QUEUES, 2), RIG_QUEUES);
	assert_int_equal(driver_features(&rig.driver), ALL | PACKED);
	assert_string_equal(rig.device->ops->type, "virtio-entropy");
	rig_free(&rig);
}

static void test_negotiation(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_false(driver_negotiate(&rig.driver, ALL & ~VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	driver_reset(&rig.driver);
	assert_false(driver_negotiate(&rig.driver, ALL | 2));
	driver_ok(&rig.driver); /* without FEATURES_OK: nothing may start */
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 3);
	driver_reset(&rig.driver);
	assert_true(driver_negotiate(&rig.driver, ALL));
	/* Final now. */
	driver_write(&rig.driver, COMMON_DRIVER_FEATURE_SELECT, 4, 0);
	driver_write(&rig.driver, COMMON_DRIVER_FEATURE, 4, 0);
	assert_int_equal(driver_read(&rig.driver, COMMON_DRIVER_FEATURE, 4), (uint32_t)ALL);
	assert_int_equal(rig.model->activations, 0);
	rig_free(&rig);
}

static void test_registers(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	driver_negotiate(&rig.driver, ALL);
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, RIG_QUEUES); /* there is none */
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 0);
	driver_write(&rig.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, 2);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_NOTIFY_OFF, 2), 2);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 2, 128);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 2, 0);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	driver_write(&rig.driver, COMMON_QUEUE_VECTOR, 2, RIG_QUEUES);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_VECTOR, 2), RIG_QUEUES);
	driver_write(&rig.driver, COMMON_QUEUE_VECTOR, 2, RIG_QUEUES + 1);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_VECTOR, 2), 0xffff);
	driver_write(&rig.driver, COMMON_QUEUE_DESCRIPTORS, 8, 0x123456789a0);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_DESCRIPTORS + 4, 4), 0x123);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_DESCRIPTORS, 8), 0x123456789a0);
	/* Odd widths and places read 0 and write nothing. */
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 4, 1);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE + 1, 1, 1);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 4), 0);
	assert_int_equal(driver_read(&rig.driver, 0x800, 4), 0);
	driver_write(&rig.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_write(&rig.driver, COMMON_QUEUE_SIZE, 2, 8);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SIZE, 2), 64);
	rig_free(&rig);
}

static void test_device_config(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	fake_guest_write(&rig.machine, rig.driver.config + 4, 4, 0x11223344);
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.config + 4, 2), 0x3344);
	fake_guest_write(&rig.machine, rig.driver.config + 14, 4, 1); /* across its end */
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.config + 14, 4), 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.config + 16, 1), 0);
	rig_free(&rig);
}

static void requests_with(uint64_t features)
{
	struct rig rig;

	rig_init(&rig);
	bring_up(&rig, features, RIG_QUEUES, true);
	await_doorbells(&rig, RIG_QUEUES);
	for (unsigned round = 0; round < 40; round++) {
		unsigned queue = round % RIG_QUEUES;

		ring_driver_interrupts_on(&rig.rings[queue], 0);
		request(&rig, queue);
		assert_answered(&rig, queue);
		assert_true(fake_host_wait_msi(&rig.machine.host, 0x101 + queue, 1000));
	}
	assert_int_equal(rig.model->virtio.queues[0].stats.chains, 10);
	assert_int_equal(rig.model->virtio.queues[0].stats.interrupts, 10);
	/* One route for each vector that was unmasked, and nothing said twice. */
	assert_int_equal(rig.machine.host.msi_adds, RIG_QUEUES + 1);
	assert_int_equal(rig.machine.host.msi_changes, 0);
	rig_free(&rig);
}

static void test_requests(void **state)
{
	(void)state;
	requests_with(ALL);
	requests_with(ALL | PACKED);
	requests_with(VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	requests_with(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | PACKED);
}

static void test_intx(void **state)
{
	unsigned gsi = pci_slot_gsi(SLOT);
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 1, false);
	request(&rig, 0);
	assert_answered(&rig, 0);
	for (unsigned i = 0; i < 1000 && !fake_host_line(&rig.machine.host, gsi); i++)
		pause_briefly();
	assert_true(fake_host_line(&rig.machine.host, gsi));
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.isr, 1), 1);
	assert_false(fake_host_line(&rig.machine.host, gsi));
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.isr, 1), 0);
	virtio_config_changed(&rig.model->virtio);
	assert_true(fake_host_line(&rig.machine.host, gsi));
	assert_int_equal(driver_read(&rig.driver, COMMON_GENERATION, 1), 1);
	assert_int_equal(fake_guest_read(&rig.machine, rig.driver.isr, 1), 2);
	rig_free(&rig);
}

/* Nobody would lower the line before there is a driver. */
static void test_config_change_without_driver(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	virtio_config_changed(&rig.model->virtio);
	assert_false(fake_host_line(&rig.machine.host, pci_slot_gsi(SLOT)));
	assert_int_equal(driver_read(&rig.driver, COMMON_GENERATION, 1), 1);
	rig_free(&rig);
}

/* Kicks before DRIVER_OK are harmless, and what was offered then is seen at activation. */
static void test_early_kick(void **state)
{
	struct virtqueue_setup setup = {.size = 16};
	struct rig rig;

	(void)state;
	rig_init(&rig);
	driver_kick(&rig.driver, 0);
	driver_kick(&rig.driver, RIG_QUEUES + 100);
	assert_true(driver_negotiate(&rig.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	driver_queue(&rig.driver, 0, &rig.rings[0], RING_BASE, &setup, 0xffff);
	request(&rig, 0);
	assert_int_equal(rig.model->kicks, 0);
	driver_ok(&rig.driver);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

static void window_write(struct rig *rig, uint32_t offset, uint32_t size, uint32_t value)
{
	unsigned at = rig->driver.window_capability;

	fake_guest_config_write(&rig->machine, SLOT, at + 4, 1, 0);
	fake_guest_config_write(&rig->machine, SLOT, at + 8, 4, offset);
	fake_guest_config_write(&rig->machine, SLOT, at + 12, 4, size);
	fake_guest_config_write(&rig->machine, SLOT, at + 16, 4, value);
}

/* Registers and doorbells through configuration space (4.1.4.9). */
static void test_window(void **state)
{
	unsigned at;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	at = rig.driver.window_capability;
	assert_true(at);
	window_write(&rig, COMMON_QUEUE_SELECT, 2, 3);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SELECT, 2), 3);
	assert_int_equal(fake_guest_config_read(&rig.machine, SLOT, at + 16, 2), 3);
	window_write(&rig, 0x4000, 4, 1); /* outside */
	window_write(&rig, COMMON_QUEUE_SELECT, 3, 1);
	window_write(&rig, COMMON_QUEUE_SELECT + 1, 2, 1);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SELECT, 2), 3);
	bring_up(&rig, ALL, 1, false);
	await_doorbells(&rig, 1);
	for (unsigned i = 0; i < 1000 && rig.model->kicks == 0; i++)
		pause_briefly();
	request(&rig, 0);
	assert_answered(&rig, 0);
	memset(rig.machine.ram + DATA + 0x1000, 0, 64);
	assert_true(ring_driver_offer(
		&rig.rings[0], (struct ring_buffer[]){{DATA + 0x1000, 32, true}}, 1, false, 77));
	window_write(&rig, 0x3000, 2, 0);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

/* A driver that prefers memory: exits, and works. Beyond the last queue nothing happens. */
static void test_doorbells_in_memory(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 1, false);
	await_doorbells(&rig, 1);
	request(&rig, 0);
	assert_answered(&rig, 0);
	memset(rig.machine.ram + DATA + 0x1000, 0, 64);
	assert_true(ring_driver_offer(
		&rig.rings[0], (struct ring_buffer[]){{DATA + 0x1000, 32, true}}, 1, false, 77));
	driver_kick(&rig.driver, RIG_QUEUES);
	driver_kick_memory(&rig.driver, RIG_QUEUES);
	driver_kick_memory(&rig.driver, 0);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

static void test_reset_and_again(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	for (unsigned round = 0; round < 20; round++) {
		bring_up(&rig, round & 1 ? ALL : ALL | PACKED, 2, true);
		request(&rig, round & 1);
		assert_answered(&rig, round & 1);
		assert_true(driver_reset(&rig.driver));
		assert_int_equal(fake_host_doorbells(&rig.machine.host), 0);
	}
	assert_int_equal(rig.model->activations, 20);
	assert_int_equal(rig.model->quiesces, 20);
	/* A reset before the loop came to activate must neither hang nor leave it active. */
	for (unsigned round = 0; round < 200; round++) {
		bring_up(&rig, ALL, 1, false);
		assert_true(driver_reset(&rig.driver));
	}
	assert_int_equal(rig.model->activations, rig.model->quiesces);
	rig_free(&rig);
}

/* Until the model has nothing in flight the status does not read 0 and nothing can be changed. */
static void test_slow_reset(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 1, false);
	request(&rig, 0);
	assert_answered(&rig, 0);
	rig.model->hold_quiesce = 2;
	driver_write(&rig.driver, COMMON_STATUS, 1, 0);
	for (unsigned i = 0; i < 1000 && rig.model->quiesces == 0; i++)
		pause_briefly();
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	driver_write(&rig.driver, COMMON_STATUS, 1, 1);
	driver_write(&rig.driver, COMMON_STATUS, 1, 0);
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, 3);
	driver_kick(&rig.driver, 0);
	assert_int_equal(driver_read(&rig.driver, COMMON_QUEUE_SELECT, 2), 0);
	rig_release(rig.model);
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
	rig_release(rig.model);
	rig.model->hold_quiesce = 0;
	assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 0);
	bring_up(&rig, ALL, 1, false);
	request(&rig, 0);
	assert_answered(&rig, 0);
	assert_int_equal(rig.model->quiesces, 1);
	rig_free(&rig);
}

static void test_needs_reset(void **state)
{
	unsigned kicks;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 1, true);
	/* A descriptor outside memory. */
	assert_true(ring_driver_offer(
		&rig.rings[0], (struct ring_buffer[]){{FAKE_RAM_SIZE, 32, true}}, 1, false, 1));
	driver_kick(&rig.driver, 0);
	await_status(&rig, NEEDS_RESET | 4);
	assert_true(fake_host_wait_msi(&rig.machine.host, 0x100, 1000));
	for (unsigned i = 0; i < 1000 && rig.model->quiesces == 0; i++)
		pause_briefly();
	kicks = rig.model->kicks;
	driver_kick(&rig.driver, 0);
	pause_briefly();
	assert_int_equal(rig.model->kicks, kicks);
	bring_up(&rig, ALL, 1, true);
	request(&rig, 0);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

static void test_bad_queue_address(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_true(driver_negotiate(&rig.driver, ALL));
	driver_write(&rig.driver, COMMON_QUEUE_SELECT, 2, 0);
	driver_write(&rig.driver, COMMON_QUEUE_DESCRIPTORS, 8, FAKE_RAM_SIZE - 16);
	driver_write(&rig.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_ok(&rig.driver);
	await_status(&rig, NEEDS_RESET);
	assert_int_equal(rig.model->activations, 0);
	assert_true(driver_reset(&rig.driver));
	rig.model->fail_activate = true;
	bring_up(&rig, ALL, 1, false);
	await_status(&rig, NEEDS_RESET);
	rig.model->fail_activate = false;
	bring_up(&rig, ALL, 1, false);
	request(&rig, 0);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

static void move_bar(struct rig *rig, unsigned bar, uint32_t address)
{
	fake_guest_config_write(&rig->machine, SLOT, 0x10 + 4 * bar, 4, address);
}

static void test_moved_bar(void **state)
{
	uint32_t before;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	before = fake_guest_config_read(&rig.machine, SLOT, 0x10, 4);
	bring_up(&rig, ALL, 2, true);
	await_doorbells(&rig, 2);
	move_bar(&rig, 0, 0xc8000000);
	move_bar(&rig, 2, 0xd000);
	assert_int_equal(fake_host_doorbells(&rig.machine.host), 2);
	assert_false(fake_host_write(&rig.machine.host, true, rig.driver.ports, 2, 0));
	driver_probe(&rig.driver, &rig.machine, SLOT);
	assert_true(fake_host_write(&rig.machine.host, true, rig.driver.ports, 2, 0));
	request(&rig, 1);
	assert_answered(&rig, 1);
	move_bar(&rig, 2, 0xc00); /* onto configuration's ports */
	assert_int_equal(fake_host_doorbells(&rig.machine.host), 0);
	move_bar(&rig, 2, 0xd100);
	move_bar(&rig, 0, 0x100000);  /* onto RAM */
	move_bar(&rig, 0, FAKE_ECAM); /* onto configuration space */
	assert_int_equal(pci_misplaced_bars(rig.machine.place.pci), 3);
	move_bar(&rig, 0, before);
	driver_probe(&rig.driver, &rig.machine, SLOT);
	request(&rig, 0);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

static void test_stop_and_start(void **state)
{
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL | PACKED, 2, true);
	for (unsigned round = 0; round < 20; round++) {
		request(&rig, 0);
		assert_answered(&rig, 0);
		fake_stop(rig.device);
		request(&rig, 1); /* seen after the start */
		pause_briefly();
		assert_int_equal(rig.model->activations, rig.model->quiesces);
		rig.device->ops->start(rig.device, &err);
		assert_answered(&rig, 1);
	}
	rig_free(&rig);
}

/* Work whose next turn does not end: a device that is stopped or reset has no turn any more. */
static void test_stop_between_turns(void **state)
{
	struct error err;
	unsigned kicks;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	for (unsigned round = 0; round < 50; round++) {
		rig.model->restless = true;
		bring_up(&rig, ALL, 2, false);
		request(&rig, 0);
		assert_answered(&rig, 0);
		fake_stop(rig.device);
		kicks = rig.model->kicks;
		pause_briefly();
		assert_int_equal(rig.model->kicks, kicks);
		rig.device->ops->start(rig.device, &err);
		request(&rig, 1);
		assert_answered(&rig, 1);
		assert_true(driver_reset(&rig.driver));
		kicks = rig.model->kicks;
		pause_briefly();
		assert_int_equal(rig.model->kicks, kicks);
		rig.model->restless = false;
	}
	rig.model->restless = true;
	bring_up(&rig, ALL, 2, false);
	rig_free(&rig);
}

struct pause {
	struct loop_task task;
	_Atomic bool begun, end;
};

static void pause_loop(struct loop_task *task)
{
	struct pause *pause = (struct pause *)task;

	pause->begun = true;
	while (!pause->end)
		pause_briefly();
}

/* Two queues that each have more than a turn's work take turns, and one kick is enough. */
static void test_turns_alternate(void **state)
{
	struct pause pause = {.task.run = pause_loop};
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 2, false);
	await_doorbells(&rig, 2);
	rig.model->per_turn = 1;
	loop_post(rig.machine.place.io, &pause.task);
	while (!pause.begun)
		pause_briefly();
	rig.model->kicks = 0;
	for (unsigned i = 0; i < 16; i++)
		request(&rig, i & 1);
	pause.end = true;
	/* They share a buffer, which the next answer may be written to. */
	for (unsigned i = 0; i < 16; i++)
		assert_true(driver_await(&rig.rings[i & 1], &(uint64_t){0}, &(uint32_t){0}));
	for (unsigned i = 1; i < 16; i++)
		assert_int_not_equal(rig.model->turns[i], rig.model->turns[i - 1]);
	rig_free(&rig);
}

struct kicker {
	struct rig *rig;
	_Atomic bool stop;
};

static void *kick_all_the_time(void *opaque)
{
	struct kicker *kicker = opaque;

	while (!kicker->stop)
		driver_kick(&kicker->rig->driver, 0);
	return NULL;
}

/* A doorbell that rings while its watch is taken from the loop must not keep it there. */
static void test_stop_under_kicks(void **state)
{
	struct kicker kicker = {0};
	pthread_t thread;
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	kicker.rig = &rig;
	bring_up(&rig, ALL, 1, true);
	pthread_create(&thread, NULL, kick_all_the_time, &kicker);
	for (unsigned round = 0; round < 1000; round++) {
		fake_stop(rig.device);
		rig.device->ops->start(rig.device, &err);
	}
	kicker.stop = true;
	pthread_join(thread, NULL);
	request(&rig, 0);
	assert_answered(&rig, 0);
	rig_free(&rig);
}

struct anew {
	struct loop_task task;
	struct rig *rig;
};

static void ask_anew(struct loop_task *task)
{
	virtio_hand_over_anew(&container_of(task, struct anew, task)->rig->model->virtio);
}

/* Who serves the queues is decided anew while the driver kicks, the machine stops, the driver
 * resets: no request is lost, and nothing of it shows. */
static void test_hands_over_anew(void **state)
{
	struct anew anew = {.task.run = ask_anew};
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	anew.rig = &rig;
	/* Not active: nothing to do. */
	loop_call(rig.machine.place.io, &anew.task);
	assert_int_equal(rig.model->activations, 0);
	bring_up(&rig, ALL | PACKED, 2, true);
	await_doorbells(&rig, 2);
	for (unsigned round = 0; round < 200; round++) {
		unsigned before = rig.model->activations, quiesces = rig.model->quiesces;

		rig.model->hold_quiesce = round % 3 == 0;
		request(&rig, 0);
		loop_call(rig.machine.place.io, &anew.task);
		request(&rig, 1);
		if (round % 5 == 0)
			fake_machine_round(&rig.machine);
		if (rig.model->hold_quiesce) {
			for (unsigned i = 0; i < 1000 && rig.model->quiesces == quiesces; i++)
				pause_briefly();
			rig.model->hold_quiesce = 0;
			rig_release(rig.model);
		}
		if (round % 7 == 0) {
			fake_stop(rig.device);
			rig.device->ops->start(rig.device, &err);
		}
		for (unsigned i = 0; i < 2; i++)
			assert_true(driver_await(&rig.rings[i], &(uint64_t){0}, &(uint32_t){0}));
		for (unsigned i = 0; i < 1000 && rig.model->activations == before; i++)
			pause_briefly();
		assert_true(rig.model->activations > before);
		assert_int_equal(driver_read(&rig.driver, COMMON_STATUS, 1), 15);
		if (round % 11 == 0) {
			loop_call(rig.machine.place.io, &anew.task);
			bring_up(&rig, ALL | PACKED, 2, true);
			await_doorbells(&rig, 2);
		}
	}
	rig_free(&rig);
}

static void save(struct rig *rig, struct state_writer *writer)
{
	state_writer_init(writer);
	state_section_begin(writer, "rig0", 1);
	rig->device->ops->save(rig->device, writer);
	state_section_close(writer);
	assert_int_equal(state_writer_finish(writer), 0);
}

static int restore(struct rig *rig, const struct state_writer *writer)
{
	struct state_reader reader;
	struct error err;
	int ret;

	assert_int_equal(state_reader_init(&reader, writer->bytes, writer->length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	ret = rig->device->ops->restore(rig->device, &reader, &err);
	return ret < 0 ? ret : state_section_end(&reader, &err);
}

static void move_to_another_machine(uint64_t features)
{
	struct rig from, to;
	struct state_writer writer;
	struct error err;

	rig_init(&from);
	rig_init(&to);
	bring_up(&from, features, 2, true);
	for (unsigned i = 0; i < 21; i++) {
		request(&from, 0);
		assert_answered(&from, 0);
	}
	fake_guest_write(&from.machine, from.driver.config, 4, 0xabcd);
	move_bar(&from, 0, 0xc8000000);
	fake_stop(from.device);
	fake_stop(to.device);
	request(&from, 1); /* under way */
	save(&from, &writer);
	memcpy(to.machine.ram, from.machine.ram, FAKE_RAM_SIZE);
	assert_int_equal(restore(&to, &writer), 0);
	for (unsigned i = 0; i < 2; i++) {
		to.rings[i] = from.rings[i];
		to.rings[i].memory = &to.machine.memory;
	}
	to.device->ops->start(to.device, &err);
	driver_probe(&to.driver, &to.machine, SLOT);
	assert_int_equal(to.driver.common, 0xc8000000);
	assert_answered(&to, 1);
	assert_true(fake_host_wait_msi(&to.machine.host, 0x102, 1000));
	await_doorbells(&to, 2);
	request(&to, 0);
	assert_answered(&to, 0);
	assert_int_equal(driver_read(&to.driver, COMMON_STATUS, 1), 15);
	assert_int_equal(fake_guest_read(&to.machine, to.driver.config, 4), 0xabcd);
	state_writer_free(&writer);
	rig_free(&from);
	rig_free(&to);
}

static void test_saved_state(void **state)
{
	(void)state;
	move_to_another_machine(ALL);
	move_to_another_machine(ALL | PACKED);
}

/* A driver that gives one good queue and one outside memory has a device that needs a reset; moved,
 * it has the same. */
static void test_half_a_setup_moves(void **state)
{
	struct virtqueue_setup setup = {.size = 16};
	struct state_writer writer;
	struct rig from, to;

	(void)state;
	rig_init(&from);
	rig_init(&to);
	assert_true(driver_reset(&from.driver));
	assert_true(driver_negotiate(&from.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	driver_queue(&from.driver, 0, &from.rings[0], RING_BASE, &setup, 0xffff);
	driver_write(&from.driver, COMMON_QUEUE_SELECT, 2, 1);
	driver_write(&from.driver, COMMON_QUEUE_DEVICE, 8, 1ULL << 32);
	driver_write(&from.driver, COMMON_QUEUE_ENABLE, 2, 1);
	driver_ok(&from.driver);
	await_status(&from, NEEDS_RESET);
	fake_stop(from.device);
	fake_stop(to.device);
	save(&from, &writer);
	assert_int_equal(restore(&to, &writer), 0);
	to.device->ops->start(to.device, NULL);
	await_status(&to, NEEDS_RESET);
	bring_up(&to, ALL, 2, true);
	await_doorbells(&to, 2);
	request(&to, 0);
	assert_answered(&to, 0);
	state_writer_free(&writer);
	rig_free(&from);
	rig_free(&to);
}

/* A stream that was changed, with checksums put right by the writer, is refused or harmless. */
static void test_damaged_state(void **state)
{
	struct state_writer writer, changed;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 2, true);
	request(&rig, 0);
	assert_answered(&rig, 0);
	fake_stop(rig.device);
	save(&rig, &writer);
	for (size_t at = 26; at + 40 < writer.length; at++) {
		state_writer_init(&changed);
		state_section_begin(&changed, "rig0", 1);
		state_put_bytes(&changed, writer.bytes + 26, at - 26);
		state_put_u8(&changed, (uint8_t)~writer.bytes[at]);
		state_put_bytes(&changed, writer.bytes + at + 1, writer.length - at - 1 - 21);
		state_section_close(&changed);
		assert_int_equal(state_writer_finish(&changed), 0);
		restore(&rig, &changed);
		state_writer_free(&changed);
	}
	assert_int_equal(restore(&rig, &writer), 0);
	state_writer_free(&writer);
	rig_free(&rig);
}

static void test_machine_reset(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	bring_up(&rig, ALL, 2, true);
	request(&rig, 0);
	assert_answered(&rig, 0);
	rig.device->ops->reset(rig.device);
	assert_int_equal(fake_host_doorbells(&rig.machine.host), 0);
	assert_int_equal(fake_host_attached(&rig.machine.host), 0);
	assert_int_equal(fake_guest_config_read(&rig.machine, SLOT, 4, 2), 0);
	driver_probe(&rig.driver, &rig.machine, SLOT);
	bring_up(&rig, ALL, 2, true);
	request(&rig, 1);
	assert_answered(&rig, 1);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_device_config),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_config_change_without_driver),
		cmocka_unit_test(test_early_kick),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_doorbells_in_memory),
		cmocka_unit_test(test_reset_and_again),
		cmocka_unit_test(test_slow_reset),
		cmocka_unit_test(test_needs_reset),
		cmocka_unit_test(test_bad_queue_address),
		cmocka_unit_test(test_moved_bar),
		cmocka_unit_test(test_stop_and_start),
		cmocka_unit_test(test_stop_between_turns),
		cmocka_unit_test(test_turns_alternate),
		cmocka_unit_test(test_stop_under_kicks),
		cmocka_unit_test(test_hands_over_anew),
		cmocka_unit_test(test_saved_state),
		cmocka_unit_test(test_half_a_setup_moves),
		cmocka_unit_test(test_damaged_state),
		cmocka_unit_test(test_machine_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
