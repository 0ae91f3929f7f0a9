/* SPDX-License-Identifier: Apache-2.0 */
/* Another size of a disk's file and another file in its place: what becomes of the requests, of the
 * files, and what the guest's driver sees. */
#include "backend/block_private.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "device_rig.h"
#include "virtio/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE       (1U << 20)
#define READS      24
#define CONFIG_MSI 0x100 /* what device_rig_up() gives the configuration's vector */

/* Two images, filled with 'a' and 'b'. */
struct rig {
	char directory[32];
	char path[2][48];
	struct loop *loop;
	struct block *block;
	unsigned awaited;
	unsigned resizes;
	uint64_t size;
};

struct read {
	struct block_request request;
	struct rig *rig;
	struct iovec segment;
	int result;
	uint8_t data[512];
};

static void fill_file(const char *path, char byte, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char *data = malloc(size);

	assert_non_null(data);
	memset(data, byte, size);
	assert_int_equal(write(fd, data, size), size);
	free(data);
	close(fd);
}

static void rig_files(struct rig *rig)
{
	*rig = (struct rig){.directory = "/tmp/duet-refresh-XXXXXX"};
	assert_non_null(mkdtemp(rig->directory));
	for (unsigned i = 0; i < 2; i++) {
		snprintf(rig->path[i], sizeof(rig->path[i]), "%s/%u", rig->directory, i);
		fill_file(rig->path[i], (char)('a' + i), SIZE);
	}
}

static void remove_files(struct rig *rig)
{
	unlink(rig->path[0]);
	unlink(rig->path[1]);
	rmdir(rig->directory);
}

static void resized(void *opaque, uint64_t size)
{
	struct rig *rig = opaque;

	rig->resizes++;
	rig->size = size;
}

static void rig_open(struct rig *rig, uint64_t iops, bool readonly)
{
	struct block_options options = {
		.readonly = readonly, .limits.operations.amount = iops, .lock = true};

	rig_files(rig);
	options.path = rig->path[0];
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	assert_int_equal(block_open(&rig->block, &options, NULL), 0);
	block_attach(rig->block, rig->loop);
	block_on_resize(rig->block, resized, rig);
}

static void rig_close(struct rig *rig)
{
	block_close(rig->block);
	loop_free(rig->loop);
	remove_files(rig);
}

static int refresh(struct rig *rig, const char *path, struct error *err)
{
	return block_refresh(rig->block, rig->loop, rig->loop, path, err);
}

static void refreshed(struct rig *rig, const char *path)
{
	struct error err = {0};

	if (refresh(rig, path, &err) < 0)
		fail_msg("%s", err.text);
}

static void refused(struct rig *rig, const char *path, int code, const char *word)
{
	struct error err = {0};

	assert_int_equal(refresh(rig, path, &err), -code);
	if (!strstr(err.text, word))
		fail_msg("no \"%s\" in: %s", word, err.text);
}

static void read_done(struct block_request *request, int result)
{
	struct read *read = container_of(request, struct read, request);

	read->result = result;
	if (--read->rig->awaited == 0)
		loop_stop(read->rig->loop);
}

static void submit(struct rig *rig, struct read *read, uint64_t offset)
{
	*read = (struct read){.rig = rig, .result = 1};
	read->segment = (struct iovec){read->data, sizeof(read->data)};
	read->request = (struct block_request){.kind = BLOCK_READ,
		.offset = offset,
		.length = sizeof(read->data),
		.segments = &read->segment,
		.count = 1,
		.done = read_done};
	rig->awaited++;
	block_submit(rig->block, &read->request);
}

static void await_all(struct rig *rig)
{
	assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(rig->awaited, 0);
	assert_int_equal(block_in_flight(rig->block), 0);
}

/* The byte there, or the error. */
static int read_at(struct rig *rig, uint64_t offset)
{
	struct read read;

	submit(rig, &read, offset);
	await_all(rig);
	return read.result < 0 ? read.result : read.data[0];
}

