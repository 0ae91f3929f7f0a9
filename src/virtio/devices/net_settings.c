/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the driver chose by commands, and how the back end follows.
 *
 * A tap changes its queues and offloads under the host's RTNL lock, and lets a queue go only when
 * all CPUs are done with it: milliseconds each, in which this thread serves nobody. So a command
 * only notes what is wanted. The back end takes one step at a time towards what was wanted last,
 * and rests after each for three times as long as it took: however often a driver changes its mind,
 * others have three quarters of the thread.
 */
#include "virtio/devices/net_private.h"

#include "base/clock.h"

#include <linux/if_tun.h>

#define REST 3 /* times a step's length */

static unsigned wanted_offloads(const struct nic *nic)
{
	static const struct {
		unsigned feature, tun;
	} map[] = {
		{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
		{VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	};
	uint64_t taken = nic->guest_offloads_set ? nic->guest_offloads : nic->virtio.negotiated;
	unsigned offloads = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(map); i++)
		if (taken >> map[i].feature & 1)
			offloads |= map[i].tun;
	/* 5.1.3.1: congestion marks need segmentation, segmentation the checksum offload. A tap
	 * takes all of what it is told or nothing, and then would go on as before. */
	if (!(offloads & (TUN_F_TSO4 | TUN_F_TSO6)))
		offloads &= ~(unsigned)TUN_F_TSO_ECN;
	return offloads & TUN_F_CSUM ? offloads : 0;
}

bool nic_tell_offloads(struct nic *nic)
{
	unsigned offloads = wanted_offloads(nic);

	if (offloads == nic->offloads_told)
		return false;
	nic->offloads_told = offloads;
	net_set_offloads(nic->net, offloads);
	return true;
}

static void serve(struct nic_pair *pair)
{
	nic_turn(pair->nic, pair->receive);
	nic_turn(pair->nic, pair->transmit);
}

/* Of the rings that are the kernel's; false: they are as the driver wants them. */
static bool step_in_kernel(struct nic *nic)
{
	int started;

	if (nic_vhost_stop_one(nic, nic->pairs)) {
		/* The command that gives pairs up waits for the last of them. */
		if (!nic_vhost_holds(nic, nic->pairs))
			virtio_turn(&nic->virtio, &nic->virtio.queues[nic_control_index(nic)]);
		return true;
	}
	started = nic_vhost_start_one(nic);
	if (started < 0)
		virtio_needs_reset(&nic->virtio, "vhost-net refused a pair of queues");
	return started != 0;
}

/* False: the back end is where the driver wants it. */
static bool step(struct nic *nic)
{
	unsigned on = net_queues_on(nic->net);
	bool kernel = atomic_load(&nic->kernel);

	if (kernel && step_in_kernel(nic))
		return true;
	if (nic_tell_offloads(nic))
		return true;
	if (on == nic->pairs)
		return false;
	net_set_queues(nic->net, on < nic->pairs ? on + 1 : on - 1);
	if (on < nic->pairs && !kernel)
		serve(&nic->own[on]);
	return true;
}

void nic_follow(struct nic *nic)
{
	uint64_t from = clock_ns();

	if (!loop_timer_set(&nic->rest) && step(nic))
		loop_timer_after(nic->virtio.io, &nic->rest, REST * (clock_ns() - from));
}

void nic_rested(struct loop_timer *timer)
{
	nic_follow(container_of(timer, struct nic, rest));
}

/* Nothing more comes by the pairs that are given up when the driver has its answer (5.1.6.5.5.1):
 * at once, unless vhost still holds some of them. */
void nic_set_pairs(struct nic *nic, unsigned pairs)
{
	nic->pairs = pairs;
	for (unsigned i = 0; i < nic->pairs_max && !atomic_load(&nic->kernel); i++) {
		if (i >= pairs)
			net_receive_enable(nic->net, i, false);
		serve(&nic->own[i]);
	}
}
