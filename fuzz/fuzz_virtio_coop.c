/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that lies in its pages, calls for whomever and tells runs that are none. */
#include "device_fuzz.h"

#include "base/bytes.h"
#include "fake_coop_host.h"

#include <duet/coop.h>

#define VCPUS   FAKE_COOP_VCPUS
#define ANSWERS (FUZZ_DATA + 0x1000)

static struct fake_coop_host host;

static int create(struct device_fuzz *fuzz, struct error *err)
{
	const struct virtio_coop_options options = {.host = &host.host,
		.vcpus = VCPUS,
		.hints = true,
		.time = true,
		.yield = true,
		.copy = true,
		.counters = true,
		.packed = true};

	fake_coop_host_init(&host);
	return virtio_coop_new(&fuzz->device, "coop0", &options, err);
}

/* ---- a guest ---- */

static uint32_t config(struct device_fuzz *fuzz, unsigned offset)
{
	return fake_guest_config_read(&fuzz->machine, fuzz->driver.slot, offset, 4);
}

/* As the guest, which looks at it first. */
static struct duet_coop_page *page(struct device_fuzz *fuzz, unsigned vcpu)
{
	fake_guest_read(&fuzz->machine,
		(config(fuzz, 0x20) & ~15ULL) | (uint64_t)config(fuzz, 0x24) << 32, 1);
	for (unsigned i = 0; i < FAKE_HOST_WINDOWS; i++)
		if (fuzz->machine.host.windows[i].length)
			return (struct duet_coop_page *)fuzz->machine.host.windows[i].memory + vcpu;
	device_fuzz_must(false, "no shared memory");
	return NULL;
}

static void ring(struct device_fuzz *fuzz, unsigned port)
{
	bus_write(fuzz->machine.place.ports, (config(fuzz, 0x1c) & ~3U) + port, 1, 0);
	device_fuzz_must(!host.broken, host.broken);
}

static void set_version(struct device_fuzz *fuzz, uint32_t version)
{
	fake_guest_write(&fuzz->machine,
		fuzz->driver.config + offsetof(struct duet_coop_config, driver_version), 4,
		version);
}

static void head(struct device_fuzz *fuzz, struct input *input, uint8_t *at)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	uint64_t gpa = (uint64_t)input_number(input, 2) * 2048;

	(void)fuzz;
	store_le32(at, what & 15);
	store_le32(at + 4, 0);
	store_le64(at + 8, gpa);
	store_le64(at + 16, what >> 4 & 3);
	store_le64(at + 24, what >> 6);
	store_le64(at + 40, input_number(input, 1) & 7);
}

static void call(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	struct duet_coop_call_part *part = &page(fuzz, what & 1)->call;

	part->function = what >> 1 & 15;
	part->arguments[0] = input_number(input, what & 0x40 ? 8 : 1);
	part->arguments[1] = input_number(input, 2);
	if (part->function == DUET_COOP_BATCH) {
		part->arguments[0] = what & 0x40 ? part->arguments[0] : FUZZ_DATA + (what >> 5);
		part->arguments[2] = input_number(input, 1);
	}
	host.current = what & 0x20 ? 2 : what & 1;
	ring(fuzz, what & 0x80 ? (unsigned)input_number(input, 1) : what & 1);
}

static void scribble(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t *bytes = (uint8_t *)page(fuzz, 0);

	input_bytes(input, bytes + input_number(input, 2) % (VCPUS * DUET_COOP_PAGE_SIZE - 16), 16);
}

/* ---- the owner ---- */

static void count_run(void *opaque, const struct virtio_coop_run *run)
{
	device_fuzz_must(run->vcpu < VCPUS && run->pages <= FAKE_RAM_SIZE / MEMORY_PAGE &&
				 run->gpa <= FAKE_RAM_SIZE - run->pages * MEMORY_PAGE,
		"a run outside memory");
	++*(unsigned *)opaque;
}

static void look(struct device_fuzz *fuzz)
{
	struct virtio_coop_machine_hints machine;
	struct virtio_coop_vcpu_hints hints;

	virtio_coop_machine_hints(fuzz->device, &machine);
	for (unsigned i = 0; i <= VCPUS; i++)
		virtio_coop_vcpu_hints(fuzz->device, i, &hints);
	for (unsigned kind = 0; kind < VIRTIO_COOP_KINDS; kind++) {
		struct virtio_coop_runs runs;
		unsigned count = 0;

		virtio_coop_runs(fuzz->device, kind, &runs);
		virtio_coop_each_run(fuzz->device, kind, count_run, &count);
		device_fuzz_must(count == runs.count && count <= VIRTIO_COOP_RUNS_MAX, "runs");
	}
}

static void outside(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);
	struct error err;

	/* There is no page where its BAR is not found. */
	if (fuzz->displaced && (what & 7) < 3)
		return;
	switch (what & 7) {
	case 0:
	case 1:
		call(fuzz, input);
		break;
	case 2:
		scribble(fuzz, input);
		break;
	case 3:
		virtio_coop_wish(fuzz->device, what >> 3 & 1, &err);
		break;
	case 4:
		set_version(fuzz, what & 8 ? DUET_COOP_VERSION : what >> 4);
		break;
	case 6:
		virtio_coop_stopped(fuzz->device, input_number(input, 4));
		virtio_coop_goes_on(fuzz->device, input_number(input, 4));
		break;
	default:
		look(fuzz);
		break;
	}
}

/* A batch of one, and a fast call. */
static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer chain[] = {{FUZZ_DATA, sizeof(struct duet_coop_request), false},
		{ANSWERS, sizeof(struct duet_coop_answer), true}};
	const struct duet_coop_request request = {.function = DUET_COOP_NOP, .arguments = {42}};
	struct duet_coop_answer answer;
	uint32_t written;

	set_version(fuzz, DUET_COOP_VERSION);
	memcpy(fuzz->machine.ram + FUZZ_DATA, &request, sizeof(request));
	if (!device_fuzz_request(fuzz, DUET_COOP_REQUESTS, chain, 2, &written))
		return false;
	memcpy(&answer, fuzz->machine.ram + ANSWERS, sizeof(answer));
	device_fuzz_must(written == sizeof(answer) && answer.status == 0 && answer.values[0] == 42,
		"a wrong answer");
	page(fuzz, 1)->call.function = DUET_COOP_NOP;
	page(fuzz, 1)->call.arguments[0] = 43;
	host.current = 1;
	ring(fuzz, 1);
	return page(fuzz, 1)->call.status == 0 && page(fuzz, 1)->call.values[0] == 43;
}

static const struct device_fuzz_target target = {
	.queues = DUET_COOP_QUEUES,
	.create = create,
	.features = 0x3f,
	.head_size = sizeof(struct duet_coop_request),
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