/* Whether somebody may open the image for writing. */
static bool is_free(const char *path)
{
	struct block_options options = {.path = path, .lock = true};
	struct block *block;

	if (block_open(&block, &options, NULL) < 0)
		return false;
	block_close(block);
	return true;
}

static void test_grows(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(truncate(rig.path[0], 2L * SIZE), 0);
	assert_int_equal(read_at(&rig, SIZE), -EINVAL);
	refreshed(&rig, NULL);
	assert_int_equal(rig.resizes, 1);
	assert_int_equal(rig.size, 2 * SIZE);
	assert_int_equal(block_size(rig.block), 2 * SIZE);
	assert_int_equal(read_at(&rig, SIZE), 0);
	assert_int_equal(read_at(&rig, 2 * SIZE), -EINVAL);
	/* By its name, and once more without a change. */
	assert_int_equal(truncate(rig.path[0], 3L * SIZE), 0);
	refreshed(&rig, rig.path[0]);
	refreshed(&rig, NULL);
	assert_int_equal(rig.size, 3 * SIZE);
	rig_close(&rig);
}

static void test_shrinks(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(truncate(rig.path[0], SIZE / 2), 0);
	assert_int_equal(read_at(&rig, SIZE / 2), -EIO);
	refreshed(&rig, NULL);
	assert_int_equal(rig.size, SIZE / 2);
	assert_int_equal(read_at(&rig, SIZE / 2), -EINVAL);
	assert_int_equal(read_at(&rig, SIZE / 2 - 512), 'a');
	rig_close(&rig);
}

/* Nothing has changed then. */
static void test_refuses_sizes(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(truncate(rig.path[0], SIZE + 1), 0);
	refused(&rig, NULL, EINVAL, "not a multiple of 512");
	assert_int_equal(truncate(rig.path[0], 0), 0);
	refused(&rig, NULL, EINVAL, "is empty");
	assert_int_equal(block_size(rig.block), SIZE);
	assert_int_equal(rig.resizes, 0);
	rig_close(&rig);
	/* The guest sees whole sectors of what it cannot write to. */
	rig_open(&rig, 0, true);
	assert_int_equal(truncate(rig.path[0], SIZE + 513), 0);
	refreshed(&rig, NULL);
	assert_int_equal(rig.size, SIZE + 512);
	rig_close(&rig);
}

static void test_takes_another_file(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(truncate(rig.path[1], SIZE / 4), 0);
	assert_int_equal(read_at(&rig, 0), 'a');
	assert_true(is_free(rig.path[1]));
	refreshed(&rig, rig.path[1]);
	assert_int_equal(rig.resizes, 1);
	assert_int_equal(rig.size, SIZE / 4);
	assert_int_equal(read_at(&rig, 0), 'b');
	assert_int_equal(read_at(&rig, SIZE / 4), -EINVAL);
	assert_true(is_free(rig.path[0]));
	assert_false(is_free(rig.path[1]));
	/* And back. */
	refreshed(&rig, rig.path[0]);
	assert_int_equal(read_at(&rig, SIZE - 512), 'a');
	rig_close(&rig);
}

/* A new file under the old name, as who writes it anew leaves it. */
static void test_takes_what_has_the_name_now(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(rename(rig.path[1], rig.path[0]), 0);
	refreshed(&rig, NULL);
	assert_int_equal(read_at(&rig, 0), 'a');
	refreshed(&rig, rig.path[0]);
	assert_int_equal(read_at(&rig, 0), 'b');
	rig_close(&rig);
}

