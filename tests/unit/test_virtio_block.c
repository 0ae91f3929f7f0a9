/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-block as its driver sees it, on a real file. */
#include "device_rig.h"
#include "device_stats.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE           (2U << 20)
#define BIT(n)         VIRTIO_FEATURE(n)
#define F_RO           5
#define F_FLUSH        9
#define F_CONFIG_WCE   11
#define F_MQ           12
#define F_DISCARD      13
#define F_WRITE_ZEROES 14
#define PACKED         BIT(VIRTIO_F_RING_PACKED)
#define EVENT          BIT(VIRTIO_F_EVENT_IDX)
#define INDIRECT       BIT(VIRTIO_F_INDIRECT_DESC)
#define ALL            (BIT(F_FLUSH) | BIT(F_CONFIG_WCE) | BIT(F_DISCARD) | BIT(F_WRITE_ZEROES))

#define HEADER (DEVICE_RIG_DATA)
#define STATUS (DEVICE_RIG_DATA + 0x1000)
#define DATA   (DEVICE_RIG_DATA + 0x10000)

enum {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13
};
enum {
	S_OK,
	S_IOERR,
	S_UNSUPP
};

/* Whether the back end was told to make the last write durable: written by the I/O loop. */
static _Atomic bool told_durable;

void __real_block_submit(struct block *block, struct block_request *request);
void __wrap_block_submit(struct block *block, struct block_request *request);

void __wrap_block_submit(struct block *block, struct block_request *request)
{
	if (request->kind != BLOCK_READ)
		told_durable = request->durable;
	__real_block_submit(block, request);
}

struct rig {
	struct device_rig rig;
	char path[64];
	int fd;
};

static void rig_init(struct rig *rig, bool readonly, unsigned queues)
{
	struct block_options file = {.readonly = readonly, .lock = true};
	struct virtio_block_options options = {.queues = queues, .packed = true};
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	strcpy(rig->path, "/tmp/duet-disk-XXXXXX");
	strcpy(options.serial, "duet-disk0");
	rig->fd = mkstemp(rig->path);
	assert_true(rig->fd >= 0);
	assert_int_equal(ftruncate(rig->fd, SIZE), 0);
	file.path = rig->path;
	assert_int_equal(block_open(&options.block, &file, &err), 0);
	fake_machine_init(&rig->rig.machine);
	assert_int_equal(virtio_block_new(&rig->rig.device, "disk0", &options, &err), 0);
	device_rig_start(&rig->rig);
}

static void rig_free(struct rig *rig)
{
	device_rig_free(&rig->rig);
	close(rig->fd);
	unlink(rig->path);
}

static void put_header(struct rig *rig, uint32_t type, uint64_t sector)
{
	uint8_t *header = device_rig_at(&rig->rig, HEADER);

	store_le32(header, type);
	store_le32(header + 4, 0);
	store_le64(header + 8, sector);
	*device_rig_at(&rig->rig, STATUS) = 0xff;
}

static uint8_t status(struct rig *rig)
{
	return *device_rig_at(&rig->rig, STATUS);
}

/* Header, one piece of data, status: as Linux does it. */
static uint8_t request(struct rig *rig, uint32_t type, uint64_t sector, uint32_t length)
{
	bool in = type == T_IN || type == T_GET_ID;
	struct ring_buffer buffers[3] = {{HEADER, 16, false}};
	unsigned count = 1;
	uint32_t written;

	put_header(rig, type, sector);
	if (length)
		buffers[count++] = (struct ring_buffer){DATA, length, in};
	buffers[count++] = (struct ring_buffer){STATUS, 1, true};
	written = device_rig_request(&rig->rig, 0, buffers, count, false);
	if (in && status(rig) != S_OK)
		assert_int_equal(written, 0); /* no data, so not up to the status */
	else
		assert_int_equal(written, in ? length + 1 : 1);
	return status(rig);
}

static uint8_t range_request(
	struct rig *rig, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	uint8_t *range = device_rig_at(&rig->rig, DATA);

	store_le64(range, sector);
	store_le32(range + 8, sectors);
	store_le32(range + 12, flags);
	return request(rig, type, 0, 16);
}

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 512 + seed);
}

