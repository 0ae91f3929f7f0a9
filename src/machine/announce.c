/* SPDX-License-Identifier: Apache-2.0 */
/* A machine has come from elsewhere: switches and bridges learn from a frame of its own where its
 * addresses are now. Sent by the host, so that no driver is needed; a driver that can sends ARP and
 * neighbour advertisements besides (virtio 1.2, 5.1.6.5.4). */
#include "machine/internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define TIMES 5
/* A frame may meet a port that does not forward yet: soon, and then further apart. */
#define FIRST_NS (50 * MS_NS)
#define STEP_NS  (100 * MS_NS)

#define FRAME_SIZE 60 /* the least of Ethernet, without its checksum */

struct announcement {
	struct loop_task begin;
	struct loop_timer timer;
	struct loop *io;
	struct net *net;
	const uint8_t *mac;
	unsigned sent;
};

/* RFC 903: a station asks for its own address, which nobody has to answer. */
static void fill_frame(uint8_t *frame, const uint8_t *mac)
{
	static const uint8_t kind[] = {
		0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3}; /* RARP; Ethernet, IPv4; request reverse */
	uint8_t *at = frame + NET_HEADER_SIZE;

	memset(frame, 0, NET_HEADER_SIZE + FRAME_SIZE);
	memset(at, 0xff, 6);
	memcpy(at + 6, mac, 6);
	memcpy(at + 12, kind, sizeof(kind));
	memcpy(at + 22, mac, 6);
	memcpy(at + 32, mac, 6);
}

static void announce(struct loop_timer *timer)
{
	struct announcement *announcement = container_of(timer, struct announcement, timer);
	uint8_t frame[NET_HEADER_SIZE + FRAME_SIZE];
	const struct iovec segment = {frame, sizeof(frame)};

	fill_frame(frame, announcement->mac);
	/* What is lost now is said again. */
	net_send(announcement->net, 0, &segment, 1);
	net_flush(announcement->net, 0);
	if (++announcement->sent < TIMES)
		loop_timer_after(
			announcement->io, timer, FIRST_NS + (announcement->sent - 1) * STEP_NS);
}

static void begin(struct loop_task *task)
{
	struct announcement *announcement = container_of(task, struct announcement, begin);

	announce(&announcement->timer);
}

static void prepare(struct machine *machine, unsigned index)
{
	struct announcement *announcement = &machine->announcements[index];

	*announcement = (struct announcement){.begin.run = begin,
		.timer.expired = announce,
		.io = machine->place.io,
		.net = machine->backends[index].net,
		.mac = machine->config.devices[index].net.mac.bytes};
	loop_post(machine->place.io, &announcement->begin);
}

void machine_announce(struct machine *machine)
{
	for (struct device *device = machine->devices; device; device = device->next)
		if (strcmp(device->ops->type, "virtio-net") == 0)
			virtio_net_announce(device);
	if (machine->announcements)
		return;
	machine->announcements =
		calloc(machine->config.device_count + 1, sizeof(*machine->announcements));
	for (unsigned i = 0; machine->announcements && i < machine->config.device_count; i++)
		if (machine->backends[i].net)
			prepare(machine, i);
}

void machine_free_announcements(struct machine *machine)
{
	for (unsigned i = 0; machine->announcements && i < machine->config.device_count; i++) {
		loop_timer_stop(&machine->announcements[i].timer);
		if (machine->announcements[i].net)
			loop_unpost(machine->place.io, &machine->announcements[i].begin);
	}
	free(machine->announcements);
	machine->announcements = NULL;
}
