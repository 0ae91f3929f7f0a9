/* SPDX-License-Identifier: Apache-2.0 */
/* The cooperation device as its driver sees it. */
#include "device_rig.h"
#include "device_stats.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <duet/coop.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SLOT    1
#define VCPUS   3
#define DATA    DEVICE_RIG_DATA
#define ANSWERS (DATA + 0x10000)
#define WISHES  (DATA + 0x20000)

#define F(bit) VIRTIO_FEATURE(DUET_COOP_F_##bit)
#define ALL    (F(HINTS) | F(TIME) | F(YIELD) | F(COUNTERS) | F(WISHES))

#define FIELD(name) offsetof(struct duet_coop_config, name)

/* ---- a host ---- */

struct host {
	struct virtio_coop_host host;
	unsigned current;      /* the vCPU that the test is */
	bool any;              /* ... it is all of them */
	uint64_t last[3];      /* arguments of the last yield */
	unsigned open, opened; /* counters */
	uint64_t count;        /* that each of them shows */
	int fails;             /* what all functions return, if not 0 */
};

static struct host *host_of(struct virtio_coop_host *host)
{
	return container_of(host, struct host, host);
}

static bool is_current(struct virtio_coop_host *host, unsigned vcpu)
{
	return host_of(host)->any || host_of(host)->current == vcpu;
}

static int yield(struct virtio_coop_host *host, unsigned waiter, unsigned holder, uint64_t patience)
{
	const uint64_t last[] = {waiter, holder, patience};

	memcpy(host_of(host)->last, last, sizeof(last));
	return host_of(host)->fails;
}

static int counter_open(
	struct virtio_coop_host *host, unsigned vcpu, unsigned counter, uint64_t *name)
{
	*name = 1000 + counter + 100 * ++host_of(host)->opened;
	host_of(host)->open += !host_of(host)->fails;
	return host_of(host)->fails;
}

static int counter_read(
	struct virtio_coop_host *host, unsigned vcpu, uint64_t name, uint64_t values[3])
{
	values[0] = host_of(host)->count + name;
	values[1] = vcpu;
	return name < 1000 ? -EINVAL : host_of(host)->fails;
}

static void counter_close(struct virtio_coop_host *host, unsigned vcpu, uint64_t name)
{
	host_of(host)->open--;
}

static const struct virtio_coop_host_ops host_ops = {
	.is_current = is_current,
	.yield = yield,
	.counter_open = counter_open,
	.counter_read = counter_read,
	.counter_close = counter_close,
};

/* ---- a driver ---- */

struct rig {
	struct device_rig device;
	struct host host;
	uint64_t ports, memory, length; /* found by its capabilities */
	uint8_t id;
};

static uint32_t pci(struct rig *rig, unsigned offset, unsigned size)
{
	return fake_guest_config_read(&rig->device.machine, SLOT, offset, size);
}

/* virtio 1.2, 4.1.4.7. */
static void find_shared(struct rig *rig)
{
	for (unsigned at = pci(rig, 0x34, 1); at; at = pci(rig, at + 1, 1)) {
		unsigned bar;

		if (pci(rig, at, 1) != 9 || pci(rig, at + 3, 1) != 8)
			continue;
		bar = 0x10 + 4 * pci(rig, at + 4, 1);
		assert_int_equal(pci(rig, bar, 4) & 15, 12);
		rig->id = (uint8_t)pci(rig, at + 5, 1);
		rig->memory = (pci(rig, bar, 4) & ~15ULL) | (uint64_t)pci(rig, bar + 4, 4) << 32;
		rig->memory += pci(rig, at + 8, 4) | (uint64_t)pci(rig, at + 16, 4) << 32;
		rig->length = pci(rig, at + 12, 4) | (uint64_t)pci(rig, at + 20, 4) << 32;
	}
}

static uint64_t config(struct rig *rig, unsigned offset, unsigned size)
{
	return fake_guest_read(&rig->device.machine, rig->device.driver.config + offset, size);
}

static void set_version(struct rig *rig, uint32_t version)
{
	fake_guest_write(&rig->device.machine, rig->device.driver.config + FIELD(driver_version), 4,
		version);
}

static void up(struct rig *rig, uint64_t features, uint32_t version)
{
	device_rig_up(&rig->device, features, DUET_COOP_QUEUES);
	if (version)
		set_version(rig, version);
}

static struct rig *rig_new(const struct virtio_coop_options *wanted)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct virtio_coop_options options = *wanted;
	struct error err = {0};

	rig->host.host.ops = &host_ops;
	options.host = options.host ? options.host : &rig->host.host;
	fake_machine_init(&rig->device.machine);
	assert_int_equal(virtio_coop_new(&rig->device.device, "coop0", &options, &err), 0);
	device_rig_start(&rig->device);
	find_shared(rig);
	rig->ports = pci(rig, 0x10 + 4 * (unsigned)config(rig, FIELD(call_bar), 1), 4) & ~3U;
	return rig;
}

