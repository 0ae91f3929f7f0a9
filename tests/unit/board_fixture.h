/* SPDX-License-Identifier: Apache-2.0 */
/* Buses and a host in memory, for tests and fuzzers of the board's devices. */
#ifndef DUET_TESTS_BOARD_FIXTURE_H
#define DUET_TESTS_BOARD_FIXTURE_H

#include "base/checked.h"
#include "bus/device.h"
#include "emulated/board.h"
#include "x86/layout.h"

#include <stdlib.h>
#include <string.h>

struct board_fixture {
	struct bus_host host; /* first */
	struct device_place place;
	uint32_t lines;     /* level of each GSI */
	unsigned rises[32]; /* how often each GSI went up */
	unsigned power_offs, resets;
};

static void fixture_set_line(struct bus_host *host, unsigned gsi, bool level)
{
	struct board_fixture *fixture = container_of(host, struct board_fixture, host);

	fixture->rises[gsi % 32] += level && !(fixture->lines >> gsi % 32 & 1);
	fixture->lines = (fixture->lines & ~(1U << gsi % 32)) | (uint32_t)level << gsi % 32;
}

static void fixture_power_off(void *opaque)
{
	((struct board_fixture *)opaque)->power_offs++;
}

static void fixture_reset(void *opaque)
{
	((struct board_fixture *)opaque)->resets++;
}

static const struct bus_host_ops fixture_host_ops = {.set_line = fixture_set_line};
static const struct power_events fixture_events
	__attribute__((unused)) = {.power_off = fixture_power_off, .reset = fixture_reset};

static inline void fixture_open(struct board_fixture *fixture)
{
	memset(fixture, 0, sizeof(*fixture));
	fixture->host.ops = &fixture_host_ops;
	fixture->place.host = &fixture->host;
	bus_new(&fixture->place.ports, "ports");
	bus_new(&fixture->place.mmio, "mmio");
}

static inline void fixture_close(struct board_fixture *fixture)
{
	bus_free(fixture->place.ports);
	bus_free(fixture->place.mmio);
}

static inline uint64_t fixture_in(struct board_fixture *fixture, uint64_t port, unsigned size)
{
	uint64_t value;

	bus_read(fixture->place.ports, port, size, &value);
	return value;
}

static inline void fixture_out(
	struct board_fixture *fixture, uint64_t port, unsigned size, uint64_t value)
{
	bus_write(fixture->place.ports, port, size, value);
}

/* Saves @from and restores it into @to; what restore() said. */
static inline int fixture_move(struct device *from, struct device *to)
{
	struct state_writer writer;
	struct state_reader reader;
	int ret;

	state_writer_init(&writer);
	state_section_begin(&writer, from->ops->type, from->ops->state_version);
	from->ops->save(from, &writer);
	state_section_close(&writer);
	ret = state_writer_finish(&writer);
	if (ret == 0)
		ret = state_reader_init(&reader, writer.bytes, writer.length, NULL);
	if (ret == 0)
		ret = state_section_next(&reader, NULL) == 1 ? 0 : -1;
	if (ret == 0)
		ret = to->ops->restore(to, &reader, NULL);
	if (ret == 0)
		ret = state_section_end(&reader, NULL);
	state_writer_free(&writer);
	return ret;
}

#endif
