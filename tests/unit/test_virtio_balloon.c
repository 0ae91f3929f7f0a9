/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon as its driver sees it. */
#include "device_rig.h"
#include "device_stats.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define LIST      0x600000ULL /* of page numbers, and other buffers of the driver's */
#define DATA      DEVICE_RIG_DATA
#define DATA_PAGE (DATA / MEMORY_PAGE)
#define PAGES     (FAKE_RAM_SIZE / MEMORY_PAGE)
#define INFLATE   0
#define DEFLATE   1

#define F_MUST_TELL VIRTIO_FEATURE(0)
#define F_STATS     VIRTIO_FEATURE(1)
#define F_OOM       VIRTIO_FEATURE(2)
#define F_HINT      VIRTIO_FEATURE(3)
#define F_POISON    VIRTIO_FEATURE(4)
#define F_REPORTING VIRTIO_FEATURE(5)

#define CONFIG_TARGET  0
#define CONFIG_ACTUAL  4
#define CONFIG_COMMAND 8
#define CONFIG_POISON  12
#define CONFIG_MSI     0x100 /* what device_rig_up() gives the configuration's vector */

static void rig_init(struct device_rig *rig)
{
	const struct virtio_balloon_options options = {.size = 4 << 20,
		.deflate_on_oom = true,
		.reporting = true,
		.hinting = true,
		.packed = true};
	struct error err = {0};

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	assert_int_equal(virtio_balloon_new(&rig->device, "balloon0", &options, &err), 0);
	device_rig_start(rig);
}

static uint32_t config(struct device_rig *rig, unsigned offset)
{
	return (uint32_t)fake_guest_read(&rig->machine, rig->driver.config + offset, 4);
}

static void set_config(struct device_rig *rig, unsigned offset, uint32_t value)
{
	fake_guest_write(&rig->machine, rig->driver.config + offset, 4, value);
}

static uint64_t counted(struct device_rig *rig, const char *name)
{
	return device_stat(rig->device, NULL, name);
}

static void run_nothing(struct loop_task *task)
{
	(void)task;
}

/* What was posted to the I/O loop before has been done. */
static void barrier(struct device_rig *rig)
{
	struct loop_task task = {.run = run_nothing};

	loop_call(rig->machine.place.io, &task);
}

static void fill_data(struct device_rig *rig)
{
	memset(device_rig_at(rig, DATA), 0xaa, FAKE_RAM_SIZE - DATA);
}

/* The byte of which all of the page is; -1: it has several. */
static int page_of(struct device_rig *rig, uint64_t page)
{
	const uint8_t *bytes = device_rig_at(rig, page * MEMORY_PAGE);

	for (unsigned i = 1; i < MEMORY_PAGE; i++)
		if (bytes[i] != bytes[0])
			return -1;
	return bytes[0];
}

static void request_pages(struct device_rig *rig, unsigned queue, const uint32_t *pages,
	unsigned count, unsigned more_bytes)
{
	const struct ring_buffer buffer = {LIST, count * 4 + more_bytes, false};

	for (unsigned i = 0; i < count; i++)
		store_le32(device_rig_at(rig, LIST + 4ULL * i), pages[i]);
	assert_int_equal(device_rig_request(rig, queue, &buffer, 1, false), 0);
}

#define REQUEST(rig, queue, ...)                                                                   \
	request_pages(rig, queue, (const uint32_t[]){__VA_ARGS__},                                 \
		ARRAY_SIZE(((const uint32_t[]){__VA_ARGS__})), 0)

