/* SPDX-License-Identifier: Apache-2.0 */
#include "device_fuzz.h"

#include "virtio/devices.h"

static int create(struct device_fuzz *fuzz, struct error *err)
{
	return virtio_entropy_new(&fuzz->device, "entropy0", true, err);
}

static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer buffer = {FUZZ_DATA, 64, true};
	uint32_t written;

	return device_fuzz_request(fuzz, 0, &buffer, 1, &written) && written == 64;
}

static const struct device_fuzz_target target = {
	.queues = 1,
	.create = create,
	.honest = honest,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct device_fuzz fuzz;

	device_fuzz_one(&fuzz, &target, data, size);
	return 0;
}
