/* SPDX-License-Identifier: Apache-2.0 */
/* Two pipes are the terminal; it is read and typed at when the input says so. */
#include "device_fuzz.h"

#include "virtio/devices.h"

#include <fcntl.h>
#include <unistd.h>

enum {
	RECEIVE,
	TRANSMIT
};

static int create(struct device_fuzz *fuzz, struct error *err)
{
	struct virtio_console_options options = {.packed = true};
	int out[2], in[2];

	device_fuzz_must(pipe2(out, O_CLOEXEC) == 0 && pipe2(in, O_CLOEXEC) == 0, "pipe");
	device_fuzz_must(
		fcntl(out[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(in[1], F_SETFL, O_NONBLOCK) == 0,
		"fcntl");
	fuzz->fds[0] = out[0];
	fuzz->fds[1] = in[1];
	options.output = out[1];
	options.input = in[0];
	return virtio_console_new(&fuzz->device, "console0", &options, err);
}

static void read_everything(struct device_fuzz *fuzz)
{
	uint8_t bytes[65536];

	while (read(fuzz->fds[0], bytes, sizeof(bytes)) > 0)
		;
}

static void outside(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1), typed[64];

	memset(typed, what, sizeof(typed));
	if (what & 1)
		read_everything(fuzz);
	else if (what & 2)
		virtio_console_input(fuzz->device, typed, what >> 2);
	else if (what & 4)
		virtio_console_resize(fuzz->device, what, 25);
	else
		device_fuzz_must(write(fuzz->fds[1], typed, what >> 2) != 0 || what < 4, "type");
}

static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer text = {FUZZ_DATA, 100, false};
	const struct ring_buffer room = {FUZZ_DATA + 0x1000, 64, true};
	uint32_t written;

	read_everything(fuzz);
	if (!device_fuzz_request(fuzz, TRANSMIT, &text, 1, &written))
		return false;
	virtio_console_input(fuzz->device, "x", 1);
	return device_fuzz_request(fuzz, RECEIVE, &room, 1, &written) && written >= 1;
}

static const struct device_fuzz_target target = {
	.queues = 2,
	.create = create,
	.features = 7,
	.outside = outside,
	.honest = honest,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct device_fuzz fuzz;

	device_fuzz_one(&fuzz, &target, data, size);
	return 0;
}