static void test_inflates(void **state)
{
	static const uint64_t kinds[] = {0, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
		VIRTIO_FEATURE(VIRTIO_F_RING_PACKED), VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC)};
	struct device_rig rig;

	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		device_rig_up(&rig, kinds[i], 2);
		fill_data(&rig);
		REQUEST(&rig, INFLATE, DATA_PAGE + 1, DATA_PAGE + 2, DATA_PAGE + 9);
		assert_int_equal(page_of(&rig, DATA_PAGE), 0xaa);
		assert_int_equal(page_of(&rig, DATA_PAGE + 1), 0);
		assert_int_equal(page_of(&rig, DATA_PAGE + 2), 0);
		assert_int_equal(page_of(&rig, DATA_PAGE + 3), 0xaa);
		assert_int_equal(page_of(&rig, DATA_PAGE + 8), 0xaa);
		assert_int_equal(page_of(&rig, DATA_PAGE + 9), 0);
		assert_int_equal(page_of(&rig, DATA_PAGE + 10), 0xaa);
		REQUEST(&rig, DEFLATE, DATA_PAGE + 1, DATA_PAGE + 9);
		/* And is memory like any other. */
		memset(device_rig_at(&rig, DATA + MEMORY_PAGE), 0x55, MEMORY_PAGE);
		assert_int_equal(page_of(&rig, DATA_PAGE + 1), 0x55);
		assert_int_equal(counted(&rig, "inflated_pages"), 3 * (i + 1));
		assert_int_equal(counted(&rig, "discarded_pages"), 3 * (i + 1));
		assert_int_equal(counted(&rig, "deflated_pages"), 2 * (i + 1));
	}
	device_rig_free(&rig);
}

/* Neighbours go together, in whatever order they come. */
static void test_runs(void **state)
{
	enum {
		COUNT = 256,
	};
	uint32_t pages[COUNT];
	struct device_rig rig;
	uint64_t before;

	rig_init(&rig);
	device_rig_up(&rig, 0, 2);
	fill_data(&rig);
	for (unsigned i = 0; i < COUNT; i++)
		pages[i] = DATA_PAGE + i;
	request_pages(&rig, INFLATE, pages, COUNT, 0);
	assert_int_equal(counted(&rig, "discards"), 1);
	for (unsigned i = 0; i < COUNT; i++)
		pages[i] = DATA_PAGE + COUNT - 1 - i;
	request_pages(&rig, INFLATE, pages, COUNT, 0);
	assert_int_equal(counted(&rig, "discards"), 2);
	/* Shuffled, and every page but the first and the last. */
	for (unsigned i = 0; i < COUNT; i++)
		pages[i] = DATA_PAGE + 0x201 + i * 77 % COUNT;
	request_pages(&rig, INFLATE, pages, COUNT, 0);
	assert_int_equal(counted(&rig, "discards"), 3);
	assert_int_equal(page_of(&rig, DATA_PAGE + 0x200), 0xaa);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x201 + i), 0);
	assert_int_equal(page_of(&rig, DATA_PAGE + 0x201 + COUNT), 0xaa);
	/* No two are neighbours. */
	for (unsigned i = 0; i < COUNT; i++)
		pages[i] = DATA_PAGE + 0x400 + i * 77 % COUNT * 2;
	before = counted(&rig, "discards");
	request_pages(&rig, INFLATE, pages, COUNT, 0);
	assert_int_equal(counted(&rig, "discards") - before, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x400 + 2 * i), 0);
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x401 + 2 * i), 0xaa);
	}
	assert_int_equal(counted(&rig, "discarded_pages"), 4 * COUNT);
	device_rig_free(&rig);
}

/* A chain for each page, offered together: how busy the machine is decides little of what waits. */
static void inflate_singly(struct device_rig *rig, const uint32_t *pages, unsigned count)
{
	uint64_t token;
	uint32_t written;

	for (unsigned i = 0; i < count; i++) {
		const struct ring_buffer buffer = {LIST + 4ULL * i, 4, false};

		store_le32(device_rig_at(rig, buffer.gpa), pages[i]);
		assert_true(ring_driver_offer(&rig->rings[INFLATE], &buffer, 1, false, i));
	}
	driver_kick(&rig->driver, INFLATE);
	for (unsigned i = 0; i < count; i++)
		assert_true(driver_await(&rig->rings[INFLATE], &token, &written));
}