static const struct virtio_coop_options all = {.vcpus = VCPUS,
	.hints = true,
	.time = true,
	.yield = true,
	.copy = true,
	.counters = true,
	.packed = true};

static void rig_free(struct rig *rig)
{
	device_rig_free(&rig->device);
	assert_int_equal(rig->host.open, 0);
	free(rig);
}

/* As the guest, which looks at it first. */
static struct duet_coop_page *page(struct rig *rig, unsigned vcpu)
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

static void ring(struct rig *rig, unsigned port, unsigned size)
{
	assert_true(bus_write(rig->device.machine.place.ports, rig->ports + port, size, 1));
}

/* On vCPU @vcpu. */
static int call(struct rig *rig, unsigned vcpu, uint32_t function, uint64_t first, uint64_t second)
{
	struct duet_coop_call_part *part = &page(rig, vcpu)->call;

	part->function = function;
	part->arguments[0] = first;
	part->arguments[1] = second;
	part->status = 1;
	rig->host.current = vcpu;
	ring(rig, vcpu, 1);
	return part->status;
}

/* @count requests in one chain. Their answers are at ANSWERS. */
static uint32_t request(struct rig *rig, const struct duet_coop_request *requests, unsigned count)
{
	uint32_t length = count * (uint32_t)sizeof(*requests);
	const struct ring_buffer buffers[] = {{DATA, length / 2, false},
		{DATA + length / 2, length - length / 2, false}, {ANSWERS, 24, true},
		{ANSWERS + 24, 0x8000, true}};

	memcpy(device_rig_at(&rig->device, DATA), requests, length);
	memset(device_rig_at(&rig->device, ANSWERS), 0xee, 0x8000);
	return device_rig_request(&rig->device, DUET_COOP_REQUESTS, buffers, 4, false);
}

static const struct duet_coop_answer *answer(struct rig *rig, unsigned index)
{
	return (struct duet_coop_answer *)device_rig_at(&rig->device, ANSWERS) + index;
}

static int request_one(struct rig *rig, uint32_t function, const uint64_t arguments[5])
{
	struct duet_coop_request one = {.function = function};

	memcpy(one.arguments, arguments, 5 * sizeof(*arguments));
	assert_int_equal(request(rig, &one, 1), sizeof(struct duet_coop_answer));
	return answer(rig, 0)->status;
}

static uint64_t counted(struct rig *rig, const char *group, const char *name)
{
	return device_stat(rig->device.device, group, name);
}

/* ---- tests ---- */

static void shows_itself(void **state)
{
	struct rig *rig = rig_new(&all);

	assert_int_equal(pci(rig, 2, 2), 0x1040 + DUET_COOP_DEVICE_ID);
	assert_int_equal(rig->id, DUET_COOP_SHM_ID);
	assert_int_equal(rig->length, VCPUS * DUET_COOP_PAGE_SIZE);
	assert_int_equal(config(rig, FIELD(version), 4), DUET_COOP_VERSION);
	assert_int_equal(config(rig, FIELD(version_oldest), 4), DUET_COOP_VERSION_OLDEST);
	assert_int_equal(config(rig, FIELD(driver_version), 4), 0);
	assert_int_equal(config(rig, FIELD(vcpus), 4), VCPUS);
	assert_int_equal(config(rig, FIELD(page_size), 4), DUET_COOP_PAGE_SIZE);
	assert_int_equal(driver_features(&rig->device.driver) & 0xffffff & ~F(COPY), ALL);
	rig_free(rig);
}

static void memory_is_mapped_when_it_is_looked_at(void **state)
{
	struct rig *rig = rig_new(&all);
	struct fake_machine *machine = &rig->device.machine;
	struct fake_host *host = &machine->host;
	uint32_t command = pci(rig, 4, 2);

	/* A kernel that sizes BARs. */
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(fake_host_windows(host), 0);
		fake_guest_config_write(machine, SLOT, 4, 2, command & ~2U);
		fake_guest_config_write(machine, SLOT, 4, 2, command);
	}
	/* Behind the memory is not the memory. */
	fake_guest_write(machine, rig->memory + VCPUS * 4096, 4, 1);
	assert_int_equal(fake_host_windows(host), 0);
	fake_guest_write(machine, rig->memory + 0x1404, 4, 9);
	assert_int_equal(fake_host_windows(host), 1);
	assert_int_equal(fake_guest_read(machine, rig->memory + 0x1404, 4), 9);
	assert_int_equal(fake_host_windows(host), 1);
	fake_guest_config_write(machine, SLOT, 4, 2, command & ~2U);
	assert_int_equal(fake_host_windows(host), 0);
	fake_guest_config_write(machine, SLOT, 4, 2, command);
	assert_int_equal(fake_host_windows(host), 0);
	assert_int_equal(page(rig, 1)->guest.runnable, 9);
	rig_free(rig);
}

