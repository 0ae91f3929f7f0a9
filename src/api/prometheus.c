/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format wants all samples of one name together, the statistics are by device: samples are put
 * into families first and printed afterwards.
 */
#include "api/prometheus.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE   128
#define LABELS_MOST 4

struct label {
	const char *name, *value;
};

struct families {
	json_t *texts; /* by name: an array of samples' lines, in the order of their coming */
	bool failed;
};

/* Devices count what happened; these are what is. */
static const char *const gauges[] = {"group", "vectors", "intx", "mapped_bytes", "target_pages",
	"actual_pages", "link_up", "throttle"};

static const struct {
	const char *prefix, *help;
} helps[] = {
	{"duet_build_info", "The version of duet"},
	{"duet_state", "The state that the machine is in"},
	{"duet_resets_total", "Times that the guest started anew"},
	{"duet_vcpus", "Virtual CPUs"},
	{"duet_uptime_seconds", "Time since the machine was made"},
	{"duet_memory_bytes", "Memory of the guest and outside of it"},
	{"duet_log_dropped_total", "Log lines that standard error did not take"},
	{"duet_policy_total", "What the policies of all networks passed and refused"},
	{"duet_range_accesses_total", "Exits for a range of ports or addresses"},
	{"duet_unclaimed_accesses_total", "Exits for ports or addresses of no device"},
	{"duet_vcpu_exits_total", "Returns from the guest to duet by cause"},
	{"duet_vcpu_held_percent", "Of its time that a move holds a virtual CPU"},
	{"duet_vcpu_kvm", "What KVM says of a virtual CPU"},
	{"duet_vcpu_pages_written_total",
		"Pages written, as far as the log of writes tells by whom"},
	{"duet_device_queue_", "Of one queue of a device"},
	{"duet_device_detail", "Of a part of a device, by the part's name"},
	{"duet_device_", "Of a device"},
};

static void put_label(FILE *file, const struct label *label)
{
	fprintf(file, "%s=\"", label->name);
	for (const char *at = label->value; *at; at++) {
		if (*at == '\n')
			fputs("\\n", file);
		else if (*at == '"' || *at == '\\')
			fprintf(file, "\\%c", *at);
		else
			fputc(*at, file);
	}
	fputc('"', file);
}

static void put_labels(FILE *file, const struct label *labels)
{
	for (unsigned i = 0; i < LABELS_MOST && labels[i].name; i++) {
		fputc(i ? ',' : '{', file);
		put_label(file, &labels[i]);
	}
	if (labels[0].name)
		fputc('}', file);
}

/* One line; null: no memory. */
static json_t *sample(const char *name, const struct label *labels, const json_t *value)
{
	_cleanup_free_ char *text = NULL;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	if (!file)
		return NULL;
	fputs(name, file);
	put_labels(file, labels);
	if (json_is_real(value))
		fprintf(file, " %.6f\n", json_real_value(value));
	else
		fprintf(file, " %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
	return fclose(file) == 0 ? json_string(text) : NULL;
}

/* Nothing when @value is no number: a text says what a device is, not how much. */
static void add(struct families *families, const char *name, const struct label *labels,
	const json_t *value)
{
	json_t *lines = json_object_get(families->texts, name);

	if (!json_is_number(value))
		return;
	if (!lines) {
		lines = json_array();
		if (json_object_set_new(families->texts, name, lines) < 0) {
			families->failed = true;
			return;
		}
	}
	if (json_array_append_new(lines, sample(name, labels, value)) < 0)
		families->failed = true;
}

static void add_number(
	struct families *families, const char *name, const struct label *labels, json_t *number)
{
	add(families, name, labels, number);
	json_decref(number);
}

static bool is_gauge(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(gauges); i++)
		if (strcmp(name, gauges[i]) == 0)
			return true;
	return false;
}

/* The part of a name that a device gave holds what it likes. */
static void make_name(char name[NAME_SIZE], const char *prefix, const char *part)
{
	snprintf(name, NAME_SIZE - sizeof("_total"), "%s%s", prefix, part);
	for (char *at = name; *at; at++)
		if (!isalnum((unsigned char)*at))
			*at = '_';
	if (!is_gauge(part))
		strcat(name, "_total");
}

static void add_machine(struct families *families, json_t *stats)
{
	const struct label version[LABELS_MOST] = {
		{"version", json_string_value(json_object_get(stats, "duet"))}};
	json_t *machine = json_object_get(stats, "machine");
	const struct label state[LABELS_MOST] = {
		{"state", json_string_value(json_object_get(machine, "state"))}};
	static const struct label none[LABELS_MOST];
	json_t *uptime = json_object_get(machine, "uptime_us");

	if (version[0].value)
		add_number(families, "duet_build_info", version, json_integer(1));
	if (state[0].value)
		add_number(families, "duet_state", state, json_integer(1));
	add(families, "duet_resets_total", none, json_object_get(machine, "resets"));
	add(families, "duet_vcpus", none, json_object_get(machine, "cpus"));
	if (uptime)
		add_number(families, "duet_uptime_seconds", none,
			json_real((double)json_integer_value(uptime) / 1e6));
	add(families, "duet_log_dropped_total", none,
		json_object_get(json_object_get(stats, "log"), "dropped"));
}