/* A driver that tells before it uses a page again: pages wait for their neighbours. */
static void test_held_pages(void **state)
{
	enum {
		COUNT = 200,
		AT_ONCE = 50,
	};
	uint32_t pages[COUNT];
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, F_MUST_TELL, 2);
	fill_data(&rig);
	/* Each lot is all neighbours, none beside the one before it. */
	for (unsigned i = 0; i < COUNT; i++)
		pages[i] = (uint32_t)DATA_PAGE + i / AT_ONCE * AT_ONCE + i * 7 % AT_ONCE;
	for (unsigned i = 0; i < COUNT; i += AT_ONCE)
		inflate_singly(&rig, pages + i, AT_ONCE);
	/* None of them goes once its end is told. */
	REQUEST(&rig, DEFLATE, DATA_PAGE + 7);
	assert_int_equal(counted(&rig, "discarded_pages"), COUNT);
	memset(device_rig_at(&rig, (DATA_PAGE + 7) * MEMORY_PAGE), 0x55, MEMORY_PAGE);
	assert_true(counted(&rig, "discards") < COUNT / 2);
	/* One that nothing follows, and one that is there when the device comes to rest. */
	REQUEST(&rig, INFLATE, DATA_PAGE + COUNT);
	while (counted(&rig, "discarded_pages") < COUNT + 1)
		barrier(&rig);
	REQUEST(&rig, INFLATE, DATA_PAGE + COUNT + 1);
	assert_true(driver_reset(&rig.driver));
	assert_int_equal(counted(&rig, "discarded_pages"), COUNT + 2);
	for (unsigned i = 0; i < COUNT + 2; i++)
		assert_int_equal(page_of(&rig, DATA_PAGE + i), i == 7 ? 0x55 : 0);
	assert_int_equal(page_of(&rig, DATA_PAGE + COUNT + 2), 0xaa);
	device_rig_free(&rig);
}

/* More than may wait, none beside another. */
static void test_many_held_pages(void **state)
{
	enum {
		COUNT = 256,
		CHAINS = 4,
	};
	uint32_t pages[COUNT];
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, F_MUST_TELL, 2);
	fill_data(&rig);
	for (unsigned chain = 0; chain < CHAINS; chain++) {
		for (unsigned i = 0; i < COUNT; i++)
			pages[i] = DATA_PAGE + 2 * (i * CHAINS + chain);
		request_pages(&rig, INFLATE, pages, COUNT, 0);
	}
	REQUEST(&rig, DEFLATE, DATA_PAGE);
	assert_int_equal(counted(&rig, "discarded_pages"), COUNT * CHAINS);
	for (unsigned i = 0; i < COUNT * CHAINS; i++)
		assert_int_equal(page_of(&rig, DATA_PAGE + i), i & 1 ? 0xaa : 0);
	device_rig_free(&rig);
}

static void test_bad_pages(void **state)
{
	const struct ring_buffer writable = {LIST, 64, true};
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, 0, 2);
	fill_data(&rig);
	/* Behind memory, where devices are, at the end of all addresses, and a good one. */
	REQUEST(&rig, INFLATE, PAGES, PAGES + 1, 0xfec00, UINT32_MAX, 0, DATA_PAGE, UINT32_MAX);
	assert_int_equal(counted(&rig, "refused"), 5);
	assert_int_equal(page_of(&rig, DATA_PAGE), 0);
	/* At the last page a run ends. */
	REQUEST(&rig, INFLATE, PAGES - 2, PAGES - 1, PAGES);
	assert_int_equal(page_of(&rig, PAGES - 1), 0);
	assert_int_equal(page_of(&rig, PAGES - 2), 0);
	/* Twice, in one request and in the next one. */
	REQUEST(&rig, INFLATE, DATA_PAGE + 5, DATA_PAGE + 5, DATA_PAGE + 6, DATA_PAGE + 5);
	REQUEST(&rig, INFLATE, DATA_PAGE + 5);
	assert_int_equal(page_of(&rig, DATA_PAGE + 4), 0xaa);
	assert_int_equal(page_of(&rig, DATA_PAGE + 5), 0);
	assert_int_equal(page_of(&rig, DATA_PAGE + 6), 0);
	/* Half a page number. */
	request_pages(&rig, INFLATE, (const uint32_t[]){DATA_PAGE + 8}, 1, 3);
	assert_int_equal(page_of(&rig, DATA_PAGE + 8), 0);
	assert_int_equal(counted(&rig, "refused"), 7);
	/* What the device should write to says nothing; what was never inflated is not told. */
	assert_int_equal(device_rig_request(&rig, INFLATE, &writable, 1, false), 0);
	REQUEST(&rig, DEFLATE, DATA_PAGE + 100, PAGES + 100);
	assert_int_equal(counted(&rig, "failed_pages"), 0);
	assert_int_equal(counted(&rig, "needed_resets"), 0);
	device_rig_free(&rig);
}

