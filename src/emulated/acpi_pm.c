/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI fixed hardware (ACPI 6.5, chapter 4.8): PM1 event and control blocks, PM timer, GPE block 0
 * without events, and the reset register. There is no SMI command port, so the machine is in ACPI
 * mode from the start: SCI_EN always reads 1.
 */
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "emulated/board.h"
#include "x86/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define PM_TIMER_HZ     3579545ULL
#define PM1_TIMER       (1U << 0)
#define PM1_GLOBAL      (1U << 5)
#define PM1_POWERBUTTON (1U << 8)
#define PM1_SLEEPBUTTON (1U << 9)
#define PM1_RTC         (1U << 10)
#define PM1_WAKE        (1U << 15)
#define PM1_ENABLES     (PM1_TIMER | PM1_GLOBAL | PM1_POWERBUTTON | PM1_SLEEPBUTTON | PM1_RTC)
#define CONTROL_SCI_EN  (1U << 0)
#define CONTROL_SLP_EN  (1U << 13)
#define CONTROL_SLP_TYP 10
#define CONTROL_KEPT    ((1U << 1) | (7U << CONTROL_SLP_TYP)) /* BM_RLD, SLP_TYP */
#define RESET_CPU       0x04
#define RESET_KEPT      0x0a /* hard, full: type of the reset to come */

struct acpi_pm {
	struct device device;
	struct bus_range event, control, timer, gpe, reset;
	const struct power_events *events;
	void *opaque;
	struct bus_host *host;
	struct log_guest_limit log;
	pthread_mutex_t lock; /* vCPUs, main thread */
	uint16_t status, enable, control_kept;
	uint8_t reset_kept;
	uint64_t timer_start_ns; /* of CLOCK_MONOTONIC, when the timer was 0 */
	uint64_t buttons;
};

static struct acpi_pm *pm_of(struct device *device)
{
	return container_of(device, struct acpi_pm, device);
}

/* The SCI is a level: up while any enabled event is set. Lock held. */
static void update_sci(struct acpi_pm *pm)
{
	pm->host->ops->set_line(
		pm->host, LAYOUT_ACPI_SCI, (pm->status & pm->enable & PM1_ENABLES) != 0);
}

static uint64_t read_event(void *opaque, uint64_t offset, unsigned size)
{
	struct acpi_pm *pm = opaque;
	uint32_t both;

	pthread_mutex_lock(&pm->lock);
	both = pm->status | (uint32_t)pm->enable << 16;
	pthread_mutex_unlock(&pm->lock);
	return both >> (8 * offset);
}

static void write_event(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *pm = opaque;
	const uint32_t mask = (uint32_t)((1ULL << (8 * size)) - 1) << (8 * offset);
	const uint32_t bits = (uint32_t)value << (8 * offset) & mask;

	pthread_mutex_lock(&pm->lock);
	pm->status &= (uint16_t)~bits;
	pm->enable = (uint16_t)((pm->enable & ~(mask >> 16)) | (bits >> 16)) & PM1_ENABLES;
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
}

static uint64_t read_control(void *opaque, uint64_t offset, unsigned size)
{
	struct acpi_pm *pm = opaque;
	uint64_t value;

	pthread_mutex_lock(&pm->lock);
	value = pm->control_kept | CONTROL_SCI_EN;
	pthread_mutex_unlock(&pm->lock);
	return value >> (8 * offset);
}

static void sleep_state(struct acpi_pm *pm, unsigned type)
{
	if (type == LAYOUT_SLEEP_TYPE_S5)
		pm->events->power_off(pm->opaque);
	else
		log_guest(&pm->log, "acpi", "sleep type %u does not exist here, only S5 (%u)", type,
			LAYOUT_SLEEP_TYPE_S5);
}

static void write_control(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *pm = opaque;
	const uint32_t mask = (uint32_t)((1ULL << (8 * size)) - 1) << (8 * offset);
	const uint32_t bits = (uint32_t)value << (8 * offset) & mask;
	unsigned type;

	pthread_mutex_lock(&pm->lock);
	pm->control_kept = (uint16_t)((pm->control_kept & ~mask) | bits) & CONTROL_KEPT;
	type = pm->control_kept >> CONTROL_SLP_TYP & 7;
	pthread_mutex_unlock(&pm->lock);
	if (bits & CONTROL_SLP_EN)
		sleep_state(pm, type);
}

static uint64_t read_timer(void *opaque, uint64_t offset, unsigned size)
{
	const struct acpi_pm *pm = opaque;
	const uint64_t ns = clock_ns() - pm->timer_start_ns;
	/* In two steps, because the product of a long time overflows. */
	const uint64_t ticks =
		ns / 1000000000ULL * PM_TIMER_HZ + ns % 1000000000ULL * PM_TIMER_HZ / 1000000000ULL;

	return (uint32_t)ticks >> (8 * offset);
}

static uint64_t read_gpe(void *opaque, uint64_t offset, unsigned size)
{
	return 0;
}