/* Each member of @object, whose name becomes the last label. */
static void add_members(struct families *families, const char *name, const struct label *labels,
	unsigned count, const char *label, json_t *object)
{
	struct label all[LABELS_MOST] = {{0}};
	const char *key;
	json_t *value;

	for (unsigned i = 0; i < count; i++)
		all[i] = labels[i];
	json_object_foreach(object, key, value)
	{
		all[count] = (struct label){label, key};
		/* The sum of the others. */
		if (strcmp(label, "cause") != 0 || strcmp(key, "total") != 0)
			add(families, name, all, value);
	}
}

static void add_vcpus(struct families *families, json_t *vcpus)
{
	json_t *vcpu;
	size_t index;

	json_array_foreach(vcpus, index, vcpu)
	{
		char number[24];
		const struct label labels[LABELS_MOST] = {{"vcpu", number}};

		snprintf(number, sizeof(number), "%zu", index);
		add_members(families, "duet_vcpu_exits_total", labels, 1, "cause",
			json_object_get(vcpu, "exits"));
		add(families, "duet_vcpu_held_percent", labels,
			json_object_get(vcpu, "held_percent"));
		add(families, "duet_vcpu_pages_written_total", labels,
			json_object_get(vcpu, "pages_written"));
		add_members(
			families, "duet_vcpu_kvm", labels, 1, "name", json_object_get(vcpu, "kvm"));
	}
}

static void add_ranges(struct families *families, json_t *exits)
{
	json_t *range;
	const char *name;

	json_object_foreach(json_object_get(exits, "by_device"), name, range)
	{
		const char *bus = json_string_value(json_object_get(range, "bus"));
		const struct label labels[] = {{"range", name}, {"bus", bus ? bus : ""}};

		add_members(families, "duet_range_accesses_total", labels, 2, "operation", range);
	}
	add_members(families, "duet_unclaimed_accesses_total", NULL, 0, "bus",
		json_object_get(exits, "unclaimed"));
}

static void add_queues(struct families *families, const struct label *device, json_t *queues)
{
	const char *queue, *key;
	json_t *counts, *value;
	char name[NAME_SIZE];

	json_object_foreach(queues, queue, counts)
	{
		const struct label labels[LABELS_MOST] = {
			device[0], device[1], {"queue", queue + strlen("queue")}};

		json_object_foreach(counts, key, value)
		{
			make_name(name, "duet_device_queue_", key);
			add(families, name, labels, value);
		}
	}
}

static void add_device(struct families *families, json_t *device)
{
	const char *id = json_string_value(json_object_get(device, "name"));
	const char *type = json_string_value(json_object_get(device, "type"));
	struct label labels[LABELS_MOST] = {{"device", id ? id : ""}, {"type", type ? type : ""}};
	char name[NAME_SIZE];
	const char *key;
	json_t *value;

	json_object_foreach(device, key, value)
	{
		const struct label part[] = {labels[0], labels[1], {"part", key}};

		make_name(name, "duet_device_", key);
		if (strcmp(key, "queues") == 0)
			add_queues(families, labels, value);
		else if (json_is_object(value))
			add_members(families, "duet_device_detail", part, 3, "name", value);
		else
			add(families, name, labels, value);
	}
}

static const char *help_of(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(helps); i++)
		if (strncmp(name, helps[i].prefix, strlen(helps[i].prefix)) == 0)
			return helps[i].help;
	return name;
}

/* KVM and a device's parts do not say which of theirs are counters. */
static const char *type_of(const char *name)
{
	size_t length = strlen(name);

	if (strcmp(name, "duet_vcpu_kvm") == 0 || strcmp(name, "duet_device_detail") == 0)
		return "untyped";
	return length > 6 && strcmp(name + length - 6, "_total") == 0 ? "counter" : "gauge";
}

static char *print(const struct families *families)
{
	char *text = NULL;
	size_t length, index;
	FILE *file = open_memstream(&text, &length);
	const char *name;
	json_t *lines, *line;

	if (!file)
		return NULL;
	json_object_foreach(families->texts, name, lines)
	{
		fprintf(file, "# HELP %s %s.\n# TYPE %s %s\n", name, help_of(name), name,
			type_of(name));
		json_array_foreach(lines, index, line) fputs(json_string_value(line), file);
	}
	if (fclose(file) == 0)
		return text;
	free(text);
	return NULL;
}

static void add_all(struct families *families, json_t *stats)
{
	json_t *device;
	size_t index;

	add_machine(families, stats);
	add_members(
		families, "duet_memory_bytes", NULL, 0, "kind", json_object_get(stats, "memory"));
	add_members(
		families, "duet_policy_total", NULL, 0, "count", json_object_get(stats, "policy"));
	add_ranges(families, json_object_get(stats, "exits"));
	add_vcpus(families, json_object_get(stats, "vcpus"));
	json_array_foreach(json_object_get(stats, "devices"), index, device)
		add_device(families, device);
}

char *prometheus_of(const json_t *stats)
{
	struct families families = {.texts = json_object()};
	char *text = NULL;

	if (!families.texts)
		return NULL;
	/* jansson gives members of what it may change only; nothing here does. */
	add_all(&families, (json_t *)(uintptr_t)stats);
	if (!families.failed)
		text = print(&families);
	json_decref(families.texts);
	return text;
}