/* Memory that is a snapshot's file and touches other memory: a run ends between the two, and what
 * comes back is zeroes and not the snapshot's bytes. */
static void test_snapshot_memory(void **state)
{
	static uint8_t bytes[16 * 4096];
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct device_rig rig;
	struct error err;

	memset(bytes, 'f', sizeof(bytes));
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	rig_init(&rig);
	assert_int_equal(memory_add_file(&rig.machine.memory, GPA(FAKE_RAM_SIZE), sizeof(bytes), fd,
				 0, "snapshot", &err),
		0);
	device_rig_up(&rig, 0, 2);
	fill_data(&rig);
	REQUEST(&rig, INFLATE, PAGES + 1, PAGES, PAGES - 1, PAGES - 2, PAGES + 15, PAGES + 16);
	assert_int_equal(counted(&rig, "discards"), 3);
	assert_int_equal(counted(&rig, "refused"), 1);
	assert_int_equal(page_of(&rig, PAGES - 1), 0);
	assert_int_equal(page_of(&rig, PAGES - 3), 0xaa);
	assert_int_equal(
		memory_read(&rig.machine.memory, GPA(FAKE_RAM_SIZE), bytes, sizeof(bytes)), 0);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], i < 2 * 4096 || i >= 15 * 4096 ? 0 : 'f');
	close(fd);
	device_rig_free(&rig);
}

/* A chain that takes several turns: it is done in the end, others have theirs, and a stop or a
 * reset in the middle waits for no more than one. */
static void test_long_chains(void **state)
{
	enum {
		BYTES = 0x180000,
		MANY = 20,
	};
	struct ring_buffer buffers[MANY];
	struct error err;
	struct device_rig rig;
	uint32_t written;
	uint64_t token;

	rig_init(&rig);
	device_rig_up(&rig, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX), 2);
	for (uint64_t i = 0; i < BYTES; i += 4)
		store_le32(device_rig_at(&rig, LIST + i), (uint32_t)(DATA_PAGE + i / 4 * 2 % 2048));
	for (unsigned i = 0; i < MANY; i++)
		buffers[i] = (struct ring_buffer){LIST, BYTES, false};
	assert_true(ring_driver_offer(&rig.rings[INFLATE], buffers, 1, false, 3));
	driver_kick(&rig.driver, INFLATE);
	for (unsigned i = 0; i < 3; i++) {
		fake_stop(rig.device);
		assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
	}
	while (!driver_await(&rig.rings[INFLATE], &token, &written))
		;
	assert_int_equal(token, 3);
	assert_int_equal(counted(&rig, "inflated_pages"), BYTES / 4);
	assert_true(ring_driver_offer(&rig.rings[INFLATE], buffers, MANY, false, 4));
	driver_kick(&rig.driver, INFLATE);
	/* It takes seconds, and whatever else there is has its turn. */
	for (unsigned i = 0; i < 3; i++)
		barrier(&rig);
	REQUEST(&rig, DEFLATE, 1);
	assert_false(ring_driver_take(&rig.rings[INFLATE], &token, &written));
	assert_true(driver_reset(&rig.driver));
	/* Nothing of it is left. */
	device_rig_up(&rig, 0, 2);
	REQUEST(&rig, INFLATE, DATA_PAGE);
	assert_true(counted(&rig, "inflated_pages") < 2 * (BYTES / 4));
	device_rig_free(&rig);
}

