/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, by vCPU and cause, by device and queue. */
#include "base/checked.h"
#include "base/clock.h"
#include "machine/internal.h"
#include "x86/cpu.h"

#include <jansson.h>
#include <string.h>

#define KVM_STATS_MAX 128

struct json_sink {
	struct stats_sink sink;
	json_t *device;
};

/* The object @name in @parent, made at its first use. */
static json_t *member_of(json_t *parent, const char *name)
{
	json_t *found = json_object_get(parent, name);

	if (!found) {
		found = json_object();
		if (json_object_set_new(parent, name, found) < 0)
			return NULL;
	}
	return found;
}

/* The object for @group in @device; those of queues ("queue0") are together in "queues". */
static json_t *group_of(json_t *device, const char *group)
{
	if (!group)
		return device;
	if (strncmp(group, "queue", strlen("queue")) == 0)
		device = member_of(device, "queues");
	return member_of(device, group);
}

static void sink_count(struct stats_sink *sink, const char *group, const char *name, uint64_t value)
{
	struct json_sink *json = (struct json_sink *)sink;

	json_object_set_new(group_of(json->device, group), name, json_integer((json_int_t)value));
}

static void sink_text(
	struct stats_sink *sink, const char *group, const char *name, const char *value)
{
	struct json_sink *json = (struct json_sink *)sink;

	json_object_set_new(group_of(json->device, group), name, json_string(value));
}

static json_t *device_stats(struct device *device)
{
	json_t *object = json_pack("{s:s, s:s}", "name", device->name, "type", device->ops->type);
	struct json_sink sink = {
		.sink = {.count = sink_count, .text = sink_text}, .device = object};

	if (device->ops->stats)
		device->ops->stats(device, &sink.sink);
	return object;
}

static json_t *devices_stats(struct machine *machine)
{
	json_t *array = json_array();

	for (struct device *device = machine->devices; device; device = device->next)
		json_array_append_new(array, device_stats(device));
	return array;
}

static json_t *causes(const uint64_t exits[EXIT_CAUSES])
{
	json_t *object = json_object();
	uint64_t total = 0;

	for (unsigned cause = 0; cause < EXIT_CAUSES; cause++) {
		json_object_set_new(
			object, kvm_exit_names[cause], json_integer((json_int_t)exits[cause]));
		total += exits[cause];
	}
	json_object_set_new(object, "total", json_integer((json_int_t)total));
	return object;
}

/* What KVM itself counted, the exits that never left the kernel among it. */
static json_t *kernel_stats(const struct machine_vcpu *vcpu)
{
	struct kvm_stat stats[KVM_STATS_MAX];
	int count = kvm_vcpu_stats(vcpu->kvm, stats, KVM_STATS_MAX);
	json_t *object = json_object();

	for (int i = 0; i < count; i++)
		json_object_set_new(
			object, stats[i].name, json_integer((json_int_t)stats[i].value));
	return object;
}

static json_t *vcpus_stats(const struct machine *machine, uint64_t sum[EXIT_CAUSES])
{
	json_t *array = json_array();

	for (unsigned i = 0; i < machine->config.cpus; i++) {
		const struct machine_vcpu *vcpu = &machine->vcpus[i];
		uint64_t exits[EXIT_CAUSES];

		for (unsigned cause = 0; cause < EXIT_CAUSES; cause++) {
			exits[cause] = kvm_vcpu_exits(vcpu->kvm, (enum kvm_exit_cause)cause);
			sum[cause] += exits[cause];
		}
		json_array_append_new(array,
			json_pack("{s:i, s:o, s:I, s:I, s:i, s:o}", "index", (int)i, "exits",
				causes(exits), "loans", (json_int_t)atomic_load(&vcpu->boost.loans),
				"pages_written", (json_int_t)kvm_vcpu_dirtied(vcpu->kvm),
				"held_percent", (int)machine->throttle.percent[i], "kvm",
				kernel_stats(vcpu)));
	}
	return array;
}