static void memory_is_there_without_a_window(void **state)
{
	struct rig *rig = rig_new(&all);
	struct fake_machine *machine = &rig->device.machine;

	machine->host.window_error = -ENOSPC;
	fake_guest_write(machine, rig->memory + 0x1404, 4, 9);
	assert_int_equal(fake_guest_read(machine, rig->memory + 0x1404, 4), 9);
	assert_int_equal(fake_host_windows(&machine->host), 0);
	rig_free(rig);
}

/* The memory follows its BAR; what is behind it, up to the BAR's end, is nothing. */
static void memory_moves(void **state)
{
	struct rig *rig = rig_new(&all);
	struct fake_machine *machine = &rig->device.machine;
	uint64_t before = rig->memory;

	page(rig, 1)->guest.runnable = 7;
	assert_int_equal(fake_guest_read(machine, rig->memory + 0x1404, 4), 7);
	fake_guest_write(machine, rig->memory + 0x1404, 4, 9);
	assert_int_equal(page(rig, 1)->guest.runnable, 9);
	assert_int_equal(fake_guest_read(machine, rig->memory + VCPUS * 4096, 8), 0);
	fake_guest_write(machine, rig->memory + VCPUS * 4096 - 4, 8, ~0ULL);
	fake_guest_config_write(machine, SLOT, 0x24, 4, (uint32_t)(before >> 32) + 1);
	find_shared(rig);
	assert_int_equal(rig->memory, before + (1ULL << 32));
	assert_int_equal(page(rig, 1)->guest.runnable, 9);
	assert_int_equal(fake_host_windows(&machine->host), 1);
	fake_guest_config_write(machine, SLOT, 4, 2, 0);
	assert_int_equal(fake_host_windows(&machine->host), 0);
	rig_free(rig);
}

