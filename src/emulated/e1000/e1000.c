/* SPDX-License-Identifier: Apache-2.0 */
/* The device's life: on the PCI bus, on the I/O loop, and off again. */
#include "emulated/e1000/private.h"
#include "pci/registers.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAME_ROOM (NET_FRAME_MAX + 64) /* padding and FCS behind the longest */
/* The main thread's, for the lock: a busy host's turn, and little for whoever asks. */
#define STATS_WAIT_NS (50 * (long)MS_NS)

static struct e1000 *e1000_of(struct device *device)
{
	return container_of(device, struct e1000, function.device);
}

void e1000_dma_error(struct e1000 *e, const char *what)
{
	e->counts.dma_errors++;
	log_guest(&e->guest_log, e->function.device.name, "%s is not memory", what);
}

void e1000_reset(struct e1000 *e)
{
	e1000_registers_init(e);
	e->generation++;
	e->receive.held = 0;
	e1000_interrupt_reset(e);
}

void e1000_follow_config(struct e1000 *e)
{
	e->master = load_le16(e->function.config + PCI_REG_COMMAND) & PCI_CMD_MASTER;
	if (e->master)
		e1000_post(e, E1000_WORK_RECEIVE | E1000_WORK_TRANSMIT);
}

void e1000_post(struct e1000 *e, unsigned work)
{
	e->work_bits |= work;
	if (e->posted || !e->running)
		return;
	e->posted = true;
	loop_post(e->io, &e->work);
}

/* On the I/O loop: tells whoever waits for it that the device is at rest. */
static void settle(struct e1000 *e)
{
	unsigned asking = 0;

	pthread_mutex_lock(&e->lock);
	pthread_mutex_lock(&e->wish_lock);
	if (!e->wanted && !e->attached && !e->posted && !e->following) {
		asking = e->asking;
		e->asking = 0;
	}
	pthread_mutex_unlock(&e->wish_lock);
	pthread_mutex_unlock(&e->lock);
	if (asking)
		device_at_rest(&e->function.device, asking);
}

static void do_work(struct loop_task *task)
{
	struct e1000 *e = container_of(task, struct e1000, work);
	unsigned bits;

	/* Whoever is second may find the turn over. */
	e->transmit_first = !e->transmit_first;
	pthread_mutex_lock(&e->lock);
	bits = e->running ? e->work_bits : 0;
	e->work_bits = 0;
	e->posted = false;
	if (bits & E1000_WORK_TIMER)
		e1000_timer_arm(e);
	pthread_mutex_unlock(&e->lock);
	if ((bits & E1000_WORK_TRANSMIT) && e->transmit_first)
		e1000_transmit(e);
	if (bits & E1000_WORK_RECEIVE)
		e1000_receive(e);
	if ((bits & E1000_WORK_TRANSMIT) && !e->transmit_first)
		e1000_transmit(e);
	settle(e);
}

static void readable(void *opaque, unsigned queue)
{
	(void)queue;
	e1000_receive(opaque);
}

static void writable(void *opaque, unsigned queue)
{
	(void)queue;
	e1000_transmit(opaque);
}

static void gone(void *opaque)
{
	struct e1000 *e = opaque;

	pthread_mutex_lock(&e->lock);
	e->gone = true;
	e->phy_lost = true;
	e1000_cause(e, ICR_LSC);
	e1000_timer_request(e);
	pthread_mutex_unlock(&e->lock);
}

static const struct net_events events = {.readable = readable, .writable = writable, .gone = gone};

static void attach(struct e1000 *e)
{
	net_attach(e->net, e->io, &events, e);
	/* What comes is whole and has its checksums, as it does on a wire. */
	net_set_offloads(e->net, 0);
	pthread_mutex_lock(&e->lock);
	e->attached = e->running = true;
	if (!e->gone && net_is_gone(e->net)) {
		e->gone = e->phy_lost = true;
		e1000_cause(e, ICR_LSC);
	}
	e1000_interrupt_update(e);
	e1000_timer_arm(e);
	pthread_mutex_unlock(&e->lock);
	e1000_transmit(e);
	e1000_receive(e);
}

