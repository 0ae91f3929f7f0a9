/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that lies about its pages; targets, statistics and hints are asked for when the input
 * says so. */
#include "device_fuzz.h"

#include "virtio/devices.h"

enum {
	INFLATE,
	DEFLATE,
};

#define PAGE_ASIDE (FUZZ_DATA + 2 * FUZZ_ROOM)

static int create(struct device_fuzz *fuzz, struct error *err)
{
	const struct virtio_balloon_options options = {.size = 1 << 20,
		.deflate_on_oom = true,
		.reporting = true,
		.hinting = true,
		.packed = true};

	return virtio_balloon_new(&fuzz->device, "balloon0", &options, err);
}

/* Four page numbers near each other, or a command or statistic, which are the input's. */
static void head(struct device_fuzz *fuzz, struct input *input, uint8_t *at)
{
	uint32_t pages[4];
	uint8_t what = (uint8_t)input_number(input, 1);

	(void)fuzz;
	if (what & 0x80) {
		input_bytes(input, at, 16);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
		pages[i] = (uint32_t)(FUZZ_DATA / MEMORY_PAGE) + (what >> i * 2 & 3) + i;
	memcpy(at, pages, sizeof(pages));
}

static bool even_page(void *opaque, gpa_t page)
{
	(void)opaque;
	return page.value / MEMORY_PAGE % 2 == 0;
}

static void give_back(struct device_fuzz *fuzz)
{
	struct error err;

	fake_machine_stop(&fuzz->machine, fuzz->device);
	virtio_balloon_hints_give_back(fuzz->device, even_page, NULL);
	virtio_balloon_hint_stop(fuzz->device);
	fuzz->device->ops->start(fuzz->device, &err);
}

/* Where a buffer may be: no input guesses the number of a round. */
static void put_command(struct device_fuzz *fuzz)
{
	struct virtio_balloon_hints status;

	virtio_balloon_hint_status(fuzz->device, &status);
	memcpy(fuzz->machine.ram + FUZZ_DATA, &status.host_command, sizeof(status.host_command));
}

static void outside(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	struct virtio_balloon_statistics statistics;
	struct error err;

	switch (what & 7) {
	case 0:
		virtio_balloon_set_target(fuzz->device, input_number(input, 4), &err);
		break;
	case 1:
		virtio_balloon_set_interval(fuzz->device, what >> 3);
		break;
	case 2:
		virtio_balloon_statistics(fuzz->device, &statistics);
		break;
	case 3:
		virtio_balloon_hint_stop(fuzz->device);
		break;
	case 4:
		give_back(fuzz);
		break;
	case 5:
		put_command(fuzz);
		break;
	default:
		virtio_balloon_hint_start(fuzz->device, &err);
		break;
	}
}

/* The page that is named goes, and no other. */
static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer list = {FUZZ_DATA, 4, false};
	uint32_t page = PAGE_ASIDE / MEMORY_PAGE, written;
	uint8_t *at = fuzz->machine.ram + PAGE_ASIDE;

	memset(at - 1, 0x5a, MEMORY_PAGE + 2);
	memcpy(fuzz->machine.ram + FUZZ_DATA, &page, sizeof(page));
	if (!device_fuzz_request(fuzz, INFLATE, &list, 1, &written) || written != 0)
		return false;
	device_fuzz_must(at[-1] == 0x5a && at[MEMORY_PAGE] == 0x5a, "another page is gone");
	device_fuzz_must(at[0] == 0 && at[MEMORY_PAGE - 1] == 0, "the page is there");
	return device_fuzz_request(fuzz, DEFLATE, &list, 1, &written);
}

/* All queues but that of the reports, which a driver that lacks a feature has in a lower place. */
static const struct device_fuzz_target target = {
	.queues = FUZZ_QUEUES,
	.create = create,
	.features = 0x3e,
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
