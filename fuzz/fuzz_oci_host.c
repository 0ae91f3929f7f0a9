/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes from a guest to duet-oci: as what a process says, and as answers to questions. */
#include "oci/guest.h"
#include "oci/pump.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_pump(int fd)
{
	static int nothing = -1;
	struct frame_input input = {.limit = frame_host_takes};
	struct pump pump = {.fd = fd, .input = &input, .in = -1, .side = -1};
	uint32_t status = 0;

	if (nothing < 0)
		nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
	pump.out = pump.err = nothing;
	if (pump_prepare(&pump) < 0)
		abort();
	if (pump_run(&pump, &status) == 0 && status > 255)
		abort();
	close(pump.signals);
	frame_input_free(&input);
}

static void run_answer(int fd)
{
	struct frame_input input = {.limit = frame_host_takes};
	struct listing listing = {0};
	struct usage usage;
	struct error err = {0};
	struct frame frame;
	struct wire wire;

	if (guest_answer(fd, &input, 0, &frame, &err) == 0) {
		wire_read(&wire, frame.payload, frame.length);
		wire_listing(&wire, &listing);
		listing_free(&listing);
		wire_read(&wire, frame.payload, frame.length);
		wire_usage(&wire, &usage);
	} else if (!err.text[0] || strpbrk(err.text, "\n\033")) {
		abort();
	}
	frame_input_free(&input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (unsigned i = 0; i < 2; i++) {
		int line[2];

		if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM, 0, line) < 0)
			return 0;
		if (write(line[1], data, size) != (ssize_t)size)
			abort();
		shutdown(line[1], SHUT_WR);
		if (i)
			run_answer(line[0]);
		else
			run_pump(line[0]);
		close(line[0]);
		close(line[1]);
	}
	return 0;
}
