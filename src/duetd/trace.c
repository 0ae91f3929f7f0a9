/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/trace.h"

#include "base/checked.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MIB_MOST (1U << 24) /* 16 TiB */

/* A number of an object: what it is called, what it may be, where it goes. */
struct number {
	const char *name;
	double least, most, usual; /* usual below least: it must be there */
	double *to;
};

static int read_number(const json_t *object, const struct number *number, struct error *err)
{
	const json_t *value = json_object_get(object, number->name);
	double found = json_number_value(value);

	*number->to = number->usual;
	if (!value && number->usual >= number->least)
		return 0;
	if (!json_is_number(value) || !(found >= number->least && found <= number->most))
		return error_set(err, EINVAL, "%s: a number from %g to %g is wanted", number->name,
			number->least, number->most);
	*number->to = found;
	return 0;
}

static int read_numbers(
	const json_t *object, const struct number *numbers, unsigned count, struct error *err)
{
	for (unsigned i = 0; i < count; i++) {
		int ret = read_number(object, &numbers[i], err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int read_flag(const json_t *object, const char *name, bool *flag, struct error *err)
{
	const json_t *value = json_object_get(object, name);

	*flag = !value || json_is_true(value);
	if (value && !json_is_boolean(value))
		return error_set(err, EINVAL, "%s: true or false is wanted", name);
	return 0;
}

static int read_point(struct trace_vm *vm, const json_t *value, struct error *err)
{
	double second = json_number_value(json_array_get(value, 0));
	double mib = json_number_value(json_array_get(value, 1));
	const struct trace_point *last = vm->count ? &vm->points[vm->count - 1] : NULL;

	if (json_array_size(value) != 2 || !json_is_number(json_array_get(value, 0)) ||
		!json_is_number(json_array_get(value, 1)))
		return error_set(err, EINVAL, "working_set_mib: each point is [SECOND, MIB]");
	if (!(second >= 0 && second <= TRACE_SECONDS_MAX) || (last && second <= last->second))
		return error_set(err, EINVAL,
			"working_set_mib: second %g: later than the one before, at most %d", second,
			TRACE_SECONDS_MAX);
	if (!(mib >= 0 && mib <= vm->memory_mib))
		return error_set(err, EINVAL, "working_set_mib: %g MiB: from 0 to memory_mib", mib);
	vm->points[vm->count++] = (struct trace_point){second, mib};
	return 0;
}

static int read_points(struct trace_vm *vm, const json_t *object, struct error *err)
{
	const json_t *list = json_object_get(object, "working_set_mib"), *value;
	size_t index;

	if (json_array_size(list) == 0)
		return error_set(err, EINVAL, "working_set_mib: a list of points is wanted");
	vm->points = calloc(json_array_size(list), sizeof(*vm->points));
	if (!vm->points)
		return error_errno(err, ENOMEM, "trace");
	json_array_foreach(list, index, value)
	{
		int ret = read_point(vm, value, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int read_vm(struct trace_vm *vm, const json_t *object, struct error *err)
{
	double share, vcpus;
	const struct number numbers[] = {{"memory_mib", 1, MIB_MOST, 0, &vm->memory_mib},
		{"touches", 0, 1e9, 2000, &vm->touches}, {"reads", 0, 1e9, 100, &vm->reads},
		{"claims_mib", 0, MIB_MOST, 0, &vm->claims}, {"share", 1, 10000, 100, &share},
		{"vcpus", 1, VIEW_VCPUS_MAX, 2, &vcpus}};
	int ret = read_numbers(object, numbers, ARRAY_SIZE(numbers), err);

	if (ret == 0)
		ret = read_flag(object, "hints", &vm->hints, err);
	if (ret == 0)
		ret = read_flag(object, "balloon", &vm->balloon, err);
	if (ret < 0)
		return ret;
	vm->share = (uint32_t)share;
	vm->vcpus = (unsigned)vcpus;
	return read_points(vm, object, err);
}

static int add_vm(struct trace *trace, const json_t *object, struct error *err)
{
	const char *name = json_string_value(json_object_get(object, "vm"));
	struct trace_vm *vm;

	if (!name || !*name || strlen(name) >= VIEW_NAME_MAX)
		return error_set(
			err, EINVAL, "vm: a name of 1 to %d bytes is wanted", VIEW_NAME_MAX - 1);
	if (trace->count == TRACE_VMS_MAX)
		return error_set(err, EINVAL, "vm: at most %d", TRACE_VMS_MAX);
	if (trace->count == trace->room) {
		unsigned room = trace->room ? 2 * trace->room : 16;

		vm = reallocarray(trace->vms, room, sizeof(*vm));
		if (!vm)
			return error_errno(err, ENOMEM, "trace");
		trace->vms = vm;
		trace->room = room;
	}
	vm = &trace->vms[trace->count++];
	*vm = (struct trace_vm){0};
	memcpy(vm->name, name, strlen(name));
	return read_vm(vm, object, err);
}

static int read_host(struct trace *trace, const json_t *object, struct error *err)
{
	double seconds;
	const struct number numbers[] = {{"memory_mib", 1, 16.0 * MIB_MOST, 0, &trace->memory_mib},
		{"seconds", 1, TRACE_SECONDS_MAX, 0, &seconds}};
	int ret = read_numbers(object, numbers, ARRAY_SIZE(numbers), err);

	if (ret == 0)
		trace->seconds = (unsigned)seconds;
	return ret < 0 ? error_prefix(err, "host: ") : 0;
}

static int read_line(struct trace *trace, const char *line, size_t length, struct error *err)
{
	json_error_t fault;
	json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &fault);
	int ret;

	if (!json_is_object(object))
		ret = error_set(err, EINVAL, "%s", object ? "an object is wanted" : fault.text);
	else if (json_object_get(object, "host") && !trace->seconds)
		ret = read_host(trace, json_object_get(object, "host"), err);
	else if (!trace->seconds)
		ret = error_set(err, EINVAL, "the first line is the host's: {\"host\": {...}}");
	else
		ret = add_vm(trace, object, err);
	json_decref(object);
	return ret;
}

int trace_read(struct trace *trace, FILE *file, const char *name, struct error *err)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	unsigned number = 0;
	int ret = 0;

	*trace = (struct trace){0};
	while (ret == 0 && (length = getline(&line, &room, file)) > 0) {
		number++;
		if (length == 1 && line[0] == '\n')
			continue;
		ret = read_line(trace, line, (size_t)length, err);
		if (ret < 0)
			ret = error_prefix(err, "%s:%u: ", name, number);
	}
	free(line);
	if (ret == 0 && ferror(file))
		ret = error_errno(err, EIO, "%s: cannot be read; name a file", name);
	if (ret == 0 && trace->count == 0)
		ret = error_set(err, EINVAL,
			"%s: no VM in it; see docs/duetd-trace.md, or make one: duetd simulate "
			"--make 100",
			name);
	return ret;
}

void trace_free(struct trace *trace)
{
	for (unsigned i = 0; i < trace->count; i++)
		free(trace->vms[i].points);
	free(trace->vms);
	*trace = (struct trace){0};
}

double trace_working_set(const struct trace_vm *vm, double second)
{
	const struct trace_point *from, *to;
	unsigned low = 0, high = vm->count;

	/* The last one that is not later. */
	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (vm->points[middle].second <= second)
			low = middle;
		else
			high = middle;
	}
	from = &vm->points[low];
	if (second <= from->second || low + 1 == vm->count)
		return from->mib;
	to = from + 1;
	return from->mib +
	       (to->mib - from->mib) * (second - from->second) / (to->second - from->second);
}