/* It may have been wanted again in the meantime. */
static void detached(void *opaque)
{
	struct e1000 *e = opaque;
	bool again;

	pthread_mutex_lock(&e->lock);
	e->attached = false;
	pthread_mutex_unlock(&e->lock);
	pthread_mutex_lock(&e->wish_lock);
	again = e->wanted;
	pthread_mutex_unlock(&e->wish_lock);
	if (again)
		attach(e);
	else
		settle(e);
}

static void detach(struct e1000 *e)
{
	pthread_mutex_lock(&e->lock);
	e->running = false;
	e1000_timer_stop(e);
	pthread_mutex_unlock(&e->lock);
	net_detach(e->net, detached);
}

/* On the I/O loop: the next step towards what is wanted. */
static void follow(struct loop_task *task)
{
	struct e1000 *e = container_of(task, struct e1000, life);
	bool wanted, attached, running;

	pthread_mutex_lock(&e->wish_lock);
	e->following = false;
	wanted = e->wanted;
	pthread_mutex_unlock(&e->wish_lock);
	pthread_mutex_lock(&e->lock);
	attached = e->attached;
	running = e->running;
	pthread_mutex_unlock(&e->lock);
	if (wanted && !attached)
		attach(e);
	/* Who is told of rest may free the device: what detached() says is the last word. */
	if (!wanted && running)
		detach(e);
	else
		settle(e);
}

/* @asking: 0 when it is wanted. */
static void want(struct e1000 *e, bool wanted, unsigned asking)
{
	bool post;

	pthread_mutex_lock(&e->wish_lock);
	e->wanted = wanted;
	e->asking = asking;
	post = !e->following;
	e->following = true;
	pthread_mutex_unlock(&e->wish_lock);
	if (post)
		loop_post(e->io, &e->life);
}

static int start(struct device *device, struct error *err)
{
	(void)err;
	want(e1000_of(device), true, 0);
	return 0;
}

static void quiesce(struct device *device, unsigned asking, bool drop)
{
	want(e1000_of(device), false, asking);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	struct e1000 *e = container_of(function, struct e1000, function);

	if (offset > PCI_REG_COMMAND || offset + size <= PCI_REG_COMMAND)
		return;
	pthread_mutex_lock(&e->lock);
	e1000_follow_config(e);
	pthread_mutex_unlock(&e->lock);
}

static const struct pci_function_ops pci_ops = {.config_written = config_written};

static int realize(struct device *device, const struct device_place *place, struct error *err)
{
	static const struct pci_ids ids = {.vendor = 0x8086,
		.device = 0x100e,
		.subsystem_vendor = 0x8086,
		.subsystem = 0x001e,
		.class_code = 0x020000,
		.revision = 2,
		.intx = true};
	struct e1000 *e = e1000_of(device);

	if (!place->pci)
		return error_set(err, ENODEV, "%s: model=e1000 needs PCI", device->name);
	e->memory = place->memory;
	e->io = place->io;
	e->function.pci_ops = &pci_ops;
	pci_init(&e->function, &ids);
	pci_describe_bar(&e->function, 0, PCI_BAR_MEMORY32, E1000_BAR_SIZE, &e1000_memory_ops, e,
		e->memory_name);
	pci_describe_bar(
		&e->function, 1, PCI_BAR_PORT, E1000_IO_SIZE, &e1000_io_ops, e, e->io_name);
	return pci_add(place->pci, &e->function, err);
}

static void reset(struct device *device)
{
	struct e1000 *e = e1000_of(device);

	pthread_mutex_lock(&e->lock);
	e1000_phy_reset(e);
	e1000_reset(e);
	e->io_address = 0;
	e->master = false;
	pthread_mutex_unlock(&e->lock);
	pci_reset(&e->function);
}