static void test_target(void **state)
{
	struct virtio_balloon_statistics statistics;
	struct device_rig rig;
	struct error err = {0};

	rig_init(&rig);
	device_rig_up(&rig, F_OOM, 2);
	assert_int_equal(config(&rig, CONFIG_TARGET), (4 << 20) / 4096);
	assert_int_equal(virtio_balloon_set_target(rig.device, (8 << 20) + 4095, &err), 0);
	assert_true(fake_host_wait_msi(&rig.machine.host, CONFIG_MSI));
	assert_int_equal(config(&rig, CONFIG_TARGET), (8 << 20) / 4096);
	assert_int_equal(
		virtio_balloon_set_target(rig.device, FAKE_RAM_SIZE + 4096, &err), -EINVAL);
	assert_non_null(strstr(err.text, "more than the guest has"));
	assert_int_equal(config(&rig, CONFIG_TARGET), (8 << 20) / 4096);
	/* The driver's word, whatever it is; other fields and widths are not its. */
	set_config(&rig, CONFIG_ACTUAL, UINT32_MAX);
	set_config(&rig, CONFIG_TARGET, 7);
	set_config(&rig, CONFIG_POISON, 7);
	fake_guest_write(&rig.machine, rig.driver.config + CONFIG_ACTUAL, 1, 5);
	virtio_balloon_statistics(rig.device, &statistics);
	assert_int_equal(statistics.target, 8 << 20);
	assert_int_equal(statistics.actual, UINT32_MAX * 4096ULL);
	assert_int_equal(statistics.present, 0);
	assert_int_equal(config(&rig, CONFIG_POISON), 0);
	/* Over a reset the balloon is empty, and to be filled again. */
	device_rig_up(&rig, 0, 2);
	assert_int_equal(config(&rig, CONFIG_ACTUAL), 0);
	assert_int_equal(config(&rig, CONFIG_TARGET), (8 << 20) / 4096);
	device_rig_free(&rig);
}

static uint32_t put_statistic(struct device_rig *rig, unsigned index, uint16_t tag, uint64_t value)
{
	uint8_t *entry = device_rig_at(rig, LIST + 10ULL * index);

	store_le16(entry, tag);
	store_le64(entry + 2, value);
	return 10 * (index + 1);
}

/* Gives the device a buffer, as Linux does at first and after each one that it has got back. */
static void offer_statistics(struct device_rig *rig, uint64_t value)
{
	struct ring_buffer buffer = {LIST, 0, false};

	put_statistic(rig, 0, 4, value);
	put_statistic(rig, 1, 77, 1); /* that nobody knows */
	put_statistic(rig, 2, 0, 3);
	buffer.length = put_statistic(rig, 3, 15, UINT64_MAX) + 9;
	assert_true(ring_driver_offer(&rig->rings[2], &buffer, 1, false, 9));
	driver_kick(&rig->driver, 2);
	barrier(rig);
}

static void test_statistics(void **state)
{
	static const uint64_t kinds[] = {0, VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
		VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) | VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX)};
	struct virtio_balloon_statistics statistics;
	struct device_rig rig;
	uint32_t written;
	uint64_t token;

	rig_init(&rig);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		device_rig_up(&rig, F_STATS | kinds[i], 3);
		offer_statistics(&rig, 1000);
		while (device_stat(rig.device, "guest", "answers") < 3 * i + 1)
			fake_machine_round(&rig.machine);
		virtio_balloon_statistics(rig.device, &statistics);
		assert_int_equal(statistics.present, 1U << 4 | 1U << 0 | 1U << 15);
		assert_int_equal(statistics.values[4], 1000);
		assert_int_equal(statistics.values[15], UINT64_MAX);
		/* Kept until the device wants the next ones. */
		assert_false(ring_driver_take(&rig.rings[2], &token, &written));
		virtio_balloon_set_interval(rig.device, 1);
		assert_true(driver_await(&rig.rings[2], &token, &written));
		assert_int_equal(written, 0);
		offer_statistics(&rig, 2000);
		while (device_stat(rig.device, "guest", "free_memory") != 2000)
			fake_machine_round(&rig.machine);
		/* From now on by itself. */
		while (!driver_await(&rig.rings[2], &token, &written))
			;
		offer_statistics(&rig, 3000);
		while (device_stat(rig.device, "guest", "free_memory") != 3000)
			fake_machine_round(&rig.machine);
		virtio_balloon_set_interval(rig.device, 0);
		barrier(&rig);
	}
	device_rig_free(&rig);
}

