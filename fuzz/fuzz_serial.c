/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port's interrupt against its registers: after any sequence of accesses the line is up
 * exactly when the identification register names a cause and the gate is open. */
#include "../tests/unit/board_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#define IIR 2
#define MCR 4
#define LSR 5

static void check_line(struct board_fixture *fixture)
{
	const bool up = fixture->lines >> LAYOUT_SERIAL_GSI & 1;
	const uint64_t mcr = fixture_in(fixture, LAYOUT_SERIAL_PORT + MCR, 1);
	const uint64_t iir = fixture_in(fixture, LAYOUT_SERIAL_PORT + IIR, 1);
	const bool open = (mcr & 0x18) == 0x08;

	if (up != (open && !(iir & 1)))
		abort();
	/* The transmitter is never busy. */
	if ((fixture_in(fixture, LAYOUT_SERIAL_PORT + LSR, 1) & 0x60) != 0x60)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct board_fixture fixture;
	struct device *device;
	int output = open("/dev/null", O_WRONLY | O_CLOEXEC);

	fixture_open(&fixture);
	if (serial_new(&device, output, NULL) < 0)
		abort();
	device->ops->realize(device, &fixture.place, NULL);
	for (size_t at = 0; at + 2 <= size; at += 2) {
		const uint8_t op = data[at], value = data[at + 1];

		if (op & 0x40)
			serial_input(device, &data[at], 2);
		else if (op & 0x80)
			fixture_out(&fixture, LAYOUT_SERIAL_PORT + (op & 7), 1, value);
		else
			fixture_in(&fixture, LAYOUT_SERIAL_PORT + (op & 7), 1);
		check_line(&fixture);
	}
	device->ops->free(device);
	fixture_close(&fixture);
	close(output);
	return 0;
}
