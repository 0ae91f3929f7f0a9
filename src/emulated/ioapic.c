/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAPIC with 24 pins for the split irqchip (82093AA data sheet; version 0x20, which has an EOI
 * register). The LAPICs are in the kernel: an interrupt is an MSI to them, and the EOI of a
 * level-triggered one comes back as an exit of its vCPU.
 *
 * Polarity is not looked at: a device's set_line() says asserted or not. An edge that comes while
 * its pin is masked is lost, as on the chip.
 */
#include "base/checked.h"
#include "base/log.h"
#include "emulated/board.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PINS              LAYOUT_IRQ_PINS
#define WINDOW            4096
#define OFFSET_SELECT     0x00
#define OFFSET_DATA       0x10
#define OFFSET_EOI        0x40
#define REG_ID            0x00
#define REG_VERSION       0x01
#define REG_ARBITRATION   0x02
#define REG_ENTRIES       0x10
#define VERSION           (0x20U | (PINS - 1) << 16)
#define ID_MASK           0x0f000000U
#define ENTRY_VECTOR      0xffULL
#define ENTRY_MODE_SHIFT  8
#define ENTRY_MODE        7ULL
#define ENTRY_LOGICAL     (1ULL << 11)
#define ENTRY_STATUS      (1ULL << 12)
#define ENTRY_REMOTE_IRR  (1ULL << 14)
#define ENTRY_LEVEL       (1ULL << 15)
#define ENTRY_MASKED      (1ULL << 16)
#define ENTRY_READ_ONLY   (ENTRY_STATUS | ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE    (0xff0000000001ffffULL & ~ENTRY_READ_ONLY)
#define ENTRY_DEST_SHIFT  56
#define MODE_LOWEST       1U
#define MSI_ADDRESS       0xfee00000ULL
#define MSI_ADDRESS_DEST  12
#define MSI_ADDRESS_HINT  (1U << 3)
#define MSI_ADDRESS_LOGIC (1U << 2)
#define MSI_DATA_MODE     8
#define MSI_DATA_ASSERT   (1U << 14)
#define MSI_DATA_LEVEL    (1U << 15)

struct ioapic {
	struct device device;
	struct bus_range range;
	struct ioapic_host host;
	pthread_mutex_t lock; /* vCPUs, I/O threads */
	uint32_t id;
	uint8_t select;
	uint32_t lines; /* level of each pin */
	uint64_t entries[PINS];
	/* The entry by which a level-triggered interrupt went out whose end has not come: a driver
	 * may have written another vector or destination since. Valid with Remote IRR. */
	uint64_t served[PINS];
	uint32_t unrouted; /* pins whose message the host did not take */
	struct log_guest_limit guest_log;
	uint64_t delivered, eois;
};

static struct ioapic *ioapic_of(struct device *device)
{
	return container_of(device, struct ioapic, device);
}

static uint64_t msi_address(uint64_t entry)
{
	const unsigned mode = entry >> ENTRY_MODE_SHIFT & ENTRY_MODE;

	return MSI_ADDRESS | (entry >> ENTRY_DEST_SHIFT) << MSI_ADDRESS_DEST |
	       (entry & ENTRY_LOGICAL ? MSI_ADDRESS_LOGIC : 0) |
	       (mode == MODE_LOWEST ? MSI_ADDRESS_HINT : 0);
}

static uint32_t msi_data(uint64_t entry)
{
	return (uint32_t)(entry & ENTRY_VECTOR) |
	       (uint32_t)(entry >> ENTRY_MODE_SHIFT & ENTRY_MODE) << MSI_DATA_MODE |
	       (entry & ENTRY_LEVEL ? MSI_DATA_LEVEL | MSI_DATA_ASSERT : 0);
}

/* KVM tells the ends of those vectors that a pin is routed to: of the one in service until then,
 * of the one written meanwhile from then on. */
static void route(struct ioapic *ioapic, unsigned pin)
{
	const bool serving = ioapic->entries[pin] & ENTRY_REMOTE_IRR;
	const uint64_t entry = serving ? ioapic->served[pin] : ioapic->entries[pin];
	int ret = ioapic->host.set_route(ioapic->host.opaque, pin, msi_address(entry),
		msi_data(entry), !serving && (entry & ENTRY_MASKED));

	ioapic->unrouted = (ioapic->unrouted & ~(1U << pin)) | (uint32_t)(ret < 0) << pin;
	if (ret < 0)
		log_guest(&ioapic->guest_log, ioapic->device.name, "pin %u: no route: %s", pin,
			strerror(-ret));
}

static void deliver(struct ioapic *ioapic, unsigned pin)
{
	const uint64_t entry = ioapic->entries[pin];

	if (ioapic->unrouted >> pin & 1)
		route(ioapic, pin);
	ioapic->delivered++;
	/* Without a route its end would not be told: it is not waited for, and the line's next
	 * rise interrupts again. */
	if ((entry & ENTRY_LEVEL) && !(ioapic->unrouted >> pin & 1)) {
		ioapic->entries[pin] |= ENTRY_REMOTE_IRR;
		ioapic->served[pin] = entry;
	}
	ioapic->host.send_msi(ioapic->host.opaque, msi_address(entry), msi_data(entry));
}

