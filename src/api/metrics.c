/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics are by device and queue and count from the beginning; Firecracker's metrics are by
 * kind of device and count from line to line. Sums are made first, and what was told is taken from
 * them.
 */
#include "api/metrics.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

enum queues {
	QUEUES_ALL,
	QUEUES_EVEN, /* a network's: to the guest */
	QUEUES_ODD,
	NO_QUEUE, /* the device's own */
	POLICY,   /* of its "policy" */
};

static const struct source {
	const char *type; /* of the device */
	const char *group;
	const char *from;
	const char *name;
	enum queues queues;
	bool each; /* there is also a group for each device */
} sources[] = {
	{"virtio-block", "block", "reads", "read_count", QUEUES_ALL, true},
	{"virtio-block", "block", "writes", "write_count", QUEUES_ALL, true},
	{"virtio-block", "block", "flushes", "flush_count", QUEUES_ALL, true},
	{"virtio-block", "block", "bytes_read", "read_bytes", QUEUES_ALL, true},
	{"virtio-block", "block", "bytes_written", "write_bytes", QUEUES_ALL, true},
	{"virtio-block", "block", "errors", "execute_fails", QUEUES_ALL, true},
	{"virtio-block", "block", "kicks", "queue_event_count", QUEUES_ALL, true},
	{"virtio-net", "net", "frames", "rx_packets_count", QUEUES_EVEN, true},
	{"virtio-net", "net", "bytes", "rx_bytes_count", QUEUES_EVEN, true},
	{"virtio-net", "net", "frames", "tx_packets_count", QUEUES_ODD, true},
	{"virtio-net", "net", "bytes", "tx_bytes_count", QUEUES_ODD, true},
	{"virtio-net", "net", "out_foreign_mac_packets", "tx_spoofed_mac_count", POLICY, true},
	{"virtio-entropy", "entropy", "requests", "entropy_event_count", QUEUES_ALL, false},
	{"virtio-entropy", "entropy", "bytes", "entropy_bytes", QUEUES_ALL, false},
	{"virtio-entropy", "entropy", "throttled", "entropy_rate_limiter_throttled", QUEUES_ALL,
		false},
	{"virtio-vsock", "vsock", "bytes_in", "rx_bytes_count", NO_QUEUE, false},
	{"virtio-vsock", "vsock", "bytes_out", "tx_bytes_count", NO_QUEUE, false},
	{"virtio-vsock", "vsock", "packets_in", "rx_packets_count", NO_QUEUE, false},
	{"virtio-vsock", "vsock", "packets_out", "tx_packets_count", NO_QUEUE, false},
	{"virtio-vsock", "vsock", "from_guest", "conns_added", NO_QUEUE, false},
	{"virtio-vsock", "vsock", "from_host", "conns_added", NO_QUEUE, false},
};

static void add(json_t *groups, const char *group, const char *name, json_int_t value)
{
	json_t *counts = json_object_get(groups, group);

	if (!counts) {
		counts = json_object();
		json_object_set_new(groups, group, counts);
	}
	value += json_integer_value(json_object_get(counts, name));
	json_object_set_new(counts, name, json_integer(value));
}

/* False: it is not there. */
static bool take(json_int_t *sum, const json_t *counts, const char *name)
{
	const json_t *value = json_object_get(counts, name);

	*sum += json_integer_value(value);
	return value;
}

static bool take_queues(json_int_t *sum, const json_t *device, const struct source *source)
{
	json_t *queues = json_object_get(device, "queues"), *counts;
	const char *name;
	bool found = false;

	json_object_foreach(queues, name, counts)
	{
		const char last = *name ? name[strlen(name) - 1] : '0';
		const bool odd = (last - '0') & 1;

		if (source->queues == QUEUES_ALL || odd == (source->queues == QUEUES_ODD))
			found |= take(sum, counts, source->from);
	}
	return found;
}

static bool take_source(json_int_t *sum, const json_t *device, const struct source *source)
{
	if (source->queues == NO_QUEUE)
		return take(sum, device, source->from);
	if (source->queues == POLICY)
		return take(sum, json_object_get(device, "policy"), source->from);
	return take_queues(sum, device, source);
}

static void add_device(json_t *groups, const json_t *device)
{
	const char *type = json_string_value(json_object_get(device, "type"));
	const char *id = json_string_value(json_object_get(device, "name"));
	char own[128];

	for (unsigned i = 0; type && id && i < ARRAY_SIZE(sources); i++) {
		const struct source *source = &sources[i];
		json_int_t sum = 0;

		if (strcmp(source->type, type) != 0 || !take_source(&sum, device, source))
			continue;
		add(groups, source->group, source->name, sum);
		snprintf(own, sizeof(own), "%s_%s", source->group, id);
		if (source->each)
			add(groups, own, source->name, sum);
	}
}

/* A group of this module's own: "exit_io_in/rtc". A range may go with its device, and the sum of
 * all would be less than it was. */
#define RANGES "ranges"

static void add_range(json_t *groups, const char *count, const char *range, const json_t *value)
{
	char name[128];

	snprintf(name, sizeof(name), "%s/%s", count, range);
	add(groups, RANGES, name, json_integer_value(value));
}

/* Accesses to what devices have at ports and addresses, each of which is an exit. */
static void add_ranges(json_t *groups, const json_t *stats)
{
	json_t *ranges = json_object_get(json_object_get(stats, "exits"), "by_device"), *range;
	const char *name;

	json_object_foreach(ranges, name, range)
	{
		const char *bus = json_string_value(json_object_get(range, "bus"));
		const bool port = bus && strcmp(bus, "port") == 0;

		add_range(groups, port ? "exit_io_in" : "exit_mmio_read", name,
			json_object_get(range, "reads"));
		add_range(groups, port ? "exit_io_out" : "exit_mmio_write", name,
			json_object_get(range, "writes"));
	}
}

/* What came to all of them. */
static void sum_ranges(json_t *result)
{
	json_t *counts = json_object_get(result, RANGES), *value;
	const char *name;

	json_object_foreach(counts, name, value)
	{
		char count[32];

		snprintf(count, sizeof(count), "%.*s", (int)strcspn(name, "/"), name);
		add(result, "vcpu", count, json_integer_value(value));
	}
	json_object_del(result, RANGES);
}

/* A number that is smaller than it was is another machine's. */
static json_t *since(json_t *groups, const json_t *told)
{
	json_t *result = json_object(), *counts, *value;
	const char *group, *name;

	json_object_foreach(groups, group, counts)
	{
		const json_t *before = json_object_get(told, group);

		json_object_foreach(counts, name, value)
		{
			json_int_t now = json_integer_value(value);
			json_int_t then = json_integer_value(json_object_get(before, name));

			add(result, group, name, now >= then ? now - then : now);
		}
	}
	return result;
}

json_t *metrics_of(const json_t *stats, json_t **told)
{
	json_t *groups = json_object(), *result;
	const json_t *device;
	size_t index;

	json_array_foreach(json_object_get(stats, "devices"), index, device)
		add_device(groups, device);
	add_ranges(groups, stats);
	/* One that is away may come back, with what it had counted. */
	json_object_update_missing(json_object_get(groups, RANGES), json_object_get(*told, RANGES));
	result = since(groups, *told);
	sum_ranges(result);
	json_decref(*told);
	*told = groups;
	return result;
}