static void agrees_on_a_version(void **state)
{
	struct rig *rig = rig_new(&all);
	const uint64_t none[5] = {42};

	/* No driver yet, none that has said its version, one that speaks another. */
	assert_int_equal(call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	up(rig, ALL, 0);
	assert_int_equal(call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	assert_int_equal(request_one(rig, DUET_COOP_NOP, none), -DUET_COOP_EPERM);
	set_version(rig, DUET_COOP_VERSION + 1);
	assert_int_equal(call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	assert_int_equal(request_one(rig, DUET_COOP_NOP, none), -DUET_COOP_EPERM);
	set_version(rig, DUET_COOP_VERSION);
	assert_int_equal(config(rig, FIELD(driver_version), 4), DUET_COOP_VERSION);
	assert_int_equal(call(rig, 0, DUET_COOP_NOP, 42, 0), 0);
	assert_int_equal(request_one(rig, DUET_COOP_NOP, none), 0);
	assert_int_equal(answer(rig, 0)->values[0], 42);
	/* Nothing else of the configuration can be written. */
	fake_guest_write(&rig->device.machine, rig->device.driver.config, 4, 5);
	assert_int_equal(config(rig, FIELD(version), 4), DUET_COOP_VERSION);
	assert_true(driver_reset(&rig->device.driver));
	assert_int_equal(call(rig, 0, DUET_COOP_NOP, 42, 0), -DUET_COOP_EPERM);
	rig_free(rig);
}

static void calls_fast(void **state)
{
	struct rig *rig = rig_new(&all);

	up(rig, ALL, 1);
	for (unsigned i = 0; i < VCPUS; i++) {
		assert_int_equal(call(rig, i, DUET_COOP_NOP, 42 + i, 0), 0);
		assert_int_equal(page(rig, i)->call.values[0], 42 + i);
	}
	assert_int_equal(call(rig, 1, DUET_COOP_SHARE, 0, 0), -DUET_COOP_ENOSYS);
	assert_int_equal(call(rig, 1, 77, 0, 0), -DUET_COOP_ENOSYS);
	assert_int_equal(call(rig, 1, UINT32_MAX, 0, 0), -DUET_COOP_ENOSYS);
	assert_int_equal(counted(rig, "calls", "nop"), VCPUS);
	assert_int_equal(counted(rig, "calls", "refused"), 3);
	/* Another one's page, a vCPU that is not, another width: nothing happens. */
	page(rig, 1)->call.status = 1;
	ring(rig, 1, 2);
	rig->host.current = 0;
	ring(rig, 1, 1);
	ring(rig, 200, 1);
	assert_int_equal(page(rig, 1)->call.status, 1);
	rig_free(rig);
}

static void yields(void **state)
{
	struct rig *rig = rig_new(&all);

	up(rig, ALL & ~F(YIELD), 1);
	assert_int_equal(call(rig, 1, DUET_COOP_YIELD, 2, 500), -DUET_COOP_EPERM);
	up(rig, ALL, 1);
	assert_int_equal(call(rig, 1, DUET_COOP_YIELD, 2, 500), 0);
	assert_int_equal(rig->host.last[0], 1);
	assert_int_equal(rig->host.last[1], 2);
	assert_int_equal(rig->host.last[2], 500);
	assert_int_equal(call(rig, 1, DUET_COOP_YIELD, 1, 0), -DUET_COOP_EINVAL);
	assert_int_equal(call(rig, 1, DUET_COOP_YIELD, 1ULL << 32, 0), -DUET_COOP_EINVAL);
	rig->host.fails = -EAGAIN;
	assert_int_equal(call(rig, 1, DUET_COOP_YIELD, 0, 0), -DUET_COOP_EAGAIN);
	rig->host.fails = -EDOM;
	assert_int_equal(call(rig, 1, DUET_COOP_YIELD, 0, 0), -DUET_COOP_EIO);
	rig_free(rig);
}

static void counts(void **state)
{
	struct rig *rig = rig_new(&all);
	uint64_t name;

	up(rig, ALL, 1);
	assert_int_equal(
		call(rig, 1, DUET_COOP_COUNTER_OPEN, DUET_COOP_COUNTERS, 0), -DUET_COOP_EINVAL);
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_OPEN, 2, 0), 0);
	name = page(rig, 1)->call.values[0];
	rig->host.count = 5000;
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_READ, name, 0), 0);
	assert_int_equal(name, 1102);
	assert_int_equal(page(rig, 1)->call.values[0], 6102);
	assert_int_equal(page(rig, 1)->call.values[1], 1);
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_READ, 0, 0), -DUET_COOP_EINVAL);
	/* It is that vCPU's alone. */
	assert_int_equal(call(rig, 0, DUET_COOP_COUNTER_CLOSE, name, 0), -DUET_COOP_EINVAL);
	assert_int_equal(call(rig, 0, DUET_COOP_COUNTER_CLOSE, 0, 0), -DUET_COOP_EINVAL);
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_CLOSE, name, 0), 0);
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_CLOSE, name, 0), -DUET_COOP_EINVAL);
	assert_int_equal(rig->host.open, 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_OPEN, 0, 0), 0);
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_OPEN, 0, 0), -DUET_COOP_ENOSPC);
	rig->host.fails = -EMFILE;
	assert_int_equal(call(rig, 2, DUET_COOP_COUNTER_OPEN, 0, 0), -DUET_COOP_ENOSPC);
	rig->host.fails = 0;
	/* A new driver does not meet the old one's; its first call clears up. */
	up(rig, ALL, 1);
	assert_int_equal(rig->host.open, 16);
	assert_int_equal(call(rig, 1, DUET_COOP_NOP, 0, 0), 0);
	assert_int_equal(rig->host.open, 0);
	assert_int_equal(call(rig, 2, DUET_COOP_COUNTER_OPEN, 0, 0), 0);
	rig_free(rig);
}

struct caller {
	struct rig *rig;
	struct duet_coop_page *page;
	_Atomic bool stop;
	_Atomic unsigned served;
};

/* vCPU 1, which opens counters and looks at each answer. */
static void *keep_calling(void *opaque)
{
	struct caller *caller = opaque;
	volatile struct duet_coop_call_part *part = &caller->page->call;

	while (!atomic_load(&caller->stop)) {
		/* As a guest's stores are, for which the device clears the page word by word. */
		atomic_store((_Atomic uint32_t *)&part->function, DUET_COOP_COUNTER_OPEN);
		atomic_store((_Atomic uint64_t *)&part->arguments[0], 0);
		ring(caller->rig, 1, 1);
		caller->served += atomic_load((_Atomic int32_t *)&part->status) == 0;
	}
	return NULL;
}

/* A driver that resets the device while another vCPU calls: no counter stays behind. */
static void is_reset_amid_calls(void **state)
{
	struct rig *rig = rig_new(&all);
	struct caller caller = {.rig = rig, .page = page(rig, 1)};
	pthread_t thread;

	rig->host.current = 1;
	up(rig, ALL, 1);
	assert_int_equal(pthread_create(&thread, NULL, keep_calling, &caller), 0);
	/* Between two of them there may be no time for a call. */
	for (unsigned i = 0; i < 200 || !atomic_load(&caller.served); i++) {
		up(rig, ALL, 1);
		if (i % 8 == 0)
			fake_machine_round(&rig->device.machine);
	}
	atomic_store(&caller.stop, true);
	pthread_join(thread, NULL);
	assert_true(rig->host.open <= 16);
	assert_true(driver_reset(&rig->device.driver));
	up(rig, ALL, 1);
	assert_int_equal(call(rig, 1, DUET_COOP_NOP, 0, 0), 0);
	assert_int_equal(rig->host.open, 0);
	rig_free(rig);
}

