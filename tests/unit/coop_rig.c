/* SPDX-License-Identifier: Apache-2.0 */
#include "coop_rig.h"

#include "device_stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint32_t coop_rig_pci(struct coop_rig *rig, unsigned offset, unsigned size)
{
	return fake_guest_config_read(&rig->device.machine, COOP_RIG_SLOT, offset, size);
}

/* virtio 1.2, 4.1.4.7. */
void coop_rig_find_shared(struct coop_rig *rig)
{
	for (unsigned at = coop_rig_pci(rig, 0x34, 1); at; at = coop_rig_pci(rig, at + 1, 1)) {
		unsigned bar;

		if (coop_rig_pci(rig, at, 1) != 9 || coop_rig_pci(rig, at + 3, 1) != 8)
			continue;
		bar = 0x10 + 4 * coop_rig_pci(rig, at + 4, 1);
		assert_int_equal(coop_rig_pci(rig, bar, 4) & 15, 12);
		rig->id = (uint8_t)coop_rig_pci(rig, at + 5, 1);
		rig->memory = (coop_rig_pci(rig, bar, 4) & ~15ULL) |
			      (uint64_t)coop_rig_pci(rig, bar + 4, 4) << 32;
		rig->memory += coop_rig_pci(rig, at + 8, 4) |
			       (uint64_t)coop_rig_pci(rig, at + 16, 4) << 32;
		rig->length = coop_rig_pci(rig, at + 12, 4) |
			      (uint64_t)coop_rig_pci(rig, at + 20, 4) << 32;
	}
}

uint64_t coop_rig_config(struct coop_rig *rig, unsigned offset, unsigned size)
{
	return fake_guest_read(&rig->device.machine, rig->device.driver.config + offset, size);
}

void coop_rig_set_version(struct coop_rig *rig, uint32_t version)
{
	fake_guest_write(&rig->device.machine,
		rig->device.driver.config + COOP_FIELD(driver_version), 4, version);
}

void coop_rig_up(struct coop_rig *rig, uint64_t features, uint32_t version)
{
	device_rig_up(&rig->device, features, DUET_COOP_QUEUES);
	if (version)
		coop_rig_set_version(rig, version);
}

struct coop_rig *coop_rig_new(const struct virtio_coop_options *wanted)
{
	struct coop_rig *rig = calloc(1, sizeof(*rig));
	struct virtio_coop_options options = *wanted;
	struct error err = {0};

	fake_coop_host_init(&rig->host);
	options.host = options.host ? options.host : &rig->host.host;
	fake_machine_init(&rig->device.machine);
	assert_int_equal(virtio_coop_new(&rig->device.device, "coop0", &options, &err), 0);
	device_rig_start(&rig->device);
	coop_rig_find_shared(rig);
	rig->ports =
		coop_rig_pci(rig,
			0x10 + 4 * (unsigned)coop_rig_config(rig, COOP_FIELD(call_bar), 1), 4) &
		~3U;
	return rig;
}

const struct virtio_coop_options coop_rig_options = {.vcpus = COOP_RIG_VCPUS,
	.hints = true,
	.time = true,
	.yield = true,
	.copy = true,
	.counters = true,
	.packed = true};

void coop_rig_free(struct coop_rig *rig)
{
	device_rig_free(&rig->device);
	assert_int_equal(rig->host.open, 0);
	assert_null(rig->host.broken);
	free(rig);
}

struct duet_coop_page *coop_rig_page(struct coop_rig *rig, unsigned vcpu)
{
	fake_guest_read(&rig->device.machine, rig->memory, 1);
	for (unsigned i = 0; i < FAKE_HOST_WINDOWS; i++) {
		const struct fake_window *window = &rig->device.machine.host.windows[i];

		if (window->length && window->address == rig->memory)
			return (struct duet_coop_page *)window->memory + vcpu;
	}
	fail_msg("the shared memory is not there");
	return NULL;
}

void coop_rig_ring(struct coop_rig *rig, unsigned port, unsigned size)
{
	assert_true(bus_write(rig->device.machine.place.ports, rig->ports + port, size, 1));
}

int coop_rig_call(
	struct coop_rig *rig, unsigned vcpu, uint32_t function, uint64_t first, uint64_t second)
{
	struct duet_coop_call_part *part = &coop_rig_page(rig, vcpu)->call;

	part->function = function;
	part->arguments[0] = first;
	part->arguments[1] = second;
	part->status = 1;
	rig->host.current = vcpu;
	coop_rig_ring(rig, vcpu, 1);
	return part->status;
}

uint32_t coop_rig_request(
	struct coop_rig *rig, const struct duet_coop_request *requests, unsigned count)
{
	uint32_t length = count * (uint32_t)sizeof(*requests);
	const struct ring_buffer buffers[] = {{COOP_RIG_DATA, length / 2, false},
		{COOP_RIG_DATA + length / 2, length - length / 2, false},
		{COOP_RIG_ANSWERS, 24, true}, {COOP_RIG_ANSWERS + 24, 0x8000, true}};

	memcpy(device_rig_at(&rig->device, COOP_RIG_DATA), requests, length);
	memset(device_rig_at(&rig->device, COOP_RIG_ANSWERS), 0xee, 0x8000);
	return device_rig_request(&rig->device, DUET_COOP_REQUESTS, buffers, 4, false);
}

const struct duet_coop_answer *coop_rig_answer(struct coop_rig *rig, unsigned index)
{
	return (struct duet_coop_answer *)device_rig_at(&rig->device, COOP_RIG_ANSWERS) + index;
}

int coop_rig_request_one(struct coop_rig *rig, uint32_t function, const uint64_t arguments[5])
{
	struct duet_coop_request one = {.function = function};

	memcpy(one.arguments, arguments, 5 * sizeof(*arguments));
	assert_int_equal(coop_rig_request(rig, &one, 1), sizeof(struct duet_coop_answer));
	return coop_rig_answer(rig, 0)->status;
}

uint64_t coop_rig_counted(struct coop_rig *rig, const char *group, const char *name)
{
	return device_stat(rig->device.device, group, name);
}

struct virtio_coop_runs coop_rig_runs(struct coop_rig *rig, enum virtio_coop_kind kind)
{
	struct virtio_coop_runs runs;

	virtio_coop_runs(rig->device.device, kind, &runs);
	return runs;
}

void coop_rig_wish(struct coop_rig *rig, enum virtio_coop_kind kind)
{
	struct error err;

	assert_int_equal(virtio_coop_wish(rig->device.device, kind, &err), 0);
}
