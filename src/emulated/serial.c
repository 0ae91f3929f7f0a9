/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A serial port (PC16550D data sheet).
 *
 * Bytes leave at once as far as the guest sees: the transmitter is empty, unless who reads is slow.
 * What they wait for is a line to be whole, so that output costs one system call a line
 * (serial_output.c).
 *
 * What was typed waits until the guest reads: when its driver has the port open (the receive
 * interrupt on, OUT2 on) or when it polls for a byte. Until then the port shows nothing of it, so
 * that nothing is lost to a driver that reads and clears the FIFO to probe or to reset the chip;
 * nor does the machine's own reset drop it.
 */
#include "emulated/board.h"
#include "emulated/serial_output.h"

#include "base/checked.h"
#include "base/loop.h"
#include "base/room.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 8
/* The guest sees a 16-byte FIFO by its trigger levels only; a deeper one makes pasting faster. */
#define FIFO_SIZE 64U
/* Reads of the line status in a row that tell a guest that waits for a byte from one that looks at
 * its transmitter. */
#define POLLS 16U

#define REG_DATA    0 /* RBR, THR; divisor low with DLAB */
#define REG_IER     1 /* divisor high with DLAB */
#define REG_IIR_FCR 2
#define REG_LCR     3
#define REG_MCR     4
#define REG_LSR     5
#define REG_MSR     6
#define REG_SCR     7

#define IER_RDI       0x01
#define IER_THRI      0x02
#define IER_MASK      0x0f
#define IIR_NONE      0x01
#define IIR_THRI      0x02
#define IIR_RDI       0x04
#define IIR_FIFO      0xc0
#define FCR_ENABLE    0x01
#define FCR_CLEAR_RX  0x02
#define LCR_DLAB      0x80
#define MCR_MASK      0x1f
#define MCR_DTR       0x01
#define MCR_RTS       0x02
#define MCR_OUT1      0x04
#define MCR_OUT2      0x08
#define MCR_LOOP      0x10
#define LSR_DR        0x01
#define LSR_OE        0x02
#define LSR_THRE_TEMT 0x60
#define MSR_CTS       0x10
#define MSR_DSR       0x20
#define MSR_RI        0x40
#define MSR_DCD       0x80

struct fifo {
	uint8_t bytes[FIFO_SIZE];
	unsigned first, count;
};

struct serial {
	struct device device;
	struct bus_range range;
	struct bus_host *host;
	struct serial_output output;

	pthread_mutex_t lock; /* of all below; vCPUs, main thread */
	uint8_t ier, fcr, lcr, mcr, lsr_errors, scr, dll, dlm;
	bool thr_pending;          /* the "transmitter empty" interrupt is due */
	bool busy;                 /* the transmitter is not empty: its reader is slow */
	bool line;                 /* level of the interrupt line */
	struct room room;          /* serial_input() took less than it was given */
	struct fifo typed, looped; /* from the host; from the guest itself, in loopback */
	unsigned polls;            /* in a row, so far */
	bool polled;               /* the guest polls for bytes */
	uint64_t bytes_in, overruns, interrupts;
};

static struct serial *serial_of(struct device *device)
{
	return container_of(device, struct serial, device);
}

static bool fifo_push(struct fifo *fifo, unsigned depth, uint8_t byte)
{
	if (fifo->count >= depth)
		return false;
	fifo->bytes[(fifo->first + fifo->count++) % FIFO_SIZE] = byte;
	return true;
}

static uint8_t fifo_pop(struct fifo *fifo)
{
	const uint8_t byte = fifo->bytes[fifo->first];

	fifo->first = (fifo->first + 1) % FIFO_SIZE;
	fifo->count--;
	return byte;
}

/* The guest takes what is typed. */
static bool is_open(const struct serial *serial)
{
	if (serial->mcr & MCR_LOOP)
		return false;
	return serial->polled || ((serial->ier & IER_RDI) && (serial->mcr & MCR_OUT2));
}

/* Where the next byte comes from; null: there is none. */
static struct fifo *readable(struct serial *serial)
{
	if (serial->looped.count)
		return &serial->looped;
	return serial->typed.count && is_open(serial) ? &serial->typed : NULL;
}