static void read_write(struct rig *rig, uint64_t features)
{
	uint8_t *data, *copy = malloc(65536), *on_disk = malloc(65536);

	device_rig_up(&rig->rig, features, 1);
	data = device_rig_at(&rig->rig, DATA);
	fill(data, 65536, 3);
	memcpy(copy, data, 65536);
	assert_int_equal(request(rig, T_OUT, 8, 65536), S_OK);
	assert_int_equal(request(rig, T_FLUSH, 0, 0), S_OK);
	assert_int_equal(pread(rig->fd, on_disk, 65536, 8 * 512), 65536);
	assert_memory_equal(on_disk, copy, 65536);
	memset(data, 0, 65536);
	assert_int_equal(request(rig, T_IN, 8, 65536), S_OK);
	assert_memory_equal(data, copy, 65536);
	assert_true(fake_host_wait_msi(&rig->rig.machine.host, 0x101));
	free(copy);
	free(on_disk);
}

static void test_read_write(void **state)
{
	static const uint64_t kinds[] = {
		ALL, ALL | EVENT, ALL | PACKED, ALL | PACKED | EVENT | INDIRECT, 0};
	struct rig rig;

	rig_init(&rig, false, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		read_write(&rig, kinds[i]);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "bytes_read"), 5 * 65536);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "errors"), 0);
	rig_free(&rig);
}

static void test_config(void **state)
{
	struct rig rig;
	struct fake_machine *machine = &rig.rig.machine;
	uint64_t config, features;

	rig_init(&rig, false, 2);
	config = rig.rig.driver.config;
	features = driver_features(&rig.rig.driver);
	assert_int_equal(features & ALL, ALL);
	assert_true(features & BIT(F_MQ));
	assert_false(features & BIT(F_RO));
	assert_int_equal(fake_guest_read(machine, config, 8), SIZE / 512);
	assert_int_equal(fake_guest_read(machine, config + 12, 4), 126);
	assert_int_equal(fake_guest_read(machine, config + 20, 4), 512);
	/* Physical blocks of 4096 bytes, of which the first begins with the disk. */
	assert_int_equal(fake_guest_read(machine, config + 24, 1), 3);
	assert_int_equal(fake_guest_read(machine, config + 25, 1), 0);
	assert_int_equal(fake_guest_read(machine, config + 26, 2), 8);
	assert_int_equal(fake_guest_read(machine, config + 34, 2), 2);
	assert_int_equal(fake_guest_read(machine, config + 32, 1), 1);
	fake_guest_write(machine, config + 32, 1, 0);
	assert_int_equal(fake_guest_read(machine, config + 32, 1), 0);
	assert_true(driver_reset(&rig.rig.driver));
	assert_int_equal(fake_guest_read(machine, config + 32, 1), 1);
	rig_free(&rig);
	rig_init(&rig, true, 1);
	features = driver_features(&rig.rig.driver);
	assert_true(features & BIT(F_RO));
	assert_false(features & (BIT(F_DISCARD) | BIT(F_WRITE_ZEROES) | BIT(F_MQ)));
	rig_free(&rig);
}

/* 5.2.5.2, 5.2.6.2: who can switch the cache but not flush it has none. */
static void test_writeback_without_flush(void **state)
{
	struct rig rig;
	struct fake_machine *machine = &rig.rig.machine;
	uint64_t config;

	(void)state;
	rig_init(&rig, false, 1);
	config = rig.rig.driver.config;
	assert_true(driver_negotiate(&rig.rig.driver, BIT(VIRTIO_F_VERSION_1) | BIT(F_CONFIG_WCE)));
	assert_int_equal(fake_guest_read(machine, config + 32, 1), 0);
	device_rig_up(&rig.rig, BIT(F_CONFIG_WCE), 1);
	fake_guest_write(machine, config + 32, 1, 1);
	assert_int_equal(fake_guest_read(machine, config + 32, 1), 0);
	assert_int_equal(request(&rig, T_OUT, 0, 512), S_OK);
	device_rig_up(&rig.rig, BIT(F_CONFIG_WCE) | BIT(F_FLUSH), 1);
	assert_int_equal(fake_guest_read(machine, config + 32, 1), 1);
	rig_free(&rig);
}

