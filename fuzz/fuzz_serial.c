/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port's interrupt against its registers: after any sequence of accesses the line is up
 * exactly when the identification register names a cause and the gate is open. */
#include "../tests/unit/board_fixture.h"

#include <fcntl.h>

#define IER 1
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
static struct device *create(struct board_fixture *fixture)
{
	struct device *device;

	fixture_open(fixture);
	if (serial_new(&device, open("/dev/null", O_WRONLY | O_CLOEXEC), NULL) < 0)
		abort();
	device->ops->realize(device, &fixture->place, NULL);
	return device;
}

/* As new: what was typed outlives the machine's reset, so it is read first. */
static void renew(struct board_fixture *fixture, struct device *device)
{
	device->ops->reset(device);
	fixture_out(fixture, LAYOUT_SERIAL_PORT + IER, 1, 1);
	fixture_out(fixture, LAYOUT_SERIAL_PORT + MCR, 1, 8);
	while (fixture_in(fixture, LAYOUT_SERIAL_PORT + LSR, 1) & 1)
		fixture_in(fixture, LAYOUT_SERIAL_PORT, 1);
	device->ops->reset(device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct board_fixture fixture;
	static struct device *device;

	if (!device)
		device = create(&fixture);
	renew(&fixture, device);
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
	return 0;
}
