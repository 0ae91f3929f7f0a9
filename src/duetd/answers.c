/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/answers.h"
#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define MEMORY_MIB_MAX (1ULL << 26) /* 64 TiB */
#define CPUS_MAX       4096
#define RUNNABLE_MAX   (1U << 20)
#define PRESSURE_MAX   10000
#define PID_NUMBER_MAX (1U << 22) /* proc(5), /proc/sys/kernel/pid_max */
#define PAGE_BYTES     4096
#define SHARE_USUAL    100
#define SHARE_MAX      10000

/* 0 for what is no number that counts something. */
static uint64_t number(const json_t *object, const char *name, uint64_t most)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value < 0 ? 0 : min_u64((uint64_t)value, most);
}

static uint64_t mib(const json_t *object, const char *name, uint64_t most_bytes)
{
	return number(object, name, most_bytes >> 20) << 20;
}

static void read_balloon(struct answer *answer, const json_t *balloon)
{
	struct vm_view *view = &answer->view;

	if (!json_is_object(balloon))
		return;
	view->has_balloon = true;
	view->balloon = mib(balloon, "actual_mib", view->memory);
	view->balloon_target = mib(balloon, "target_mib", view->memory);
	view->says_memory = json_object_get(balloon, "total_memory") &&
			    json_object_get(balloon, "available_memory");
	view->guest_total = number(balloon, "total_memory", view->memory);
	view->guest_free = number(balloon, "free_memory", view->guest_total);
	view->guest_available = number(balloon, "available_memory", view->guest_total);
	/* virtio 1.2, 5.5.6.4: bytes that were swapped, and faults by number. */
	answer->counters.swap_in = number(balloon, "swap_in", INT64_MAX) / PAGE_BYTES;
	answer->counters.swap_out = number(balloon, "swap_out", INT64_MAX) / PAGE_BYTES;
	answer->counters.major_faults = number(balloon, "major_faults", INT64_MAX);
}

static void read_vcpu(struct vm_view *view, const json_t *hint)
{
	json_int_t index = json_integer_value(json_object_get(hint, "index"));
	struct vcpu_view *vcpu;

	if (!json_object_get(hint, "index") || index < 0 || index >= (json_int_t)view->vcpus ||
		!json_is_integer(json_object_get(hint, "runnable")))
		return;
	vcpu = &view->vcpu[index];
	vcpu->says = true;
	vcpu->runnable = (uint32_t)number(hint, "runnable", RUNNABLE_MAX);
	vcpu->burst = number(hint, "burst_ns", SECOND_NS);
}

static void read_hints(struct answer *answer, const json_t *hints)
{
	const json_t *machine = json_object_get(hints, "machine");
	const json_t *vcpus = json_object_get(hints, "vcpus");
	const json_t *pressure = json_object_get(machine, "pressure");
	struct vm_view *view = &answer->view;

	for (size_t i = 0; i < json_array_size(vcpus) && i < CPUS_MAX; i++)
		read_vcpu(view, json_array_get(vcpus, i));
	if (!json_is_object(machine))
		return;
	view->says_hints = true;
	view->working_set = number(machine, "working_set_bytes", view->memory);
	view->memory_some = (uint32_t)number(pressure, "memory_some", PRESSURE_MAX);
	view->memory_full = (uint32_t)number(pressure, "memory_full", PRESSURE_MAX);
	answer->counters.refaults = number(machine, "refaults", INT64_MAX);
}

static void read_sharing(struct answer *answer, const json_t *sharing)
{
	answer->view.can_share = json_is_object(sharing);
	answer->view.offered = number(sharing, "offered_bytes", answer->view.memory);
}

static void read_threads(struct answer *answer, const json_t *threads)
{
	for (size_t i = 0; i < answer->view.vcpus && i < json_array_size(threads); i++) {
		json_int_t thread = json_integer_value(json_array_get(threads, i));

		if (thread > 0 && thread <= PID_NUMBER_MAX)
			answer->threads[i] = (pid_t)thread;
	}
}

/* Of a map that its guest has told to its end. */
static void read_uses(struct vm_view *view, const json_t *place)
{
	const json_t *uses = json_object_get(place, "uses");

	if (!json_is_true(json_object_get(place, "complete")))
		return;
	for (size_t v = 0; v < view->vcpus && v < json_array_size(uses); v++) {
		const json_t *nodes = json_array_get(uses, v);

		for (size_t n = 0; n < VIEW_NODES_MAX && n < json_array_size(nodes); n++) {
			json_int_t bytes = json_integer_value(json_array_get(nodes, n));

			view->vcpu[v].uses[n] =
				bytes < 0 ? 0 : min_u64((uint64_t)bytes, view->memory);
		}
	}
}

static int read_brief(struct answer *answer, const json_t *brief, struct error *err)
{
	const char *state = json_string_value(json_object_get(brief, "state"));
	const uint64_t cpus = number(brief, "cpus", CPUS_MAX);
	struct vm_view *view = &answer->view;

	view->memory = number(brief, "memory_mib", MEMORY_MIB_MAX) << 20;
	if (!state || !view->memory || !cpus)
		return error_set(err, EBADMSG,
			"no answer of a VM: its state, memory_mib and cpus are not all there; see "
			"whether the socket is a duet's");
	answer->running = strcmp(state, "Running") == 0;
	/* An older duet says none. */
	view->share = (uint32_t)number(brief, "share", SHARE_MAX);
	if (!view->share)
		view->share = SHARE_USUAL;
	view->vcpus = (unsigned)min_u64(cpus, VIEW_VCPUS_MAX);
	view->passthrough = json_is_true(json_object_get(brief, "passthrough"));
	read_threads(answer, json_object_get(brief, "threads"));
	read_balloon(answer, json_object_get(brief, "balloon"));
	answer->says_own = json_is_integer(json_object_get(brief, "balloon_own_mib"));
	answer->own = mib(brief, "balloon_own_mib", view->memory);
	read_hints(answer, json_object_get(brief, "hints"));
	read_uses(view, json_object_get(brief, "place"));
	read_sharing(answer, json_object_get(brief, "sharing"));
	return 0;
}

int answer_read(struct answer *answer, const char *text, struct error *err)
{
	json_error_t wrong;
	json_t *brief = json_loads(text, 0, &wrong);
	int ret;

	memset(answer, 0, sizeof(*answer));
	if (!brief)
		return error_set(
			err, EBADMSG, "no JSON, at its line %d: %s", wrong.line, wrong.text);
	ret = read_brief(answer, brief, err);
	json_decref(brief);
	return ret;
}

static double rate(uint64_t now, uint64_t before, uint64_t span)
{
	const uint64_t more = now >= before ? now - before : now;

	return span ? (double)more * (double)SECOND_NS / (double)span : 0;
}

void answer_rates(struct answer *now, const struct answer_counters *before, uint64_t span)
{
	const struct answer_counters *counters = &now->counters;
	struct vm_view *view = &now->view;

	view->swap_in = rate(counters->swap_in, before->swap_in, span);
	view->swap_out = rate(counters->swap_out, before->swap_out, span);
	view->major_faults = rate(counters->major_faults, before->major_faults, span);
	view->refaults = rate(counters->refaults, before->refaults, span);
}