/* A driver that keeps to the rules has one buffer there; what others do harms nobody. */
static void test_many_statistics(void **state)
{
	const struct ring_buffer empty = {LIST, 3, false}, writable = {LIST, 100, true};
	struct device_rig rig;
	uint32_t written;
	uint64_t token;

	rig_init(&rig);
	device_rig_up(&rig, F_STATS, 3);
	for (unsigned i = 0; i < 20; i++) {
		assert_true(
			ring_driver_offer(&rig.rings[2], i & 1 ? &empty : &writable, 1, false, i));
		driver_kick(&rig.driver, 2);
	}
	virtio_balloon_set_interval(rig.device, 3600);
	assert_true(driver_await(&rig.rings[2], &token, &written));
	assert_int_equal(token, 0);
	barrier(&rig);
	assert_false(ring_driver_take(&rig.rings[2], &token, &written));
	assert_int_equal(counted(&rig, "needed_resets"), 0);
	device_rig_free(&rig);
}

static void test_reports(void **state)
{
	/* A run of pages, one page with something at both ends, less than a page, memory's end. */
	const struct ring_buffer buffers[] = {{DATA, 0x10000, true}, {DATA + 0x20800, 0x1900, true},
		{DATA + 0x30000, 0xfff, true}, {FAKE_RAM_SIZE - 0x1000, 0x1000, true},
		{DATA + 0x10000, 0x1000, true}};
	struct device_rig rig;

	rig_init(&rig);
	/* As Linux numbers its queues, then as the specification does. */
	for (unsigned queues = 3; queues <= 5; queues += 2) {
		device_rig_up(&rig, F_REPORTING, queues);
		fill_data(&rig);
		assert_int_equal(device_rig_request(&rig, queues - 1, buffers, 5, false), 0);
		for (unsigned i = 0; i <= 16; i++)
			assert_int_equal(page_of(&rig, DATA_PAGE + i), 0);
		assert_int_equal(page_of(&rig, DATA_PAGE + 17), 0xaa);
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x20), 0xaa);
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x21), 0);
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x22), 0xaa);
		assert_int_equal(page_of(&rig, DATA_PAGE + 0x30), 0xaa);
		assert_int_equal(page_of(&rig, PAGES - 1), 0);
	}
	assert_int_equal(counted(&rig, "reported_pages"), 2 * 19);
	assert_int_equal(counted(&rig, "discards"), 2 * 3);
	assert_int_equal(counted(&rig, "refused"), 2);
	device_rig_free(&rig);
}

/* Pages whose content the guest relies on stay; zeroes are what a page is that comes back. */
static void test_poison(void **state)
{
	const struct ring_buffer buffer = {DATA, 0x2000, true};
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, F_REPORTING | F_POISON, 3);
	fill_data(&rig);
	set_config(&rig, CONFIG_POISON, 0xaaaaaaaa);
	assert_int_equal(config(&rig, CONFIG_POISON), 0xaaaaaaaa);
	assert_int_equal(device_rig_request(&rig, 2, &buffer, 1, false), 0);
	assert_int_equal(page_of(&rig, DATA_PAGE), 0xaa);
	REQUEST(&rig, INFLATE, DATA_PAGE + 7);
	assert_int_equal(page_of(&rig, DATA_PAGE + 7), 0);
	device_rig_up(&rig, F_REPORTING | F_POISON, 3);
	set_config(&rig, CONFIG_POISON, 0);
	assert_int_equal(device_rig_request(&rig, 2, &buffer, 1, false), 0);
	assert_int_equal(page_of(&rig, DATA_PAGE), 0);
	device_rig_free(&rig);
}

static bool second_was_written(void *opaque, gpa_t page)
{
	(void)opaque;
	return page.value == DATA + MEMORY_PAGE;
}