/* 5.2.6.2: without a cache, or with one that the driver cannot flush or has switched off, a write
 * that is done is on the disk. */
static void test_write_through_is_durable(void **state)
{
	static const struct {
		uint64_t features;
		bool writeback, durable;
	} cases[] = {
		{0, true, true},
		{BIT(F_CONFIG_WCE), true, true},
		{BIT(F_FLUSH), true, false},
		{BIT(F_FLUSH) | BIT(F_CONFIG_WCE), true, false},
		{BIT(F_FLUSH) | BIT(F_CONFIG_WCE), false, true},
	};
	struct rig rig;

	(void)state;
	rig_init(&rig, false, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint64_t ranges = BIT(F_WRITE_ZEROES) | BIT(F_DISCARD);

		device_rig_up(&rig.rig, cases[i].features | ranges, 1);
		fake_guest_write(
			&rig.rig.machine, rig.rig.driver.config + 32, 1, cases[i].writeback);
		told_durable = !cases[i].durable;
		assert_int_equal(request(&rig, T_OUT, 0, 512), S_OK);
		assert_int_equal(told_durable, cases[i].durable);
		told_durable = !cases[i].durable;
		assert_int_equal(range_request(&rig, T_WRITE_ZEROES, 0, 1, 0), S_OK);
		assert_int_equal(told_durable, cases[i].durable);
	}
	rig_free(&rig);
}

/* 2.7.4.1: the driver may cut a request as it likes. */
static void test_any_layout(void **state)
{
	const struct ring_buffer out[] = {{HEADER, 5, false}, {HEADER + 5, 10, false},
		{HEADER + 15, 1 + 100, false}, {DATA + 100, 924, false}, {STATUS - 3, 4, true}};
	const struct ring_buffer in[] = {
		{HEADER, 16, false}, {DATA, 100, true}, {DATA + 100, 924, true}, {STATUS, 1, true}};
	const struct ring_buffer joined[] = {{HEADER, 16, false}, {STATUS - 1024, 1025, true}};
	struct rig rig;
	uint8_t *data;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	data = device_rig_at(&rig.rig, DATA);
	put_header(&rig, T_OUT, 2);
	/* The first 100 bytes of data lie right behind the header. */
	fill(device_rig_at(&rig.rig, HEADER + 16), 100, 1);
	fill(data, 1024, 1);
	/* Of the four writable bytes only the last, the status, is written. */
	assert_int_equal(device_rig_request(&rig.rig, 0, out, 5, false), 0);
	assert_int_equal(status(&rig), S_OK);
	memset(data, 0, 1024);
	put_header(&rig, T_IN, 2);
	assert_int_equal(device_rig_request(&rig.rig, 0, in, 4, false), 1025);
	assert_int_equal(status(&rig), S_OK);
	put_header(&rig, T_IN, 2);
	assert_int_equal(device_rig_request(&rig.rig, 0, joined, 2, false), 1025);
	assert_int_equal(status(&rig), S_OK);
	assert_memory_equal(data, device_rig_at(&rig.rig, STATUS - 1024), 1024);
	fill(device_rig_at(&rig.rig, DATA + 4096), 1024, 1);
	assert_memory_equal(data, device_rig_at(&rig.rig, DATA + 4096), 1024);
	rig_free(&rig);
}

static void test_errors(void **state)
{
	struct rig rig;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	assert_int_equal(request(&rig, T_IN, SIZE / 512, 512), S_IOERR);
	assert_int_equal(request(&rig, T_IN, SIZE / 512 - 1, 1024), S_IOERR);
	assert_int_equal(request(&rig, T_OUT, UINT64_MAX, 512), S_IOERR);
	assert_int_equal(request(&rig, T_OUT, UINT64_MAX / 512, 512), S_IOERR);
	assert_int_equal(request(&rig, T_IN, 0, 511), S_IOERR);
	assert_int_equal(request(&rig, 99, 0, 512), S_UNSUPP);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	assert_int_equal(device_stat(rig.rig.device, "queue0", "errors"), 6);
	rig_free(&rig);
	rig_init(&rig, true, 1);
	device_rig_up(&rig.rig, BIT(F_RO), 1);
	assert_int_equal(request(&rig, T_OUT, 0, 512), S_IOERR);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	rig_free(&rig);
}

