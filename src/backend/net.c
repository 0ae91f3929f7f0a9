/* SPDX-License-Identifier: Apache-2.0 */
/* What all network back ends have in common: the watches on their descriptors, and frames. */
#include "backend/net_private.h"
#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>

static void watch_on(
	struct net_watch *watch, uint32_t events, void (*ready)(struct loop_watch *, uint32_t))
{
	watch->wanted = true;
	if (watch->state != NET_WATCH_OFF || watch->net->gone || !watch->net->loop ||
		watch->net->detaching)
		return;
	watch->state = NET_WATCH_ON;
	loop_watch(watch->net->loop, &watch->watch, watch->net->queues[watch->queue].fd, events,
		ready);
}

static void watch_removed(struct loop_watch *loop_watch);

static void watch_off(struct net_watch *watch)
{
	watch->wanted = false;
	if (watch->state != NET_WATCH_ON)
		return;
	watch->state = NET_WATCH_LEAVING;
	loop_unwatch(&watch->watch, watch_removed);
}

static void readable(struct loop_watch *loop_watch, uint32_t events)
{
	struct net_watch *watch = container_of(loop_watch, struct net_watch, watch);

	if (watch->wanted)
		watch->net->events->readable(watch->net->opaque, watch->queue);
	else
		watch_off(watch);
}

static void writable(struct loop_watch *loop_watch, uint32_t events)
{
	struct net_watch *watch = container_of(loop_watch, struct net_watch, watch);
	struct net *net = watch->net;

	if (!watch->wanted) {
		watch_off(watch);
		return;
	}
	watch->wanted = false;
	net_flush(net, watch->queue);
	if (!watch->wanted)
		net->events->writable(net->opaque, watch->queue);
}

static bool watched(const struct net *net)
{
	for (unsigned i = 0; i < net->queues_count; i++)
		if (net->queues[i].in.state != NET_WATCH_OFF ||
			net->queues[i].out.state != NET_WATCH_OFF)
			return true;
	return false;
}

static void finish_detach(struct net *net)
{
	void (*detached)(void *) = net->detached;

	if (!net->detaching || watched(net))
		return;
	net->detaching = false;
	net->loop = NULL;
	net->detached = NULL;
	detached(net->opaque);
}

static void watch_removed(struct loop_watch *loop_watch)
{
	struct net_watch *watch = container_of(loop_watch, struct net_watch, watch);
	struct net_queue *queue = &watch->net->queues[watch->queue];

	watch->state = NET_WATCH_OFF;
	if (watch->net->detaching)
		finish_detach(watch->net);
	else if (watch->wanted && watch == &queue->in)
		watch_on(watch, POLLIN, readable);
	else if (watch->wanted)
		watch_on(watch, POLLOUT, writable);
}

void net_attach(struct net *net, struct loop *loop, const struct net_events *events, void *opaque)
{
	net->loop = loop;
	net->events = events;
	net->opaque = opaque;
}

void net_detach(struct net *net, void (*detached)(void *opaque))
{
	net->detached = detached;
	if (net->gate)
		net_gate_rest(net);
	/* Only from here on: a watch that is not armed is let go of at once, and the last one
	 * must not report before all have been asked. */
	for (unsigned i = 0; i < net->queues_count; i++) {
		watch_off(&net->queues[i].in);
		watch_off(&net->queues[i].out);
	}
	net->detaching = true;
	finish_detach(net);
}

unsigned net_offloads(const struct net *net)
{
	return net->offloads;
}

void net_set_offloads(struct net *net, unsigned offloads)
{
	net->ops->set_offloads(net, offloads & net->offloads);
}

unsigned net_queues(const struct net *net)
{
	return net->queues_count;
}

void net_set_queues(struct net *net, unsigned count)
{
	if (count < 1 || count > net->queues_count)
		return;
	net->ops->set_queues(net, count);
	net->active = count;
}

unsigned net_queues_on(const struct net *net)
{
	return net->active;
}

int net_fd(const struct net *net, unsigned queue)
{
	return net->is_tap && queue < net->queues_count ? net->queues[queue].fd : -1;
}

bool net_is_gone(const struct net *net)
{
	return net->gone;
}

int net_set_gone(struct net *net, const char *why)
{
	if (net->gone)
		return -EPIPE;
	net->gone = true;
	log_warning("--net: %s; the guest's link is down", why);
	for (unsigned i = 0; i < net->queues_count; i++) {
		watch_off(&net->queues[i].in);
		watch_off(&net->queues[i].out);
	}
	if (net->loop)
		net->events->gone(net->opaque);
	return -EPIPE;
}

static void await_room(struct net *net, unsigned queue)
{
	if (!net->gate || !net_gate_holds(net, queue))
		watch_on(&net->queues[queue].out, POLLOUT, writable);
}

int net_send(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	int ret;

	if (net->gone)
		return -EPIPE;
	if (queue >= net->active)
		return -ENXIO;
	ret = net->ops->send(net, queue, segments, count);
	if (ret == -EAGAIN)
		await_room(net, queue);
	return ret;
}

void net_flush(struct net *net, unsigned queue)
{
	if (!net->ops->flush || net->gone || queue >= net->active)
		return;
	if (net->ops->flush(net, queue) == -EAGAIN)
		watch_on(&net->queues[queue].out, POLLOUT, writable);
}

int net_next_length(struct net *net, unsigned queue)
{
	if (net->gone || queue >= net->active)
		return -EAGAIN;
	return net->ops->next_length ? net->ops->next_length(net, queue) : 0;
}

int net_receive(struct net *net, unsigned queue, const struct iovec *segments, unsigned count)
{
	if (net->gone)
		return -EPIPE;
	if (queue >= net->active)
		return -EAGAIN;
	return net->ops->receive(net, queue, segments, count);
}

void net_receive_enable(struct net *net, unsigned queue, bool enable)
{
	if (queue >= net->queues_count)
		return;
	if (enable)
		watch_on(&net->queues[queue].in, POLLIN, readable);
	else
		net->queues[queue].in.wanted = false;
}