static uint8_t interrupt_cause(struct serial *serial)
{
	if ((serial->ier & IER_RDI) && readable(serial))
		return IIR_RDI;
	if ((serial->ier & IER_THRI) && serial->thr_pending)
		return IIR_THRI;
	return IIR_NONE;
}

/* OUT2 is the gate between the chip and the interrupt controller on every PC. */
static void update_line(struct serial *serial)
{
	const bool open = (serial->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
	const bool level = open && interrupt_cause(serial) != IIR_NONE;

	if (level == serial->line)
		return;
	serial->line = level;
	serial->interrupts += level;
	serial->host->ops->set_line(serial->host, LAYOUT_SERIAL_GSI, level);
}

static unsigned fifo_depth(const struct serial *serial)
{
	return serial->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

/* Whoever was told to wait is told to go on, once the guest has taken all and takes more. */
static void offer_room(struct serial *serial)
{
	if (!serial->typed.count && is_open(serial))
		room_offer(&serial->room);
}

static uint8_t read_data(struct serial *serial)
{
	struct fifo *fifo = readable(serial);
	uint8_t byte;

	if (serial->lcr & LCR_DLAB)
		return serial->dll;
	if (!fifo)
		return 0;
	byte = fifo_pop(fifo);
	offer_room(serial);
	return byte;
}

static uint8_t read_iir(struct serial *serial)
{
	const uint8_t cause = interrupt_cause(serial);

	/* Reading it is the acknowledgement of "transmitter empty". */
	if (cause == IIR_THRI)
		serial->thr_pending = false;
	return cause | (serial->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

/* In loopback the guest talks to itself alone. */
static bool transmitter_empty(struct serial *serial)
{
	const bool was_busy = serial->busy;

	serial->busy = !(serial->mcr & MCR_LOOP) && !serial_output_ready(&serial->output);
	if (was_busy && !serial->busy)
		serial->thr_pending = true;
	return !serial->busy;
}

static void note_poll(struct serial *serial)
{
	if (serial->polled || (serial->ier & IER_RDI) || ++serial->polls < POLLS)
		return;
	serial->polled = true;
	offer_room(serial);
}

static uint8_t read_lsr(struct serial *serial)
{
	const uint8_t errors = serial->lsr_errors;
	const bool empty = transmitter_empty(serial);

	serial->lsr_errors = 0;
	if (empty)
		note_poll(serial);
	return (empty ? LSR_THRE_TEMT : 0) | errors | (readable(serial) ? LSR_DR : 0);
}

/* In loopback the modem lines are the port's own outputs; else a terminal is always there. */
static uint8_t read_msr(const struct serial *serial)
{
	if (!(serial->mcr & MCR_LOOP))
		return MSR_DCD | MSR_DSR | MSR_CTS;
	return (serial->mcr & MCR_DTR ? MSR_DSR : 0) | (serial->mcr & MCR_RTS ? MSR_CTS : 0) |
	       (serial->mcr & MCR_OUT1 ? MSR_RI : 0) | (serial->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t read_register(struct serial *serial, uint64_t offset)
{
	if (offset != REG_LSR)
		serial->polls = 0;
	switch (offset) {
	case REG_DATA:
		return read_data(serial);
	case REG_IER:
		return serial->lcr & LCR_DLAB ? serial->dlm : serial->ier;
	case REG_IIR_FCR:
		return read_iir(serial);
	case REG_LCR:
		return serial->lcr;
	case REG_MCR:
		return serial->mcr;
	case REG_LSR:
		return read_lsr(serial);
	case REG_MSR:
		return read_msr(serial);
	default:
		return serial->scr;
	}
}

static void write_data(struct serial *serial, uint8_t byte)
{
	if (serial->lcr & LCR_DLAB) {
		serial->dll = byte;
		return;
	}
	if (!(serial->mcr & MCR_LOOP))
		serial_output_put(&serial->output, (char)byte);
	else if (!fifo_push(&serial->looped, fifo_depth(serial), byte))
		serial->lsr_errors |= LSR_OE;
	serial->thr_pending = transmitter_empty(serial);
}

static void write_ier(struct serial *serial, uint8_t value)
{
	const uint8_t raised = ~serial->ier & value;

	if (serial->lcr & LCR_DLAB) {
		serial->dlm = value;
		return;
	}
	serial->ier = value & IER_MASK;
	serial->polled = false;
	if (raised & IER_THRI)
		serial->thr_pending = transmitter_empty(serial);
	/* Drivers touch this register when they have no more to send: a prompt, an echo. */
	serial_output_flush(&serial->output);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	/* Switching the FIFO on or off empties it; what was typed has not arrived yet. */
	if ((value & FCR_CLEAR_RX) || ((value ^ serial->fcr) & FCR_ENABLE))
		serial->looped.count = 0;
	serial->fcr = value & FCR_ENABLE;
}

static void write_register(struct serial *serial, uint64_t offset, uint8_t value)
{
	serial->polls = 0;
	switch (offset) {
	case REG_DATA:
		write_data(serial, value);
		break;
	case REG_IER:
		write_ier(serial, value);
		break;
	case REG_IIR_FCR:
		write_fcr(serial, value);
		break;
	case REG_LCR:
		serial->lcr = value;
		break;
	case REG_MCR:
		serial->mcr = value & MCR_MASK;
		serial->polled = false;
		break;
	case REG_SCR:
		serial->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* Wider accesses are bytes at consecutive ports, as an 8-bit ISA card sees them. */
static uint64_t bus_read_serial(void *opaque, uint64_t offset, unsigned size)
{
	struct serial *serial = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_register(serial, (offset + i) % PORTS) << (8 * i);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

static void bus_write_serial(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct serial *serial = opaque;

	pthread_mutex_lock(&serial->lock);
	for (unsigned i = 0; i < size; i++)
		write_register(serial, (offset + i) % PORTS, (uint8_t)(value >> (8 * i)));
	offer_room(serial);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static const struct bus_ops serial_bus_ops = {.read = bus_read_serial, .write = bus_write_serial};

size_t serial_input(struct device *device, const void *bytes, size_t length)
{
	struct serial *serial = serial_of(device);
	const uint8_t *from = bytes;
	size_t taken = 0;

	pthread_mutex_lock(&serial->lock);
	while (taken < length && is_open(serial) &&
		fifo_push(&serial->typed, fifo_depth(serial), from[taken]))
		taken++;
	serial->bytes_in += taken;
	room_wanted(&serial->room, taken < length);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

void serial_set_room(
	struct device *device, struct loop *loop, void (*call)(void *opaque), void *opaque)
{
	room_tell(&serial_of(device)->room, loop, call, opaque);
}

void serial_flush(struct device *device, bool hurry)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	serial_output_finish(&serial->output, hurry);
	pthread_mutex_unlock(&serial->lock);
}

/* The timer tried: who waits for the transmitter's interrupt may have it. */
static void retried(struct serial_output *output)
{
	struct serial *serial = container_of(output, struct serial, output);

	if (!serial->busy)
		return;
	transmitter_empty(serial);
	update_line(serial);
}

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct serial *serial = serial_of(device);
	int ret;

	serial->host = place->host;
	serial_output_attach(&serial->output, place->main, &serial->lock, retried);
	ret = bus_map(place->ports, &serial->range, LAYOUT_SERIAL_PORT, PORTS);
	return ret < 0 ? error_errno(err, -ret, "serial port") : 0;
}

static void reset(struct device *device)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	serial->ier = serial->fcr = serial->lcr = serial->lsr_errors = serial->scr = 0;
	serial->mcr = 0;
	serial->dll = 12; /* 9600 baud, as firmware leaves it */
	serial->dlm = 0;
	serial->thr_pending = serial->busy = serial->polled = false;
	serial->looped.count = serial->polls = 0;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void save_fifo(const struct fifo *fifo, struct state_writer *writer)
{
	state_put_u8(writer, (uint8_t)fifo->count);
	for (unsigned i = 0; i < fifo->count; i++)
		state_put_u8(writer, fifo->bytes[(fifo->first + i) % FIFO_SIZE]);
}

static void save(struct device *device, struct state_writer *writer)
{
	struct serial *serial = serial_of(device);
	const uint8_t registers[] = {serial->ier, serial->fcr, serial->lcr, serial->mcr,
		serial->lsr_errors, serial->scr, serial->dll, serial->dlm};

	state_put_bytes(writer, registers, sizeof(registers));
	state_put_bool(writer, serial->thr_pending);
	save_fifo(&serial->typed, writer);
	state_put_u16(writer, (uint16_t)serial->output.length);
	state_put_bytes(writer, serial->output.buffer, serial->output.length);
	save_fifo(&serial->looped, writer);
	state_put_bool(writer, serial->polled);
}

static int restore_fifo(struct fifo *fifo, struct state_reader *reader)
{
	const unsigned count = state_get_u8(reader);

	if (reader->failed || count > FIFO_SIZE)
		return -EINVAL;
	fifo->first = 0;
	fifo->count = count;
	state_get_bytes(reader, fifo->bytes, count);
	return 0;
}

static int restore_output(struct serial_output *output, struct state_reader *reader)
{
	const unsigned length = state_get_u16(reader);

	if (length > sizeof(output->buffer))
		return -EINVAL;
	state_get_bytes(reader, output->buffer, length);
	output->length = reader->failed ? 0 : length;
	return 0;
}

static void restore_registers(struct serial *serial, struct state_reader *reader)
{
	uint8_t registers[8];

	state_get_bytes(reader, registers, sizeof(registers));
	serial->ier = registers[0] & IER_MASK;
	serial->fcr = registers[1] & FCR_ENABLE;
	serial->lcr = registers[2];
	serial->mcr = registers[3] & MCR_MASK;
	serial->lsr_errors = registers[4] & LSR_OE;
	serial->scr = registers[5];
	serial->dll = registers[6];
	serial->dlm = registers[7];
	serial->thr_pending = state_get_bool(reader);
}

/* Version 1 knew one FIFO, and no guest that polls. */
static int restore_input(struct serial *serial, struct state_reader *reader)
{
	int ret;

	serial->looped.count = 0;
	serial->polled = false;
	if (reader->version < 2)
		return 0;
	ret = restore_fifo(&serial->looped, reader);
	serial->polled = state_get_bool(reader);
	return ret;
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct serial *serial = serial_of(device);
	int ret;

	restore_registers(serial, reader);
	ret = restore_fifo(&serial->typed, reader);
	if (ret == 0)
		ret = restore_output(&serial->output, reader);
	if (ret == 0)
		ret = restore_input(serial, reader);
	if (ret < 0 || reader->failed)
		return error_set(err, EINVAL, "saved serial port is broken");
	serial->busy = serial_output_full(&serial->output);
	/* The interrupt controller restores its own view of the line. */
	serial->line = (serial->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2 &&
		       interrupt_cause(serial) != IIR_NONE;
	return 0;
}

/* A restored port may have a prompt to show that the guest does not repeat. */
static int start(struct device *device, struct error *err)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	serial_output_start(&serial->output);
	pthread_mutex_unlock(&serial->lock);
	return 0;
}

/* What the reader has not taken yet waits here, and goes along when the state is saved. */
static void quiesce(struct device *device, unsigned asking, bool drop)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	serial_output_flush(&serial->output);
	pthread_mutex_unlock(&serial->lock);
	device_at_rest(device, asking);
}

static void stats(struct device *device, struct stats_sink *sink)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	sink->count(sink, NULL, "bytes_out", serial->output.bytes);
	sink->count(sink, NULL, "bytes_in", serial->bytes_in);
	sink->count(sink, NULL, "writes", serial->output.writes);
	sink->count(sink, NULL, "dropped", serial->output.dropped);
	sink->count(sink, NULL, "interrupts", serial->interrupts);
	pthread_mutex_unlock(&serial->lock);
}

static void serial_free(struct device *device)
{
	struct serial *serial = serial_of(device);

	serial_output_destroy(&serial->output);
	room_stop(&serial->room);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

static const struct device_ops serial_ops = {
	.type = "serial",
	.realize = realize,
	.reset = reset,
	.start = start,
	.quiesce = quiesce,
	.state_version = 2,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = serial_free,
};

int serial_new(struct device **device, int output, struct error *err)
{
	struct serial *serial = calloc(1, sizeof(*serial));

	if (!serial)
		return error_errno(err, ENOMEM, "serial port");
	serial->device.ops = &serial_ops;
	snprintf(serial->device.name, sizeof(serial->device.name), "serial0");
	serial->range =
		(struct bus_range){.name = "serial", .ops = &serial_bus_ops, .device = serial};
	serial->dll = 12;
	pthread_mutex_init(&serial->lock, NULL);
	room_init(&serial->room, &serial->lock);
	serial_output_init(&serial->output, output);
	*device = &serial->device;
	return 0;
}