static void answers_batches(void **state)
{
	struct duet_coop_request many[DUET_COOP_BATCH_MAX + 1] = {{.function = DUET_COOP_NOP}};
	struct rig *rig = rig_new(&all);

	up(rig, ALL | VIRTIO_FEATURE(VIRTIO_F_RING_PACKED), 1);
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i].arguments[0] = i * 3;
	many[7].function = DUET_COOP_YIELD;
	many[8].function = 12345;
	assert_int_equal(request(rig, many, DUET_COOP_BATCH_MAX),
		DUET_COOP_BATCH_MAX * sizeof(struct duet_coop_answer));
	for (unsigned i = 0; i < DUET_COOP_BATCH_MAX; i++) {
		bool refused = i == 7 || i == 8;

		assert_int_equal(answer(rig, i)->status, refused ? -DUET_COOP_ENOSYS : 0);
		assert_int_equal(answer(rig, i)->values[0], refused ? 0 : i * 3);
	}
	assert_int_equal(answer(rig, DUET_COOP_BATCH_MAX)->status, (int)0xeeeeeeee);
	assert_int_equal(request(rig, many, DUET_COOP_BATCH_MAX + 1), 0);
	assert_int_equal(counted(rig, "requests", "nop"), DUET_COOP_BATCH_MAX - 2);
	assert_int_equal(counted(rig, "requests", "malformed"), 1);
	rig_free(rig);
}

/* As drivers give them; request() cuts its own in two. */
static void answers_batches_in_one_piece(void **state)
{
	struct duet_coop_request three[3] = {{.function = DUET_COOP_NOP}};
	static const struct ring_buffer whole[] = {
		{DATA, sizeof(three), false}, {ANSWERS, 4096, true}};
	struct rig *rig = rig_new(&all);

	up(rig, ALL, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(three); i++)
		three[i].arguments[0] = 70 + i;
	three[1].function = 12345;
	memcpy(device_rig_at(&rig->device, DATA), three, sizeof(three));
	memset(device_rig_at(&rig->device, ANSWERS), 0xee, 4096);
	assert_int_equal(device_rig_request(&rig->device, DUET_COOP_REQUESTS, whole, 2, false),
		3 * sizeof(struct duet_coop_answer));
	assert_int_equal(answer(rig, 1)->status, -DUET_COOP_ENOSYS);
	assert_int_equal(answer(rig, 0)->values[0], 70);
	assert_int_equal(answer(rig, 2)->status, 0);
	assert_int_equal(answer(rig, 2)->values[0], 72);
	assert_int_equal(answer(rig, 3)->status, (int)0xeeeeeeee);
	rig_free(rig);
}