static uint64_t read_reset(void *opaque, uint64_t offset, unsigned size)
{
	struct acpi_pm *pm = opaque;
	uint64_t value;

	pthread_mutex_lock(&pm->lock);
	value = pm->reset_kept;
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void write_reset(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *pm = opaque;

	pthread_mutex_lock(&pm->lock);
	pm->reset_kept = value & RESET_KEPT;
	pthread_mutex_unlock(&pm->lock);
	if (value & RESET_CPU)
		pm->events->reset(pm->opaque);
}

static void write_nothing(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
}

static const struct bus_ops event_ops = {.read = read_event, .write = write_event};
static const struct bus_ops control_ops = {.read = read_control, .write = write_control};
static const struct bus_ops timer_ops = {.read = read_timer, .write = write_nothing};
static const struct bus_ops gpe_ops = {.read = read_gpe, .write = write_nothing};
static const struct bus_ops reset_ops = {.read = read_reset, .write = write_reset};

bool acpi_pm_power_button(struct device *device)
{
	struct acpi_pm *pm = pm_of(device);
	bool enabled;

	pthread_mutex_lock(&pm->lock);
	enabled = pm->enable & PM1_POWERBUTTON;
	if (enabled) {
		pm->status |= PM1_POWERBUTTON;
		pm->buttons++;
		update_sci(pm);
	}
	pthread_mutex_unlock(&pm->lock);
	return enabled;
}

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	struct acpi_pm *pm = pm_of(device);
	const struct {
		struct bus_range *range;
		uint64_t port, length;
	} ranges[] = {
		{&pm->event, LAYOUT_PM_EVENT, 4},
		{&pm->control, LAYOUT_PM_CONTROL, 2},
		{&pm->timer, LAYOUT_PM_TIMER, 4},
		{&pm->gpe, LAYOUT_GPE0, 4},
		{&pm->reset, LAYOUT_RESET_PORT, 1},
	};

	pm->host = place->host;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		int ret = bus_map(place->ports, ranges[i].range, ranges[i].port, ranges[i].length);

		if (ret < 0)
			return error_errno(err, -ret, "ACPI: %s", ranges[i].range->name);
	}
	return 0;
}

static void reset(struct device *device)
{
	struct acpi_pm *pm = pm_of(device);

	pthread_mutex_lock(&pm->lock);
	pm->status = pm->enable = pm->control_kept = 0;
	pm->reset_kept = 0;
	pm->timer_start_ns = clock_ns();
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
}

static void save(struct device *device, struct state_writer *writer)
{
	struct acpi_pm *pm = pm_of(device);

	state_put_u16(writer, pm->status);
	state_put_u16(writer, pm->enable);
	state_put_u16(writer, pm->control_kept);
	state_put_u64(writer, clock_ns() - pm->timer_start_ns);
}

static int restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct acpi_pm *pm = pm_of(device);

	pm->status = state_get_u16(reader) & (PM1_ENABLES | PM1_WAKE);
	pm->enable = state_get_u16(reader) & PM1_ENABLES;
	pm->control_kept = state_get_u16(reader) & CONTROL_KEPT;
	/* Unsigned and wrapping on purpose: the difference to now is what counts. */
	pm->timer_start_ns = clock_ns() - state_get_u64(reader);
	return reader->failed ? error_set(err, EINVAL, "saved ACPI registers are broken") : 0;
}

static void stats(struct device *device, struct stats_sink *sink)
{
	struct acpi_pm *pm = pm_of(device);

	pthread_mutex_lock(&pm->lock);
	sink->count(sink, NULL, "power_buttons", pm->buttons);
	pthread_mutex_unlock(&pm->lock);
}

static void pm_free(struct device *device)
{
	struct acpi_pm *pm = pm_of(device);

	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static const struct device_ops pm_ops = {
	.type = "acpi",
	.realize = realize,
	.reset = reset,
	.state_version = 1,
	.save = save,
	.restore = restore,
	.stats = stats,
	.free = pm_free,
};

static struct bus_range range(struct acpi_pm *pm, const char *name, const struct bus_ops *ops)
{
	return (struct bus_range){.name = name, .ops = ops, .device = pm};
}

int acpi_pm_new(
	struct device **device, const struct power_events *events, void *opaque, struct error *err)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return error_errno(err, ENOMEM, "ACPI");
	pm->device.ops = &pm_ops;
	snprintf(pm->device.name, sizeof(pm->device.name), "acpi0");
	pm->event = range(pm, "acpi event", &event_ops);
	pm->control = range(pm, "acpi control", &control_ops);
	pm->timer = range(pm, "acpi timer", &timer_ops);
	pm->gpe = range(pm, "acpi gpe", &gpe_ops);
	pm->reset = range(pm, "reset", &reset_ops);
	pm->events = events;
	pm->opaque = opaque;
	pm->timer_start_ns = clock_ns();
	pthread_mutex_init(&pm->lock, NULL);
	*device = &pm->device;
	return 0;
}
