/* SPDX-License-Identifier: Apache-2.0 */
#include "block_rig.h"

#include "base/checked.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

void block_rig_done(struct block_request *request, int result)
{
	struct block_waiter *waiter = container_of(request, struct block_waiter, request);

	assert_false(waiter->submitting);
	waiter->calls++;
	waiter->result = result;
	loop_stop(waiter->loop);
}

int block_rig_run(struct block_rig *rig, struct block_request request)
{
	struct block_waiter waiter = {.request = request, .loop = rig->loop, .submitting = true};

	waiter.request.done = block_rig_done;
	block_submit(rig->block, &waiter.request);
	waiter.submitting = false;
	assert_int_equal(block_in_flight(rig->block), 1);
	assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(waiter.calls, 1);
	assert_int_equal(block_in_flight(rig->block), 0);
	return waiter.result;
}

int block_rig_move(struct block_rig *rig, enum block_op kind, uint64_t offset,
	struct iovec *segments, unsigned count)
{
	uint64_t length = 0;

	for (unsigned i = 0; i < count; i++)
		length += segments[i].iov_len;
	return block_rig_run(rig, (struct block_request){.kind = kind,
					  .offset = offset,
					  .length = length,
					  .segments = segments,
					  .count = count});
}

int block_rig_range(
	struct block_rig *rig, enum block_op kind, uint64_t offset, uint64_t length, bool unmap)
{
	return block_rig_run(
		rig, (struct block_request){
			     .kind = kind, .offset = offset, .length = length, .unmap = unmap});
}

void block_rig_make_file(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

void block_rig_files(struct block_rig *rig, const char *where)
{
	memset(rig, 0, sizeof(*rig));
	snprintf(rig->directory, sizeof(rig->directory), "%s/duet-block-XXXXXX", where);
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/disk", rig->directory);
	block_rig_make_file(rig->path, BLOCK_RIG_SIZE);
}

void block_rig_open_block(struct block_rig *rig, bool readonly, enum block_cache cache)
{
	struct block_options options = {
		.path = rig->path, .readonly = readonly, .cache = cache, .lock = true};
	struct error err = {0};

	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	if (block_open(&rig->block, &options, &err) < 0)
		fail_msg("%s", err.text);
	block_attach(rig->block, rig->loop);
}

void block_rig_open(struct block_rig *rig, const char *where, bool readonly, enum block_cache cache)
{
	block_rig_files(rig, where);
	block_rig_open_block(rig, readonly, cache);
	assert_int_equal(block_size(rig->block), BLOCK_RIG_SIZE);
}

void block_rig_close(struct block_rig *rig)
{
	block_close(rig->block);
	loop_free(rig->loop);
	unlink(rig->path);
	rmdir(rig->directory);
}

int block_rig_loop_device(const char *image, char path[32])
{
	struct loop_config config = {
		.block_size = 4096, .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1, number = -1;
	int file = open(image, O_RDWR | O_CLOEXEC);

	if (control >= 0)
		number = ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, 32, "/dev/loop%d", number);
	if (number >= 0)
		device = open(path, O_RDWR | O_CLOEXEC);
	config.fd = (unsigned)file;
	if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) < 0) {
		close(device);
		device = -1;
	}
	if (file >= 0)
		close(file);
	if (control >= 0)
		close(control);
	return device;
}