struct range_visit {
	json_t *by_device;
	const char *kind;
};

static void visit_range(const struct bus_range *range, void *opaque)
{
	struct range_visit *visit = opaque;
	uint64_t reads = atomic_load_explicit(&range->reads, memory_order_relaxed);
	uint64_t writes = atomic_load_explicit(&range->writes, memory_order_relaxed);
	json_t *entry = json_object_get(visit->by_device, range->name);

	if (reads + writes == 0)
		return;
	/* A device may own several ranges of one name. */
	if (entry) {
		reads += (uint64_t)json_integer_value(json_object_get(entry, "reads"));
		writes += (uint64_t)json_integer_value(json_object_get(entry, "writes"));
	}
	json_object_set_new(visit->by_device, range->name,
		json_pack("{s:s, s:I, s:I}", "bus", visit->kind, "reads", (json_int_t)reads,
			"writes", (json_int_t)writes));
}

static json_t *exits_stats(struct machine *machine, const uint64_t sum[EXIT_CAUSES])
{
	json_t *by_device = json_object();
	struct range_visit ports = {.by_device = by_device, .kind = "port"};
	struct range_visit mmio = {.by_device = by_device, .kind = "mmio"};

	bus_each(machine->ports, visit_range, &ports);
	bus_each(machine->mmio, visit_range, &mmio);
	return json_pack("{s:o, s:o, s:{s:I, s:I}}", "by_cause", causes(sum), "by_device",
		by_device, "unclaimed", "port", (json_int_t)bus_unclaimed(machine->ports), "mmio",
		(json_int_t)bus_unclaimed(machine->mmio));
}

static const char *const state_names[] = {
	[MACHINE_CONFIGURED] = "configured",
	[MACHINE_BUILT] = "built",
	[MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused",
	[MACHINE_ENDED] = "ended",
};

static json_t *own_stats(const struct machine *machine)
{
	uint64_t us = (clock_ns() - machine->created) / 1000;
	char pv[96];

	return json_pack("{s:s, s:I, s:i, s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:I}", "state",
		state_names[machine->life.state], "resets", (json_int_t)machine->life.resets,
		"cpus", (int)machine->config.cpus, "pv",
		pv_format(machine->config.pv, pv, sizeof(pv)), "irqchip",
		machine->config.irqchip == KVM_VM_IRQCHIP_SPLIT ? "split" : "kernel",
		"kernel_format", machine->entry.format ? machine->entry.format : "",
		"kernel_compression", machine->entry.compression ? machine->entry.compression : "",
		"kernel_from_cache", machine->entry.from_cache, "kernel_randomised",
		machine->entry.randomised, "uptime_us", (json_int_t)us, "pages_arriving",
		(json_int_t)memory_arriving(&machine->memory));
}

static void add_counts(json_t *sum, json_t *counts)
{
	const char *name;
	json_t *value;

	json_object_foreach(counts, name, value)
	{
		json_int_t before = json_integer_value(json_object_get(sum, name));

		json_object_set_new(sum, name, json_integer(before + json_integer_value(value)));
	}
}

/* What the policies of all networks passed and refused; null: there are none. */
static json_t *policy_stats(json_t *devices)
{
	json_t *sum = NULL, *device;
	size_t index;

	json_array_foreach(devices, index, device)
	{
		json_t *counts = json_object_get(device, "policy");

		if (counts && !sum)
			sum = json_object();
		if (counts)
			add_counts(sum, counts);
	}
	return sum;
}

json_t *machine_stats(struct machine *machine)
{
	uint64_t sum[EXIT_CAUSES] = {0};
	json_t *vcpus = vcpus_stats(machine, sum), *devices = devices_stats(machine);
	json_t *stats = json_pack("{s:s, s:o, s:o, s:o, s:o*}", "duet", DUET_VERSION, "machine",
		own_stats(machine), "vcpus", vcpus, "exits", exits_stats(machine, sum), "policy",
		policy_stats(devices));

	json_object_set_new(stats, "devices", devices);
	return stats;
}