/* Too little room for the answers, a piece of a request, none. */
static void refuses_bad_batches(void **state)
{
	static const struct ring_buffer bad[][2] = {
		{{DATA, 112, false}, {ANSWERS, 79, true}},
		{{DATA, 57, false}, {ANSWERS, 4096, true}},
		{{DATA, 55, false}, {ANSWERS, 4096, true}},
	};
	static const struct ring_buffer one = {ANSWERS, 4096, true};
	struct rig *rig = rig_new(&all);

	up(rig, ALL, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(device_rig_request(&rig->device, 0, bad[i], 2, false), 0);
	assert_int_equal(device_rig_request(&rig->device, 0, &one, 1, false), 0);
	assert_int_equal(counted(rig, "requests", "malformed"), 4);
	rig_free(rig);
}

/* The guest writes; what it writes is taken when it is whole. */
static void reads_hints(void **state)
{
	struct rig *rig = rig_new(&all);
	struct device *device = rig->device.device;
	struct duet_coop_guest_part *part = &page(rig, 1)->guest;
	struct virtio_coop_machine_hints machine;
	struct virtio_coop_vcpu_hints hints;

	assert_false(virtio_coop_vcpu_hints(device, 1, &hints));
	up(rig, ALL, 1);
	assert_true(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_false(hints.valid);
	*part = (struct duet_coop_guest_part){
		.sequence = 2, .runnable = 3, .burst_ns = 4, .switches = 5, .updated_ns = 6};
	assert_true(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_true(hints.valid && hints.runnable == 3 && hints.burst_ns == 4);
	assert_true(hints.switches == 5 && hints.updated_ns == 6);
	part->sequence = 3;
	assert_true(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_false(hints.valid);
	assert_false(virtio_coop_vcpu_hints(device, VCPUS, &hints));
	assert_true(virtio_coop_machine_hints(device, &machine));
	assert_false(machine.valid);
	page(rig, 0)->guest = (struct duet_coop_guest_part){.sequence = 8,
		.working_set = 1 << 20,
		.refaults = 7,
		.heartbeat = 9,
		.pressure = {1, 2, 3, 4, 5, 6}};
	assert_true(virtio_coop_machine_hints(device, &machine));
	assert_true(machine.valid && machine.working_set == 1 << 20 && machine.refaults == 7);
	assert_true(machine.heartbeat == 9 && machine.pressure[0] == 1 && machine.pressure[4] == 5);
	up(rig, ALL & ~F(HINTS), 1);
	assert_false(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_false(virtio_coop_machine_hints(device, &machine));
	rig_free(rig);
}

static const struct ring_buffer wish_buffer = {WISHES, sizeof(struct duet_coop_wish), true};

static uint32_t await_wish(struct rig *rig, uint32_t kind)
{
	const struct duet_coop_wish *wish = (const void *)device_rig_at(&rig->device, WISHES);
	uint32_t written;
	uint64_t token;

	assert_true(driver_await(&rig->device.rings[DUET_COOP_EVENTS], &token, &written));
	assert_int_equal(written, sizeof(*wish));
	assert_int_equal(wish->kind, kind);
	return wish->number;
}

static void offer_wish(struct rig *rig)
{
	assert_true(
		ring_driver_offer(&rig->device.rings[DUET_COOP_EVENTS], &wish_buffer, 1, false, 1));
	driver_kick(&rig->device.driver, DUET_COOP_EVENTS);
}

static void wishes(void **state)
{
	struct rig *rig = rig_new(&all);
	struct device *device = rig->device.device;
	struct error err = {0};

	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_SHARE, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "coop0: no driver"));
	up(rig, ALL & ~F(WISHES), 1);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_SHARE, &err), -ENOTSUP);
	up(rig, ALL, 1);
	/* With a buffer there, and before there is one. */
	offer_wish(rig);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_SHARE, &err), 0);
	assert_int_equal(await_wish(rig, DUET_COOP_WISH_SHARE), 1);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_LOCALITY, &err), 0);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_LOCALITY, &err), 0);
	offer_wish(rig);
	assert_int_equal(await_wish(rig, DUET_COOP_WISH_LOCALITY), 2);
	assert_int_equal(counted(rig, NULL, "wishes"), 2);
	rig_free(rig);
}

static struct virtio_coop_runs runs_of(struct rig *rig, enum virtio_coop_kind kind)
{
	struct virtio_coop_runs runs;

	virtio_coop_runs(rig->device.device, kind, &runs);
	return runs;
}

static void wish(struct rig *rig, enum virtio_coop_kind kind)
{
	struct error err;

	assert_int_equal(virtio_coop_wish(rig->device.device, kind, &err), 0);
}

#define SHARE(...)    request_one(rig, DUET_COOP_SHARE, (const uint64_t[5]){__VA_ARGS__})
#define LOCALITY(...) request_one(rig, DUET_COOP_LOCALITY, (const uint64_t[5]){__VA_ARGS__})

static void add_used(void *opaque, const struct virtio_coop_run *run)
{
	*(uint64_t *)opaque += run->used * 1000 + run->vcpu;
}

static void takes_runs(void **state)
{
	struct rig *rig = rig_new(&all);
	uint64_t used = 0;

	up(rig, ALL, 1);
	/* Nobody has asked. */
	assert_int_equal(SHARE(0x1000, 1, 0, 0, 0), -DUET_COOP_EINVAL);
	assert_int_equal(SHARE(0x1000, 1, 0, 0, 1), -DUET_COOP_EINVAL);
	wish(rig, VIRTIO_COOP_SHARE);
	wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(SHARE(0x1000, 2, 99, 99, 1), 0);
	assert_int_equal(SHARE(0x1000, FAKE_RAM_SIZE / 4096, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(SHARE(0x1000, 1ULL << 52, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(SHARE(0x1000, ~0ULL, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(SHARE(~0xfffULL, 1, 0, 0, 1), -DUET_COOP_EFAULT);
	assert_int_equal(SHARE(0x1001, 1, 0, 0, 1), -DUET_COOP_EINVAL);
	assert_int_equal(SHARE(0x8000, 3, 0, 0, 1), 0);
	assert_false(runs_of(rig, VIRTIO_COOP_SHARE).complete);
	assert_int_equal(SHARE(0, 0, 0, 0, 1), 0);
	assert_int_equal(SHARE(0x8000, 3, 0, 0, 1), -DUET_COOP_EINVAL);
	assert_true(runs_of(rig, VIRTIO_COOP_SHARE).complete);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).count, 2);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).pages, 5);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).refused, 8);
	assert_int_equal(LOCALITY(0x1000, 1, VCPUS, 1, 1), -DUET_COOP_EINVAL);
	assert_int_equal(LOCALITY(0x1000, 1, 1ULL << 32, 1, 1), -DUET_COOP_EINVAL);
	assert_int_equal(LOCALITY(0x1000, 1, 2, 5, 1), 0);
	virtio_coop_each_run(rig->device.device, VIRTIO_COOP_LOCALITY, add_used, &used);
	assert_int_equal(used, 5002);
	/* A new answer takes the old one's place; an old one comes too late. */
	wish(rig, VIRTIO_COOP_SHARE);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).count, 2);
	assert_int_equal(SHARE(0x1000, 9, 0, 0, 1), -DUET_COOP_EINVAL);
	assert_int_equal(SHARE(0x1000, 9, 0, 0, 2), 0);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).pages, 9);
	assert_true(driver_reset(&rig->device.driver));
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).count, 0);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).told, 0);
	rig_free(rig);
}