static void test_get_id(void **state)
{
	const struct ring_buffer longer[] = {
		{HEADER, 16, false}, {DATA, 32, true}, {STATUS, 1, true}};
	struct rig rig;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	memset(device_rig_at(&rig.rig, DATA), 0xee, 32);
	assert_int_equal(request(&rig, T_GET_ID, 0, 20), S_OK);
	assert_string_equal((char *)device_rig_at(&rig.rig, DATA), "duet-disk0");
	assert_int_equal(*device_rig_at(&rig.rig, DATA + 20), 0xee);
	put_header(&rig, T_GET_ID, 0);
	assert_int_equal(device_rig_request(&rig.rig, 0, longer, 3, false), 20);
	assert_int_equal(status(&rig), S_OK);
	rig_free(&rig);
}

static bool file_is(struct rig *rig, off_t offset, size_t length, uint8_t value)
{
	uint8_t *bytes = malloc(length);
	bool same = pread(rig->fd, bytes, length, offset) == (ssize_t)length;

	for (size_t i = 0; same && i < length; i++)
		same = bytes[i] == value;
	free(bytes);
	return same;
}

static void test_discard_and_zero(void **state)
{
	static const struct {
		uint32_t type, flags;
	} ways[] = {{T_WRITE_ZEROES, 0}, {T_WRITE_ZEROES, 1}, {T_DISCARD, 0}};
	struct rig rig;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		memset(device_rig_at(&rig.rig, DATA), 0x77, 65536);
		assert_int_equal(request(&rig, T_OUT, 0, 65536), S_OK);
		assert_int_equal(range_request(&rig, ways[i].type, 9, 70, ways[i].flags), S_OK);
		assert_true(file_is(&rig, 0, 9 * 512, 0x77));
		assert_true(file_is(&rig, 9 * 512, 70 * 512, 0));
		assert_true(file_is(&rig, 79 * 512, 65536 - 79 * 512, 0x77));
	}
	assert_int_equal(range_request(&rig, T_DISCARD, 0, 8, 1), S_UNSUPP);
	assert_int_equal(range_request(&rig, T_WRITE_ZEROES, 0, 8, 2), S_UNSUPP);
	assert_int_equal(range_request(&rig, T_WRITE_ZEROES, SIZE / 512 - 1, 2, 0), S_IOERR);
	assert_int_equal(range_request(&rig, T_DISCARD, UINT64_MAX, 1, 0), S_IOERR);
	assert_int_equal(range_request(&rig, T_DISCARD, 0, UINT32_MAX, 0), S_IOERR);
	assert_int_equal(request(&rig, T_DISCARD, 0, 32), S_IOERR);
	device_rig_up(&rig.rig, BIT(F_FLUSH), 1);
	assert_int_equal(range_request(&rig, T_DISCARD, 0, 8, 0), S_UNSUPP);
	rig_free(&rig);
}

static void malformed(const struct ring_buffer *buffers, unsigned count)
{
	struct rig rig;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	put_header(&rig, T_IN, 0);
	assert_true(ring_driver_offer(&rig.rig.rings[0], buffers, count, false, 1));
	driver_kick(&rig.rig.driver, 0);
	assert_true(device_rig_needs_reset(&rig.rig));
	/* It answers nothing more, until the driver resets it. */
	device_rig_up(&rig.rig, ALL, 1);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	rig_free(&rig);
}

static void test_malformed(void **state)
{
	const struct ring_buffer no_status[] = {{HEADER, 16, false}, {DATA, 512, false}};
	const struct ring_buffer short_header[] = {{HEADER, 15, false}, {STATUS, 1, true}};
	const struct ring_buffer no_header[] = {{DATA, 512, true}};
	const struct ring_buffer outside[] = {{HEADER, 16, false}, {1ULL << 40, 512, true}};

	malformed(no_status, 2);
	malformed(short_header, 2);
	malformed(no_header, 1);
	malformed(outside, 2);
}