/* Of the policy, as the back end tells it. */
static void count_policy(void *to, const char *group, const char *name, uint64_t value)
{
	struct stats_sink *sink = to;

	sink->count(sink, group, name, value);
}

/* While the I/O loop waits for a page of the guest's, they are left out. */
static bool lock_for_stats(struct e1000 *e)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STATS_WAIT_NS;
	if (until.tv_nsec >= (long)SECOND_NS) {
		until.tv_nsec -= (long)SECOND_NS;
		until.tv_sec++;
	}
	return pthread_mutex_timedlock(&e->lock, &until) == 0;
}

static void own_stats(struct e1000 *e, struct stats_sink *sink)
{
	if (!lock_for_stats(e))
		return;
	sink->count(sink, NULL, "frames_received", e->counts.frames_received);
	sink->count(sink, NULL, "bytes_received", e->counts.bytes_received);
	sink->count(sink, NULL, "frames_sent", e->counts.frames_sent);
	sink->count(sink, NULL, "bytes_sent", e->counts.bytes_sent);
	sink->count(sink, NULL, "dropped", e->counts.dropped);
	sink->count(sink, NULL, "filtered", e->counts.filtered);
	sink->count(sink, NULL, "dma_errors", e->counts.dma_errors);
	sink->count(sink, NULL, "interrupts", e->counts.interrupts);
	sink->count(sink, NULL, "throttle", e1000_get(e, E1000_ITR));
	sink->count(sink, NULL, "link_up", e1000_link_up(e));
	e1000_registers_stats(e, sink);
	pthread_mutex_unlock(&e->lock);
}

static void stats(struct device *device, struct stats_sink *sink)
{
	struct e1000 *e = e1000_of(device);

	own_stats(e, sink);
	net_policy_stats(e->net, count_policy, sink);
}

static void e1000_free(struct device *device)
{
	struct e1000 *e = e1000_of(device);

	pci_remove(&e->function);
	net_close(e->net);
	pthread_mutex_destroy(&e->wish_lock);
	pthread_mutex_destroy(&e->lock);
	free(e->transmit.frame);
	free(e->transmit.segment);
	free(e->receive.frame);
	free(e);
}

static const struct device_ops e1000_ops = {
	.type = "e1000",
	.realize = realize,
	.reset = reset,
	.start = start,
	.quiesce = quiesce,
	.state_version = 1,
	.save = e1000_save,
	.restore = e1000_restore,
	.stats = stats,
	.free = e1000_free,
};

int e1000_new(struct device **device, const char *name, const struct e1000_options *options,
	struct error *err)
{
	struct e1000 *e = calloc(1, sizeof(*e));

	if (!e) {
		net_close(options->net);
		return error_errno(err, ENOMEM, "--net");
	}
	e->function.device.ops = &e1000_ops;
	snprintf(e->function.device.name, sizeof(e->function.device.name), "%s", name);
	snprintf(e->memory_name, sizeof(e->memory_name), "%s registers", name);
	snprintf(e->io_name, sizeof(e->io_name), "%s ports", name);
	e->net = options->net;
	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->wish_lock, NULL);
	e->work.run = do_work;
	e->life.run = follow;
	e1000_timer_init(e);
	e1000_eeprom_init(&e->eeprom, options->mac);
	e1000_phy_reset(e);
	e1000_reset(e);
	/* Touched, and so resident, only as far as frames are long. */
	e->transmit.frame = malloc(FRAME_ROOM);
	e->transmit.segment = malloc(FRAME_ROOM);
	e->receive.frame = malloc(FRAME_ROOM);
	if (!e->transmit.frame || !e->transmit.segment || !e->receive.frame) {
		e1000_free(&e->function.device);
		return error_errno(err, ENOMEM, "--net");
	}
	*device = &e->function.device;
	return 0;
}