/* As many as a device keeps, of both kinds together. */
static void bounds_runs(void **state)
{
	struct duet_coop_request many[DUET_COOP_BATCH_MAX];
	struct rig *rig = rig_new(&all);

	up(rig, ALL, 1);
	wish(rig, VIRTIO_COOP_SHARE);
	wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(LOCALITY(0x1000, 1, 2, 5, 1), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct duet_coop_request){
			.function = DUET_COOP_SHARE, .arguments = {0, 1, 0, 0, 1}};
	for (unsigned i = 0; i < VIRTIO_COOP_RUNS_MAX / DUET_COOP_BATCH_MAX; i++) {
		request(rig, many, DUET_COOP_BATCH_MAX);
		assert_int_equal(answer(rig, DUET_COOP_BATCH_MAX - 2)->status, 0);
	}
	assert_int_equal(answer(rig, DUET_COOP_BATCH_MAX - 1)->status, -DUET_COOP_ENOSPC);
	assert_int_equal(LOCALITY(0x1000, 1, 2, 5, 1), -DUET_COOP_ENOSPC);
	assert_int_equal(runs_of(rig, VIRTIO_COOP_SHARE).count, VIRTIO_COOP_RUNS_MAX - 1);
	rig_free(rig);
}

static void tells_how_long_it_stood_still(void **state)
{
	struct rig *rig = rig_new(&all);
	struct device *device = rig->device.device;

	up(rig, ALL, 1);
	virtio_coop_goes_on(device, 500);
	assert_int_equal(page(rig, 2)->host.away_ns, 0);
	virtio_coop_stopped(device, 1000);
	virtio_coop_stopped(device, 1500);
	virtio_coop_goes_on(device, 3000);
	assert_int_equal(page(rig, 0)->host.away_ns, 2000);
	/* The guest's scribbling changes nothing; a clock that begins anew takes nothing away. */
	page(rig, 2)->host.away_ns = 5;
	virtio_coop_stopped(device, 4000);
	virtio_coop_goes_on(device, 10);
	assert_int_equal(page(rig, 2)->host.away_ns, 2000);
	virtio_coop_stopped(device, 5000);
	virtio_coop_goes_on(device, 5001);
	assert_int_equal(page(rig, 2)->host.away_ns, 2001);
	up(rig, ALL, 1);
	assert_int_equal(page(rig, 2)->host.away_ns, 2001);
	assert_int_equal(virtio_coop_away(device), 2001);
	rig_free(rig);
}

static void switches_features_off(void **state)
{
	const struct virtio_coop_options none = {.vcpus = 1};
	const struct virtio_coop_host_ops nothing = {0};
	struct virtio_coop_host host = {.ops = &nothing};
	struct virtio_coop_options options = all;
	struct rig *rig = rig_new(&none);

	assert_int_equal(driver_features(&rig->device.driver) & 0xffffff, 0);
	up(rig, 0, 1);
	virtio_coop_stopped(rig->device.device, 1000);
	virtio_coop_goes_on(rig->device.device, 3000);
	assert_int_equal(page(rig, 0)->host.away_ns, 0);
	rig_free(rig);
	options.host = &host;
	rig = rig_new(&options);
	assert_int_equal(driver_features(&rig->device.driver) & 0xffffff & ~F(COPY),
		F(HINTS) | F(WISHES) | F(TIME));
	up(rig, F(HINTS), 1);
	assert_int_equal(call(rig, 0, DUET_COOP_COUNTER_OPEN, 0, 0), -DUET_COOP_EPERM);
	rig_free(rig);
}