/* A level that is up, wanted and not in service yet. */
static void service_level(struct ioapic *ioapic, unsigned pin)
{
	const uint64_t entry = ioapic->entries[pin];

	if ((ioapic->lines >> pin & 1) && (entry & ENTRY_LEVEL) &&
		!(entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
		deliver(ioapic, pin);
}

void ioapic_set_line(struct device *device, unsigned pin, bool level)
{
	struct ioapic *ioapic = ioapic_of(device);
	bool rising;

	if (pin >= PINS)
		return;
	pthread_mutex_lock(&ioapic->lock);
	rising = level && !(ioapic->lines >> pin & 1);
	ioapic->lines = (ioapic->lines & ~(1U << pin)) | (uint32_t)level << pin;
	if (ioapic->entries[pin] & ENTRY_LEVEL)
		service_level(ioapic, pin);
	else if (rising && !(ioapic->entries[pin] & ENTRY_MASKED))
		deliver(ioapic, pin);
	pthread_mutex_unlock(&ioapic->lock);
}

enum end {
	END_AT_LAPIC,    /* which ends the vector that it was sent */
	END_BY_REGISTER, /* whose writer may only know the vector that the entry shows */
};

static bool ends(const struct ioapic *ioapic, unsigned pin, unsigned vector, enum end end)
{
	const uint64_t entry = ioapic->entries[pin];

	return (entry & ENTRY_REMOTE_IRR) &&
	       ((ioapic->served[pin] & ENTRY_VECTOR) == vector ||
		       (end == END_BY_REGISTER && (entry & ENTRY_VECTOR) == vector));
}

static void end_of_interrupt(struct ioapic *ioapic, unsigned vector, enum end end)
{
	ioapic->eois++;
	for (unsigned pin = 0; pin < PINS; pin++) {
		if (!ends(ioapic, pin, vector, end))
			continue;
		ioapic->entries[pin] &= ~ENTRY_REMOTE_IRR;
		if ((ioapic->entries[pin] ^ ioapic->served[pin]) & ENTRY_WRITABLE)
			route(ioapic, pin);
		service_level(ioapic, pin);
	}
}

/* A device whose line would still be up, because it asks its hardware anew only now. */
static void tell_ends(struct ioapic *ioapic, unsigned vector, enum end end)
{
	uint32_t pins = 0;

	if (!ioapic->host.pin_ended)
		return;
	pthread_mutex_lock(&ioapic->lock);
	for (unsigned pin = 0; pin < PINS; pin++)
		if (ends(ioapic, pin, vector, end))
			pins |= 1U << pin;
	pthread_mutex_unlock(&ioapic->lock);
	for (unsigned pin = 0; pins >> pin; pin++)
		if (pins >> pin & 1)
			ioapic->host.pin_ended(ioapic->host.opaque, pin);
}

void ioapic_eoi(struct device *device, unsigned vector)
{
	struct ioapic *ioapic = ioapic_of(device);

	tell_ends(ioapic, vector, END_AT_LAPIC);
	pthread_mutex_lock(&ioapic->lock);
	end_of_interrupt(ioapic, vector, END_AT_LAPIC);
	pthread_mutex_unlock(&ioapic->lock);
}

static uint32_t read_register(const struct ioapic *ioapic)
{
	const unsigned index = ioapic->select - REG_ENTRIES;

	switch (ioapic->select) {
	case REG_ID:
	case REG_ARBITRATION:
		return ioapic->id;
	case REG_VERSION:
		return VERSION;
	default:
		if (ioapic->select < REG_ENTRIES || index >= 2 * PINS)
			return 0;
		return (uint32_t)(ioapic->entries[index / 2] >> (index % 2 * 32));
	}
}

static void write_entry(struct ioapic *ioapic, unsigned pin, bool high, uint32_t value)
{
	const uint64_t before = ioapic->entries[pin];
	const uint64_t half = high ? 0xffffffff00000000ULL : 0xffffffffULL;
	const uint64_t written = high ? (uint64_t)value << 32 : value;
	uint64_t entry = (before & ~half) | (written & half);

	entry = (entry & ENTRY_WRITABLE) | (before & ENTRY_READ_ONLY);
	/* An edge has nothing in service; drivers switch over and back to clear the bit. */
	if (!(entry & ENTRY_LEVEL))
		entry &= ~ENTRY_REMOTE_IRR;
	ioapic->entries[pin] = entry;
	route(ioapic, pin);
	service_level(ioapic, pin);
}

static void write_register(struct ioapic *ioapic, uint32_t value)
{
	const unsigned index = ioapic->select - REG_ENTRIES;

	if (ioapic->select == REG_ID)
		ioapic->id = value & ID_MASK;
	else if (ioapic->select >= REG_ENTRIES && index < 2 * PINS)
		write_entry(ioapic, index / 2, index % 2, value);
}

/* Registers are 32 bits wide at multiples of 16; anything else is nobody's. */
static uint64_t read_window(void *opaque, uint64_t offset, unsigned size)
{
	struct ioapic *ioapic = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&ioapic->lock);
	if (offset == OFFSET_SELECT)
		value = ioapic->select;
	else if (offset == OFFSET_DATA)
		value = read_register(ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	return value;
}

static void write_window(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct ioapic *ioapic = opaque;

	if (offset == OFFSET_EOI)
		tell_ends(ioapic, value & ENTRY_VECTOR, END_BY_REGISTER);
	pthread_mutex_lock(&ioapic->lock);
	if (offset == OFFSET_SELECT)
		ioapic->select = (uint8_t)value;
	else if (offset == OFFSET_DATA)
		write_register(ioapic, (uint32_t)value);
	else if (offset == OFFSET_EOI)
		end_of_interrupt(ioapic, value & ENTRY_VECTOR, END_BY_REGISTER);
	pthread_mutex_unlock(&ioapic->lock);
}

static const struct bus_ops ioapic_bus_ops = {.read = read_window, .write = write_window};

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct ioapic *ioapic = ioapic_of(device);
	int ret = bus_map(place->mmio, &ioapic->range, LAYOUT_IOAPIC, WINDOW);

	return ret < 0 ? error_errno(err, -ret, "IOAPIC") : 0;
}

/* Lines belong to the devices, which lower their own. */
static void reset(struct device *device)
{
	struct ioapic *ioapic = ioapic_of(device);

	pthread_mutex_lock(&ioapic->lock);
	ioapic->id = 0;
	ioapic->select = 0;
	for (unsigned pin = 0; pin < PINS; pin++)
		ioapic->entries[pin] = ENTRY_MASKED;
	pthread_mutex_unlock(&ioapic->lock);
}

static void save(struct device *device, struct state_writer *writer)
{
	struct ioapic *ioapic = ioapic_of(device);

	state_put_u32(writer, ioapic->id);
	state_put_u8(writer, ioapic->select);
	state_put_u32(writer, ioapic->lines);
	for (unsigned pin = 0; pin < PINS; pin++)
		state_put_u64(writer, ioapic->entries[pin]);
	for (unsigned pin = 0; pin < PINS; pin++)
		state_put_u64(writer, ioapic->served[pin]);
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct ioapic *ioapic = ioapic_of(device);

	ioapic->id = state_get_u32(reader) & ID_MASK;
	ioapic->select = state_get_u8(reader);
	ioapic->lines = state_get_u32(reader) & ((1U << PINS) - 1);
	for (unsigned pin = 0; pin < PINS; pin++)
		ioapic->entries[pin] = state_get_u64(reader) & (ENTRY_WRITABLE | ENTRY_REMOTE_IRR);
	/* Version 1 took what an entry shows for what is in service. */
	for (unsigned pin = 0; pin < PINS; pin++) {
		ioapic->served[pin] =
			reader->version < 2 ? ioapic->entries[pin] : state_get_u64(reader);
		ioapic->served[pin] &= ENTRY_WRITABLE;
		route(ioapic, pin);
	}
	return reader->failed ? error_set(err, EINVAL, "saved IOAPIC is broken") : 0;
}

static void stats(struct device *device, struct stats_sink *sink)
{
	struct ioapic *ioapic = ioapic_of(device);

	pthread_mutex_lock(&ioapic->lock);
	sink->count(sink, NULL, "interrupts", ioapic->delivered);
	sink->count(sink, NULL, "eois", ioapic->eois);
	pthread_mutex_unlock(&ioapic->lock);
}

static void ioapic_free(struct device *device)
{
	struct ioapic *ioapic = ioapic_of(device);

	pthread_mutex_destroy(&ioapic->lock);
	free(ioapic);
}

static const struct device_ops ioapic_ops = {
	.type = "ioapic",
	.realize = realize,
	.reset = reset,
	.state_version = 2,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = ioapic_free,
};

int ioapic_new(struct device **device, const struct ioapic_host *host, struct error *err)
{
	struct ioapic *ioapic = calloc(1, sizeof(*ioapic));

	if (!ioapic)
		return error_errno(err, ENOMEM, "IOAPIC");
	ioapic->device.ops = &ioapic_ops;
	snprintf(ioapic->device.name, sizeof(ioapic->device.name), "ioapic0");
	ioapic->range =
		(struct bus_range){.name = "ioapic", .ops = &ioapic_bus_ops, .device = ioapic};
	ioapic->host = *host;
	for (unsigned pin = 0; pin < PINS; pin++)
		ioapic->entries[pin] = ENTRY_MASKED;
	pthread_mutex_init(&ioapic->lock, NULL);
	*device = &ioapic->device;
	return 0;
}