static void test_refuses_files(void **state)
{
	struct block_options options = {.lock = true};
	struct block *other;
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	refused(&rig, "/tmp/duet-no-such-file", ENOENT, "no such file");
	refused(&rig, rig.directory, EISDIR, "directory");
	refused(&rig, "/dev/null", EINVAL, "neither a regular file");
	options.path = rig.path[1];
	assert_int_equal(block_open(&other, &options, NULL), 0);
	refused(&rig, rig.path[1], EBUSY, "busy");
	block_close(other);
	rig.block->file.logical_size = 4096;
	refused(&rig, rig.path[1], EINVAL, "sectors of 512 bytes");
	rig.block->file.logical_size = 512;
	assert_true(is_free(rig.path[1]));
	assert_int_equal(rig.resizes, 0);
	assert_int_equal(read_at(&rig, 0), 'a');
	rig_close(&rig);
}

/* What was there before the new file is read from the old one, the rest from the new one. */
static void under_way(uint64_t iops)
{
	struct read reads[2 * READS];
	struct rig rig;

	rig_open(&rig, iops, false);
	for (unsigned i = 0; i < READS; i++)
		submit(&rig, &reads[i], i * 512);
	refreshed(&rig, rig.path[1]);
	assert_int_equal(rig.resizes, 0);
	for (unsigned i = READS; i < 2 * READS; i++)
		submit(&rig, &reads[i], i * 512);
	refused(&rig, rig.path[0], EBUSY, "still under way");
	refused(&rig, NULL, EBUSY, "still under way");
	assert_int_equal(block_in_flight(rig.block), 2 * READS);
	block_set_limits(rig.block, rig.loop, &(struct bucket_limits){0});
	await_all(&rig);
	for (unsigned i = 0; i < 2 * READS; i++) {
		assert_int_equal(reads[i].result, 0);
		assert_int_equal(reads[i].data[511], i < READS ? 'a' : 'b');
	}
	assert_int_equal(rig.resizes, 1);
	/* By now the old one is closed, and the next may come. */
	assert_true(is_free(rig.path[0]));
	refreshed(&rig, rig.path[0]);
	assert_int_equal(read_at(&rig, 0), 'a');
	rig_close(&rig);
}

static void test_under_way(void **state)
{
	(void)state;
	under_way(0);
}

/* Those that wait for their turn are of before. */
static void test_under_limits(void **state)
{
	(void)state;
	under_way(1000);
}

/* What was held may be beyond the new file's end. */
static void test_held_are_checked_anew(void **state)
{
	struct read reads[3];
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(truncate(rig.path[1], SIZE / 2), 0);
	submit(&rig, &reads[0], SIZE / 2);
	refreshed(&rig, rig.path[1]);
	submit(&rig, &reads[1], SIZE / 2);
	submit(&rig, &reads[2], 0);
	await_all(&rig);
	assert_int_equal(reads[0].result, 0);
	assert_int_equal(reads[1].result, -EINVAL);
	assert_int_equal(reads[2].result, 0);
	assert_int_equal(reads[2].data[0], 'b');
	rig_close(&rig);
}

/* Those that are held while the device comes to rest do not wait for tokens, either: of these there
 * is one in an hour. */
static void test_comes_to_rest_meanwhile(void **state)
{
	const struct bucket_limits limits = {.operations = {.amount = 1, .period = 3600000000000}};
	struct read reads[4];
	struct rig rig;

	(void)state;
	rig_open(&rig, 0, false);
	submit(&rig, &reads[0], 0);
	block_set_limits(rig.block, rig.loop, &limits);
	refreshed(&rig, rig.path[1]);
	for (unsigned i = 1; i < 4; i++)
		submit(&rig, &reads[i], 0);
	block_hurry(rig.block);
	await_all(&rig);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(reads[i].data[0], i ? 'b' : 'a');
	rig_close(&rig);
}