/* ---- saved state ---- */

static int restore(struct rig *rig, const struct state_writer *writer)
{
	struct state_reader reader;
	struct error err;
	int ret;

	assert_int_equal(state_reader_init(&reader, writer->bytes, writer->length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	fake_stop(rig->device.device);
	ret = rig->device.device->ops->restore(rig->device.device, &reader, &err);
	if (ret == 0)
		assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(rig->device.device->ops->start(rig->device.device, &err), 0);
	return ret;
}

static void save(struct rig *rig, struct state_writer *writer)
{
	struct error err;

	fake_stop(rig->device.device);
	state_writer_init(writer);
	state_section_begin(writer, "coop", 1);
	rig->device.device->ops->save(rig->device.device, writer);
	state_section_close(writer);
	assert_int_equal(state_writer_finish(writer), 0);
	assert_int_equal(rig->device.device->ops->start(rig->device.device, &err), 0);
}

static void is_saved_and_restored(void **state)
{
	struct rig *rig = rig_new(&all), *other = rig_new(&all);
	struct virtio_coop_options fewer = all;
	struct state_writer writer;

	up(rig, ALL, 1);
	page(rig, 1)->guest.sequence = 4;
	page(rig, 1)->guest.runnable = 17;
	wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(LOCALITY(0x1000, 1, 2, 5, 1), 0);
	assert_int_equal(call(rig, 1, DUET_COOP_COUNTER_OPEN, 3, 0), 0);
	virtio_coop_stopped(rig->device.device, 7000);
	save(rig, &writer);
	/* Memory is moved by others. */
	memcpy(other->device.machine.ram, rig->device.machine.ram, FAKE_RAM_SIZE);
	memcpy(other->device.rings, rig->device.rings, sizeof(rig->device.rings));
	for (unsigned i = 0; i < DUET_COOP_QUEUES; i++)
		other->device.rings[i].memory = &other->device.machine.memory;
	assert_int_equal(restore(other, &writer), 0);
	find_shared(other);
	virtio_coop_goes_on(other->device.device, 9000);
	assert_int_equal(page(other, 1)->guest.runnable, 17);
	assert_int_equal(page(other, 1)->host.away_ns, 2000);
	assert_int_equal(call(other, 2, DUET_COOP_NOP, 5, 0), 0);
	assert_int_equal(runs_of(other, VIRTIO_COOP_LOCALITY).pages, 1);
	assert_int_equal(runs_of(other, VIRTIO_COOP_LOCALITY).wished, 1);
	other->host.open = 1;
	assert_int_equal(call(other, 1, DUET_COOP_COUNTER_CLOSE, 1103, 0), 0);
	rig_free(other);
	fewer.vcpus = VCPUS - 1;
	other = rig_new(&fewer);
	assert_int_equal(restore(other, &writer), -EINVAL);
	rig_free(other);
	rig_free(rig);
	state_writer_free(&writer);
}

/* Cut off at any place. */
static void refuses_bad_state(void **state)
{
	struct rig *rig = rig_new(&all);
	struct state_writer writer;
	struct state_reader reader;
	struct error err;
	size_t length;

	up(rig, ALL, 1);
	wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(LOCALITY(0x1000, 1, 2, 5, 1), 0);
	save(rig, &writer);
	fake_stop(rig->device.device);
	length = writer.length;
	for (size_t cut = 64; cut < length - 64; cut += 97) {
		assert_int_equal(state_reader_init(&reader, writer.bytes, length, &err), 0);
		assert_int_equal(state_section_next(&reader, &err), 1);
		reader.section_end -= cut;
		assert_int_equal(
			rig->device.device->ops->restore(rig->device.device, &reader, &err),
			-EINVAL);
	}
	state_writer_free(&writer);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_itself),
		cmocka_unit_test(memory_moves),
		cmocka_unit_test(memory_is_mapped_when_it_is_looked_at),
		cmocka_unit_test(memory_is_there_without_a_window),
		cmocka_unit_test(agrees_on_a_version),
		cmocka_unit_test(calls_fast),
		cmocka_unit_test(yields),
		cmocka_unit_test(counts),
		cmocka_unit_test(is_reset_amid_calls),
		cmocka_unit_test(answers_batches),
		cmocka_unit_test(answers_batches_in_one_piece),
		cmocka_unit_test(refuses_bad_batches),
		cmocka_unit_test(reads_hints),
		cmocka_unit_test(wishes),
		cmocka_unit_test(takes_runs),
		cmocka_unit_test(bounds_runs),
		cmocka_unit_test(tells_how_long_it_stood_still),
		cmocka_unit_test(switches_features_off),
		cmocka_unit_test(is_saved_and_restored),
		cmocka_unit_test(refuses_bad_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
