/* SPDX-License-Identifier: Apache-2.0 */
/* A file in memory behind the disk, on the real io_uring. */
#include "device_fuzz.h"

#include "base/bytes.h"
#include "virtio/devices.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define DISK_SIZE (256 << 10)
#define STATUS    (FUZZ_DATA + 0x1000)

static int create(struct device_fuzz *fuzz, struct error *err)
{
	struct virtio_block_options options = {.queues = 2, .packed = true, .serial = "fuzz"};
	char path[64];
	int ret;

	fuzz->fds[0] = memfd_create("disk", MFD_CLOEXEC);
	device_fuzz_must(ftruncate(fuzz->fds[0], DISK_SIZE) == 0, "memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fuzz->fds[0]);
	ret = block_open(&options.block, &(struct block_options){.path = path}, err);
	return ret < 0 ? ret : virtio_block_new(&fuzz->device, "disk0", &options, err);
}

static void head(struct device_fuzz *fuzz, struct input *input, uint8_t *at)
{
	static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 0, 1};
	uint8_t kind = (uint8_t)input_number(input, 1);

	store_le32(at, kind < 0xf0 ? types[kind & 7] : (uint32_t)input_number(input, 4));
	store_le64(at + 8, kind & 0x40 ? input_number(input, 8) : input_number(input, 1));
}

/* The image becomes shorter, or as long as it was. */
static void outside(struct device_fuzz *fuzz, struct input *input)
{
	uint64_t size = input_number(input, 1) & 1 ? DISK_SIZE : input_number(input, 3) % DISK_SIZE;

	device_fuzz_must(ftruncate(fuzz->fds[0], (off_t)size) == 0, "truncate");
}

static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer buffers[] = {
		{FUZZ_DATA, 16, false}, {FUZZ_DATA + 0x2000, 4096, true}, {STATUS, 1, true}};
	uint8_t *ram = fuzz->machine.ram;
	uint32_t written;

	device_fuzz_must(ftruncate(fuzz->fds[0], DISK_SIZE) == 0, "truncate");
	store_le32(ram + FUZZ_DATA, 0);
	store_le64(ram + FUZZ_DATA + 8, 1);
	ram[STATUS] = 0xff;
	return device_fuzz_request(fuzz, 0, buffers, 3, &written) && written == 4097 &&
	       ram[STATUS] == 0;
}

static const struct device_fuzz_target target = {
	.queues = 2,
	.create = create,
	.features = 0xffffff,
	.head = head,
	.outside = outside,
	.honest = honest,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct device_fuzz fuzz;

	device_fuzz_one(&fuzz, &target, data, size);
	return 0;
}