/* Many at once, more segments than a request keeps itself, resets in between. */
static void test_depth(void **state)
{
	enum {
		DEPTH = 4,
		PIECES = 14
	};
	struct rig rig;

	rig_init(&rig, false, 1);
	for (unsigned round = 0; round < 20; round++) {
		device_rig_up(&rig.rig, round % 2 ? ALL | PACKED : ALL | EVENT, 1);
		for (unsigned i = 0; i < DEPTH; i++) {
			struct ring_buffer buffers[PIECES + 2] = {{HEADER + 16 * i, 16, false}};
			uint8_t *header = device_rig_at(&rig.rig, HEADER + 16 * i);

			store_le32(header, T_IN);
			store_le64(header + 8, i);
			for (unsigned j = 0; j < PIECES; j++)
				buffers[1 + j] = (struct ring_buffer){
					DATA + 65536 * i + 1024 * j, 512, true};
			buffers[PIECES + 1] = (struct ring_buffer){STATUS + i, 1, true};
			assert_true(ring_driver_offer(
				&rig.rig.rings[0], buffers, PIECES + 2, false, i));
		}
		driver_kick(&rig.rig.driver, 0);
		for (unsigned i = 0; round % 3 && i < DEPTH; i++) {
			uint64_t token;
			uint32_t written;

			assert_true(driver_await(&rig.rig.rings[0], &token, &written));
			assert_int_equal(written, PIECES * 512 + 1);
		}
	}
	rig_free(&rig);
}

static void test_save_restore(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err = {0};
	struct rig rig, other;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	fake_guest_write(&rig.rig.machine, rig.rig.driver.config + 32, 1, 0);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	fake_stop(rig.rig.device);
	state_writer_init(&writer);
	state_section_begin(&writer, "disk0", 1);
	rig.rig.device->ops->save(rig.rig.device, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	/* Goes on where it was, */
	assert_int_equal(rig.rig.device->ops->start(rig.rig.device, &err), 0);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	fake_stop(rig.rig.device);
	/* and so does another in a machine with the same memory. */
	rig_init(&other, false, 1);
	memcpy(other.rig.machine.ram, rig.rig.machine.ram, FAKE_RAM_SIZE);
	fake_stop(other.rig.device);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(other.rig.device->ops->restore(other.rig.device, &reader, &err), 0);
	assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(fake_guest_read(&other.rig.machine, other.rig.driver.config + 32, 1), 0);
	state_writer_free(&writer);
	rig_free(&other);
	rig_free(&rig);
}

/* Earlier versions saved a busy queue with its kicks off; nobody but the driver looks at it now. */
static void test_kicks_left_off(void **state)
{
	const struct ring_buffer in[] = {{HEADER, 16, false}, {DATA, 512, true}, {STATUS, 1, true}};
	struct error err = {0};
	struct rig rig;

	(void)state;
	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL | EVENT, 1);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	fake_stop(rig.rig.device);
	virtqueue_kicks_off(&virtio_pci_model(rig.rig.device)->queues[0]);
	assert_int_equal(rig.rig.device->ops->start(rig.rig.device, &err), 0);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	/* Those so far were kicked for without asking. */
	ring_driver_kick(&rig.rig.rings[0]);
	assert_true(ring_driver_offer(&rig.rig.rings[0], in, 3, false, 1));
	assert_true(ring_driver_kick(&rig.rig.rings[0]));
	rig_free(&rig);
}

/* Holds the I/O loop, when a request has just been completed, until the device is being stopped. */
struct hold {
	struct loop_hook hook;
	struct loop_task task;
	struct loop_op nothing;
	struct rig *rig;
	_Atomic bool held, stopping;
};

static void nothing_done(struct loop_op *op, int32_t res, uint32_t flags)
{
}

static void hold_loop(struct loop_hook *hook)
{
	const struct timespec while_it_stops = {.tv_nsec = 50 * 1000 * 1000};
	struct hold *hold = container_of(hook, struct hold, hook);
	struct virtio_device *model;

	if (hold->held)
		return; /* the device may be gone */
	model = virtio_pci_model(hold->rig->rig.device);
	if (model->queues[0].in_flight == 0)
		return;
	/* A full queue (64 entries) is submitted: the read ends, and its completion waits for the
	 * next round. */
	for (unsigned i = 0; i < 2 * 64; i++) {
		struct io_uring_sqe *sqe = loop_sqe(model->io);

		io_uring_prep_nop(sqe);
		loop_submit(model->io, sqe, &hold->nothing);
	}
	hold->held = true;
	while (!hold->stopping)
		continue;
	nanosleep(&while_it_stops, NULL);
}