static void test_stops_meanwhile(void **state)
{
	struct read reads[2];
	struct rig rig;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		rig_open(&rig, 0, false);
		submit(&rig, &reads[0], 0);
		refreshed(&rig, rig.path[1]);
		submit(&rig, &reads[1], 0);
		if (i == 0)
			block_drop(rig.block);
		else
			block_cancel(rig.block);
		await_all(&rig);
		assert_int_equal(reads[1].result, -ECANCELED);
		assert_int_equal(rig.resizes, 1);
		if (i == 0)
			assert_int_equal(read_at(&rig, 0), 'b');
		rig_close(&rig);
	}
}

static int asked_fd;

static int discard_quickly(int fd, uint64_t offset, uint64_t length)
{
	(void)offset;
	(void)length;
	asked_fd = fd;
	return 0;
}

/* Each file has its own way of discarding, and a device's thread goes with it. */
static void test_discards_of_both(void **state)
{
	struct read discard = {.result = 1};
	struct rig rig;
	int fd;

	(void)state;
	rig_open(&rig, 0, false);
	assert_int_equal(block_discard_new(rig.block), 0);
	rig.block->file.discard_device = discard_quickly;
	fd = rig.block->file.fd;
	for (unsigned i = 0; i < 2; i++) {
		discard.rig = &rig;
		discard.request = (struct block_request){
			.kind = BLOCK_DISCARD, .length = SIZE, .done = read_done};
		rig.awaited++;
		block_submit(rig.block, &discard.request);
		if (i == 0)
			refreshed(&rig, rig.path[1]);
		await_all(&rig);
		assert_int_equal(discard.result, 0);
		assert_int_equal(asked_fd, fd);
	}
	assert_null(rig.block->file.discard);
	rig_close(&rig);
}

/* The configuration's capacity, as a driver reads it. */
static uint64_t capacity(struct device_rig *rig)
{
	return fake_guest_read(&rig->machine, rig->driver.config, 4) |
	       fake_guest_read(&rig->machine, rig->driver.config + 4, 4) << 32;
}

static void test_driver_is_told(void **state)
{
	struct virtio_block_options options = {.queues = 1};
	struct block_options file = {.lock = true};
	struct device_rig guest;
	struct rig rig;
	struct loop *io;

	(void)state;
	rig_files(&rig);
	memset(&guest, 0, sizeof(guest));
	file.path = rig.path[0];
	assert_int_equal(block_open(&options.block, &file, NULL), 0);
	fake_machine_init(&guest.machine);
	assert_int_equal(virtio_block_new(&guest.device, "disk0", &options, NULL), 0);
	device_rig_start(&guest);
	device_rig_up(&guest, 0, 1);
	io = loop_thread_loop(guest.machine.io);
	assert_int_equal(capacity(&guest), SIZE / 512);
	assert_int_equal(truncate(rig.path[0], 6LL << 40), 0);
	assert_int_equal(block_refresh(options.block, io, io, NULL, NULL), 0);
	assert_true(fake_host_wait_msi(&guest.machine.host, CONFIG_MSI));
	assert_int_equal(driver_read(&guest.driver, COMMON_GENERATION, 1), 1);
	assert_int_equal(capacity(&guest), (6ULL << 40) / 512);
	assert_int_equal(block_refresh(options.block, io, io, rig.path[1], NULL), 0);
	assert_true(fake_host_wait_msi(&guest.machine.host, CONFIG_MSI));
	assert_int_equal(capacity(&guest), SIZE / 512);
	device_rig_free(&guest);
	remove_files(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_shrinks),
		cmocka_unit_test(test_refuses_sizes),
		cmocka_unit_test(test_takes_another_file),
		cmocka_unit_test(test_takes_what_has_the_name_now),
		cmocka_unit_test(test_refuses_files),
		cmocka_unit_test(test_under_way),
		cmocka_unit_test(test_under_limits),
		cmocka_unit_test(test_held_are_checked_anew),
		cmocka_unit_test(test_comes_to_rest_meanwhile),
		cmocka_unit_test(test_stops_meanwhile),
		cmocka_unit_test(test_discards_of_both),
		cmocka_unit_test(test_driver_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
