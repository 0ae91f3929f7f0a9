/* SPDX-License-Identifier: Apache-2.0 */
#include "transport_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

void transport_rig_init(struct transport_rig *rig)
{
	struct error err;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(
		rig_model_new(&rig->device, &rig->model, RIG_QUEUES, FEATURE_PACKED, &err), 0);
	assert_int_equal(rig->device->ops->realize(rig->device, &rig->machine.place, &err), 0);
	assert_int_equal(rig->device->ops->start(rig->device, &err), 0);
	driver_probe(&rig->driver, &rig->machine, TRANSPORT_SLOT);
}

void transport_rig_free(struct transport_rig *rig)
{
	_Atomic bool freed = false;

	rig->model->freed_flag = &freed;
	fake_machine_end_device(&rig->machine, rig->device);
	assert_true(freed);
	assert_int_equal(fake_host_doorbells(&rig->machine.host), 0);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	fake_machine_free(&rig->machine);
}

void transport_up(struct transport_rig *rig, uint64_t features, unsigned queues, bool msix)
{
	struct virtqueue_setup setup = {.size = 16,
		.packed = features & FEATURE_PACKED,
		.event_idx = features & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
		.indirect = features & VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC)};

	assert_true(driver_reset(&rig->driver));
	assert_true(driver_negotiate(&rig->driver, features));
	if (msix) {
		driver_msix(&rig->driver, RIG_QUEUES + 1);
		driver_write(&rig->driver, COMMON_CONFIG_VECTOR, 2, 0);
	}
	for (unsigned i = 0; i < queues; i++)
		driver_queue(&rig->driver, i, &rig->rings[i], TRANSPORT_RINGS + 0x40000 * i, &setup,
			msix ? (uint16_t)(i + 1) : 0xffff);
	driver_ok(&rig->driver);
}

void transport_move_bar(struct transport_rig *rig, unsigned bar, uint32_t address)
{
	fake_guest_config_write(&rig->machine, TRANSPORT_SLOT, 0x10 + 4 * bar, 4, address);
}

void transport_pause(void)
{
	const struct timespec step = {.tv_nsec = 1000000};

	nanosleep(&step, NULL);
}

void transport_await_doorbells(struct transport_rig *rig, unsigned count)
{
	for (unsigned i = 0;
		i < FAKE_PATIENCE_MS && fake_host_doorbells(&rig->machine.host) != count; i++)
		transport_pause();
	assert_int_equal(fake_host_doorbells(&rig->machine.host), count);
}

void transport_await_status(struct transport_rig *rig, uint8_t bits)
{
	for (unsigned i = 0; i < FAKE_PATIENCE_MS; i++) {
		if ((driver_read(&rig->driver, COMMON_STATUS, 1) & bits) == bits)
			return;
		transport_pause();
	}
	fail_msg("status never showed 0x%x", bits);
}

/* Where a queue's answers go: no other's, which may be on its way. */
static uint64_t answers_at(unsigned queue)
{
	return TRANSPORT_DATA + 0x1000 * (1 + queue);
}

void transport_request(struct transport_rig *rig, unsigned queue)
{
	struct ring_buffer buffers[] = {{TRANSPORT_DATA, 16, false}, {answers_at(queue), 32, true}};

	memset(rig->machine.ram + answers_at(queue), 0, 64);
	assert_true(ring_driver_offer(&rig->rings[queue], buffers, 2, false, 77));
	if (ring_driver_kick(&rig->rings[queue]))
		driver_kick(&rig->driver, queue);
}

void transport_expect_answer(struct transport_rig *rig, unsigned queue)
{
	uint32_t written;
	uint64_t token;

	assert_true(driver_await(&rig->rings[queue], &token, &written));
	assert_int_equal(token, 77);
	assert_int_equal(written, 32);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(rig->machine.ram[answers_at(queue) + i], i < 32 ? 0x5a : 0);
}