static void add_hold(struct loop_task *task)
{
	struct hold *hold = container_of(task, struct hold, task);

	loop_add_hook(hold->rig->rig.machine.place.io, &hold->hook);
}

/* What was completed in the round in which the device stops reaches the driver all the same. */
static void test_stop_after_completion(void **state)
{
	const struct ring_buffer in[] = {{HEADER, 16, false}, {DATA, 512, true}, {STATUS, 1, true}};
	struct hold hold = {
		.hook.run = hold_loop, .task.run = add_hold, .nothing.done = nothing_done};
	uint64_t token;
	uint32_t written;
	struct rig rig;

	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	assert_int_equal(request(&rig, T_IN, 0, 512), S_OK);
	hold.rig = &rig;
	loop_call(rig.rig.machine.place.io, &hold.task);
	put_header(&rig, T_IN, 0);
	assert_true(ring_driver_offer(&rig.rig.rings[0], in, 3, false, 1));
	driver_kick(&rig.rig.driver, 0);
	while (!hold.held)
		continue;
	hold.stopping = true;
	fake_stop(rig.rig.device);
	assert_int_equal(status(&rig), S_OK);
	assert_true(ring_driver_take(&rig.rig.rings[0], &token, &written));
	rig_free(&rig);
}

/* What was taken from the ring in each round. */
struct rounds {
	struct loop_hook hook;
	struct loop_task task;
	struct rig *rig;
	uint64_t seen, most;
};

static void count_reads(struct loop_hook *hook)
{
	struct rounds *rounds = container_of(hook, struct rounds, hook);
	uint64_t reads = device_stat(rounds->rig->rig.device, "queue0", "reads");

	if (reads - rounds->seen > rounds->most)
		rounds->most = reads - rounds->seen;
	rounds->seen = reads;
}

static void add_count(struct loop_task *task)
{
	struct rounds *rounds = container_of(task, struct rounds, task);

	loop_add_hook(rounds->rig->rig.machine.place.io, &rounds->hook);
}

static void remove_count(struct loop_task *task)
{
	struct rounds *rounds = container_of(task, struct rounds, task);

	loop_remove_hook(rounds->rig->rig.machine.place.io, &rounds->hook);
}

/* One doorbell for 20 MiB: the copies of a turn take no longer than a turn does. */
static void test_turns(void **state)
{
	enum {
		REQUESTS = 20,
		LENGTH = 1 << 20
	};
	const struct ring_buffer in[] = {
		{HEADER, 16, false}, {DATA, LENGTH, true}, {STATUS, 1, true}};
	struct rounds rounds = {.hook.run = count_reads, .task.run = add_count};
	struct rig rig;

	(void)state;
	rig_init(&rig, false, 1);
	device_rig_up(&rig.rig, ALL, 1);
	rounds.rig = &rig;
	loop_call(rig.rig.machine.place.io, &rounds.task);
	put_header(&rig, T_IN, 0);
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_true(ring_driver_offer(&rig.rig.rings[0], in, 3, false, i));
	driver_kick(&rig.rig.driver, 0);
	for (unsigned i = 0; i < REQUESTS; i++) {
		uint64_t token;
		uint32_t written;

		assert_true(driver_await(&rig.rig.rings[0], &token, &written));
		assert_int_equal(written, LENGTH + 1);
	}
	rounds.task.run = remove_count;
	loop_call(rig.rig.machine.place.io, &rounds.task);
	assert_int_equal(rounds.seen, REQUESTS);
	/* Two turns in a round, at most: the ring's and that of its completions. */
	assert_in_range(rounds.most, 1, 2 * (8ULL * LOOP_TURN_NS / LENGTH + 1));
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_writeback_without_flush),
		cmocka_unit_test(test_write_through_is_durable),
		cmocka_unit_test(test_any_layout),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_get_id),
		cmocka_unit_test(test_discard_and_zero),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_save_restore),
		cmocka_unit_test(test_kicks_left_off),
		cmocka_unit_test(test_stop_after_completion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