static void send_command(struct device_rig *rig, uint32_t command)
{
	const struct ring_buffer buffer = {LIST, 4, false};

	store_le32(device_rig_at(rig, LIST), command);
	assert_int_equal(device_rig_request(rig, 2, &buffer, 1, false), 0);
}

static uint32_t start_round(struct device_rig *rig)
{
	struct error err = {0};

	fake_host_take_msi(&rig->machine.host, CONFIG_MSI);
	assert_int_equal(virtio_balloon_hint_start(rig->device, &err), 0);
	assert_true(fake_host_wait_msi(&rig->machine.host, CONFIG_MSI));
	return config(rig, CONFIG_COMMAND);
}

static const struct ring_buffer blocks[] = {{DATA, 0x4000, true}, {DATA + 0x8000, 0x1000, true}};

static uint64_t hinted(struct device_rig *rig)
{
	struct virtio_balloon_hints status;

	virtio_balloon_hint_status(rig->device, &status);
	return status.bytes;
}

/* Nobody asked, or for another round, or it is over. */
static void test_hints_of_no_round(void **state)
{
	struct device_rig rig;
	struct error err = {0};
	uint32_t first, round;

	rig_init(&rig);
	device_rig_up(&rig, 0, 2);
	assert_int_equal(virtio_balloon_hint_start(rig.device, &err), -ENOTSUP);
	device_rig_up(&rig, F_HINT, 3);
	assert_int_equal(config(&rig, CONFIG_COMMAND), 0);
	device_rig_request(&rig, 2, blocks, 1, false);
	first = start_round(&rig);
	assert_true(first >= 2);
	device_rig_request(&rig, 2, blocks, 1, false);
	round = start_round(&rig);
	assert_true(round > first);
	send_command(&rig, first);
	device_rig_request(&rig, 2, blocks, 1, false);
	assert_int_equal(hinted(&rig), 0);
	send_command(&rig, round);
	virtio_balloon_hint_stop(rig.device);
	barrier(&rig);
	assert_int_equal(config(&rig, CONFIG_COMMAND), 1);
	device_rig_request(&rig, 2, blocks, 1, false);
	assert_int_equal(hinted(&rig), 0);
	device_rig_free(&rig);
}

/* What the guest has taken back and written to is its own. */
static void test_hints(void **state)
{
	struct virtio_balloon_hints status;
	struct device_rig rig;
	struct error err = {0};
	uint32_t round;

	rig_init(&rig);
	device_rig_up(&rig, F_HINT, 3);
	fill_data(&rig);
	round = start_round(&rig);
	send_command(&rig, round);
	device_rig_request(&rig, 2, &blocks[0], 1, false);
	device_rig_request(&rig, 2, &blocks[1], 1, false);
	virtio_balloon_hint_status(rig.device, &status);
	assert_false(status.complete);
	send_command(&rig, 0);
	virtio_balloon_hint_status(rig.device, &status);
	assert_true(status.complete);
	assert_int_equal(status.bytes, 0x5000);
	assert_int_equal(status.host_command, round);
	assert_int_equal(page_of(&rig, DATA_PAGE), 0xaa);
	fake_stop(rig.device);
	assert_int_equal(
		virtio_balloon_hints_give_back(rig.device, second_was_written, NULL), 0x4000);
	virtio_balloon_hint_stop(rig.device);
	assert_int_equal(rig.device->ops->start(rig.device, &err), 0);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(
			page_of(&rig, DATA_PAGE + i), i == 1 || (i > 3 && i != 8) ? 0xaa : 0);
	while (config(&rig, CONFIG_COMMAND) != 1)
		fake_machine_round(&rig.machine);
	barrier(&rig);
	device_rig_free(&rig);
}

