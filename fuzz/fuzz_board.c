/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes of every register of the board's small devices, in any order and width, mixed
 * with lines, keys (half of the inputs have a keyboard), power buttons, slots to empty, resets and
 * restores of arbitrary state. */
#include "../tests/unit/board_fixture.h"
#include "base/bytes.h"
#include "base/log.h"

#include <fcntl.h>
#include <unistd.h>

#define DEVICES 6

struct board {
	struct board_fixture fixture;
	struct device *devices[DEVICES];
	int output;
	uint32_t asked; /* slots, ever */
};

enum {
	SERIAL,
	PM,
	KEYBOARD,
	RTC,
	IOAPIC,
	EJECT
};

static int send_msi(void *opaque, uint64_t address, uint32_t data)
{
	return 0;
}

static int set_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked)
{
	if (pin >= LAYOUT_IRQ_PINS)
		abort();
	return 0;
}

/* Never what was not asked for. */
static void ejected(void *opaque, uint32_t slots)
{
	const struct board *board = opaque;

	if (!slots || slots & ~board->asked)
		abort();
}

static void open_board(struct board *board, bool keys)
{
	const struct ioapic_host host = {
		.send_msi = send_msi, .set_route = set_route, .opaque = board};

	fixture_open(&board->fixture);
	board->output = open("/dev/null", O_WRONLY | O_CLOEXEC);
	serial_new(&board->devices[SERIAL], board->output, NULL);
	acpi_pm_new(&board->devices[PM], &fixture_events, &board->fixture, NULL);
	keyboard_new(&board->devices[KEYBOARD], keys, &fixture_events, &board->fixture, NULL);
	rtc_new(&board->devices[RTC], NULL);
	ioapic_new(&board->devices[IOAPIC], &host, NULL);
	eject_new(&board->devices[EJECT], ejected, board, NULL);
	for (unsigned i = 0; i < DEVICES; i++)
		if (board->devices[i]->ops->realize(
			    board->devices[i], &board->fixture.place, NULL) < 0)
			abort();
}

static void close_board(struct board *board)
{
	for (unsigned i = 0; i < DEVICES; i++)
		board->devices[i]->ops->free(board->devices[i]);
	fixture_close(&board->fixture);
	close(board->output);
}

static uint64_t port_of(uint8_t selector, uint8_t offset)
{
	static const uint16_t bases[] = {LAYOUT_SERIAL_PORT, LAYOUT_PM_PORT, LAYOUT_GPE0,
		LAYOUT_RTC_PORT, LAYOUT_KEYBOARD_DATA, LAYOUT_RESET_PORT, LAYOUT_EJECT};

	return (uint64_t)bases[selector % ARRAY_SIZE(bases)] + offset % 16;
}

static void restore(struct board *board, unsigned which, const uint8_t *bytes, size_t length)
{
	struct device *device = board->devices[which % DEVICES];
	struct state_reader reader = {
		.bytes = bytes, .length = length, .section_end = length, .version = 1};
	struct error err;

	device->ops->restore(device, &reader, &err);
}

static void access_bus(struct board *board, const uint8_t *op, struct bus *bus, uint64_t address)
{
	const unsigned size = 1U << (op[0] >> 4 & 3);
	uint64_t value;

	if (op[0] & 0x80) {
		bus_write(bus, address, size, load_le32(op + 4));
		return;
	}
	bus_read(bus, address, size, &value);
	if (size < 8 && value >> (8 * size))
		abort();
}

static void step(struct board *board, const uint8_t *op, size_t left)
{
	switch (op[0] & 0xf) {
	case 0:
		serial_input(board->devices[SERIAL], op, 8);
		break;
	case 1:
		acpi_pm_power_button(board->devices[PM]);
		break;
	case 2:
		ioapic_set_line(board->devices[IOAPIC], op[1], op[2] & 1);
		break;
	case 3:
		ioapic_eoi(board->devices[IOAPIC], op[1]);
		break;
	case 4:
		board->devices[op[1] % DEVICES]->ops->reset(board->devices[op[1] % DEVICES]);
		break;
	case 5:
		restore(board, op[1], op + 2, left - 2);
		break;
	case 6:
		fixture_move(board->devices[op[1] % DEVICES], board->devices[op[1] % DEVICES]);
		break;
	case 7:
	case 8:
		access_bus(board, op, board->fixture.place.mmio,
			LAYOUT_IOAPIC + (op[1] & 1 ? 0x10 : op[2] & 0x40));
		break;
	case 9:
		keyboard_ctrl_alt_del(board->devices[KEYBOARD]);
		break;
	case 10:
		board->asked |= 1U << op[1] % 32;
		eject_ask(board->devices[EJECT], op[1] % 32);
		break;
	default:
		access_bus(board, op, board->fixture.place.ports, port_of(op[1], op[2]));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct board board = {0};

	log_set_level(LOG_LEVEL_ERROR);
	open_board(&board, size & 8);
	for (size_t at = 0; size - at >= 8; at += 8)
		step(&board, data + at, size - at);
	close_board(&board);
	return 0;
}