static void test_bad_hints(void **state)
{
	const struct ring_buffer odd = {LIST, 5, false};
	struct virtio_balloon_hints status;
	struct ring_buffer block = {DATA, 0x1000, true};
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, F_HINT, 3);
	send_command(&rig, start_round(&rig));
	device_rig_request(&rig, 2, &odd, 1, false);
	assert_int_equal(counted(&rig, "refused"), 1);
	/* More pieces than there is room for. */
	for (unsigned i = 0; i < 1000; i++) {
		block.gpa = DATA + 0x2000 * i;
		device_rig_request(&rig, 2, &block, 1, false);
	}
	virtio_balloon_hint_status(rig.device, &status);
	assert_int_equal(status.bytes, 68 * 4096);
	device_rig_free(&rig);
}

/* As much in all as the guest has: the main thread looks at each page while no vCPU runs. */
static void test_repeated_hints(void **state)
{
	const struct ring_buffer block = {DATA, 0x400000, true};
	struct device_rig rig;
	uint64_t most;

	rig_init(&rig);
	device_rig_up(&rig, F_HINT, 3);
	most = memory_size(&rig.machine.memory) / 0x400000 * 0x400000;
	for (unsigned round = 0; round < 2; round++) {
		send_command(&rig, start_round(&rig));
		for (unsigned i = 0; i < 50; i++)
			device_rig_request(&rig, 2, &block, 1, false);
		assert_int_equal(hinted(&rig), most);
	}
	device_rig_free(&rig);
}

static void test_logs_writes(void **state)
{
	struct device_rig rig;

	rig_init(&rig);
	device_rig_up(&rig, 0, 2);
	assert_int_equal(memory_dirty_start(&rig.machine.memory), 0);
	REQUEST(&rig, INFLATE, DATA_PAGE + 3, DATA_PAGE + 4);
	assert_int_equal(memory_dirty_take(&rig.machine.memory, DATA_PAGE / 64), 3ULL << 3);
	fake_stop(rig.device);
	memory_dirty_stop(&rig.machine.memory);
	device_rig_free(&rig);
}

static void test_save_restore(void **state)
{
	struct state_writer writer;
	struct state_reader reader;
	struct error err = {0};
	struct device_rig rig, other;

	rig_init(&rig);
	device_rig_up(&rig, F_HINT | F_POISON, 3);
	assert_int_equal(virtio_balloon_set_target(rig.device, 1 << 20, &err), 0);
	set_config(&rig, CONFIG_ACTUAL, 100);
	set_config(&rig, CONFIG_POISON, 0xaa);
	send_command(&rig, start_round(&rig));
	fake_stop(rig.device);
	state_writer_init(&writer);
	state_section_begin(&writer, "balloon0", 1);
	rig.device->ops->save(rig.device, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	rig_init(&other);
	memcpy(other.machine.ram, rig.machine.ram, FAKE_RAM_SIZE);
	fake_stop(other.device);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(other.device->ops->restore(other.device, &reader, &err), 0);
	assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(config(&other, CONFIG_TARGET), (1 << 20) / 4096);
	assert_int_equal(config(&other, CONFIG_ACTUAL), 100);
	assert_int_equal(config(&other, CONFIG_POISON), 0xaa);
	/* A round does not move: the driver hears that it is over. */
	assert_int_equal(config(&other, CONFIG_COMMAND), 1);
	assert_int_equal(other.device->ops->start(other.device, &err), 0);
	assert_true(fake_host_wait_msi(&other.machine.host, CONFIG_MSI));
	other.rings[0] = rig.rings[0];
	other.rings[0].memory = &other.machine.memory;
	REQUEST(&other, INFLATE, DATA_PAGE);
	state_writer_free(&writer);
	device_rig_free(&other);
	device_rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inflates),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_held_pages),
		cmocka_unit_test(test_many_held_pages),
		cmocka_unit_test(test_bad_pages),
		cmocka_unit_test(test_snapshot_memory),
		cmocka_unit_test(test_long_chains),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_statistics),
		cmocka_unit_test(test_many_statistics),
		cmocka_unit_test(test_reports),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_hints_of_no_round),
		cmocka_unit_test(test_hints),
		cmocka_unit_test(test_bad_hints),
		cmocka_unit_test(test_repeated_hints),
		cmocka_unit_test(test_logs_writes),
		cmocka_unit_test(test_save_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
