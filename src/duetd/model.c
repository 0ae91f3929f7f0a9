/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/model.h"

#include "base/checked.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define PAGES_OF_MIB 256.0
#define PAGE_BYTES   4096.0
/* How fast a guest gives memory to its balloon, pages a second; it takes it back at once. */
#define INFLATES 32768.0
/* The host's reclaim takes a page of a working set for each so many that nobody comes back to. */
#define LOOKS_COLD 8.0
/* Of a working set, what only the kit sees: cache in use, which counts as available. From a tenth
 * to two fifths. */
#define IS_CACHE(index) (0.1 * (1 + (index) % 4))
/* Kept for itself by a guest's kernel: a balloon gets no more. */
#define GUEST_KEEPS (32 * PAGES_OF_MIB)
/* A page read in again waits 0.1 ms: so many a second are all the time, in hundredths of a percent.
 */
#define SOME_OF_PAGES 1.0
#define SOME_MEAN     0.1 /* weight of the last second in a mean over 10 s */

/* All in pages. */
struct guest {
	double need, in;      /* working set, and what of it the guest has in memory */
	double cache;         /* beside it: files read once */
	double holds, target; /* outside the balloon */
	double cold, hot;     /* of cache and of working set: swapped by the host */
	double guest_rate, host_rate, some;
	double missing; /* sum over time of the share of its working set that it had no room for */
};

struct model {
	const struct trace *trace;
	struct view view;
	struct guest *guests;
	struct model_result result;
	unsigned second;
	double some;
};

static double least(double a, double b)
{
	return a < b ? a : b;
}

static double above(double a)
{
	return a > 0 ? a : 0;
}

static double resident(const struct guest *guest)
{
	return guest->in + guest->cache - guest->cold - guest->hot;
}

/* ---- within a guest ---- */

/* Cache given up: its swapped pages go with it; @reused: the frames are written to, which brings
 * in again those that the host had swapped. */
static void drop_cache(struct model *model, struct guest *guest, double pages, bool reused)
{
	double part = guest->cache > 0 ? least(pages, guest->cache) / guest->cache : 0;

	if (reused) {
		model->result.host_pages += guest->cold * part;
		guest->host_rate += guest->cold * part;
	}
	guest->cold -= guest->cold * part;
	guest->cache -= guest->cache * part;
}

static void set_in(struct guest *guest, double in)
{
	if (in < guest->in)
		guest->hot -= guest->hot * (guest->in - in) / guest->in;
	guest->in = in;
}

/* Its kernel makes room: cache first, then of the working set, to its own swap. */
static void fit(struct model *model, struct guest *guest, bool reused)
{
	drop_cache(model, guest, above(guest->in + guest->cache - guest->holds), reused);
	set_in(guest, least(guest->in, guest->holds));
}

static void move_balloon(struct model *model, struct guest *guest)
{
	if (guest->target >= guest->holds)
		guest->holds = guest->target;
	else
		guest->holds -= least(guest->holds - guest->target, INFLATES);
	fit(model, guest, false);
}

static void change_need(struct model *model, struct guest *guest, double need)
{
	if (need > guest->need)
		set_in(guest, guest->in + need - guest->need);
	guest->need = need;
	set_in(guest, least(guest->in, need));
	fit(model, guest, true);
}

/* It comes back to pages of its working set, some of which are in its own swap or the host's. */
static void touch(struct model *model, struct guest *guest, double touches)
{
	double pages, missing = guest->need - guest->in;

	if (guest->need > 0)
		guest->missing += (above(guest->need - guest->holds) + guest->hot) / guest->need;
	pages = guest->need > 0 ? least(touches * missing / guest->need, missing) : 0;
	guest->guest_rate = pages;
	model->result.guest_pages += pages;
	set_in(guest, least(guest->in + pages, guest->holds));
	fit(model, guest, true);
	pages = guest->need > 0 ? least(touches * guest->hot / guest->need, guest->hot) : 0;
	guest->host_rate += pages;
	model->result.host_pages += pages;
	guest->hot -= pages;
}

static void read_files(struct model *model, struct guest *guest, double pages)
{
	double room = above(guest->holds - guest->in - guest->cache);

	if (pages > room)
		drop_cache(model, guest, pages - room, true);
	guest->cache = least(guest->cache + pages, above(guest->holds - guest->in));
}

static void work(struct model *model, unsigned index)
{
	const struct trace_vm *vm = &model->trace->vms[index];
	struct guest *guest = &model->guests[index];

	guest->host_rate = 0;
	move_balloon(model, guest);
	change_need(model, guest, trace_working_set(vm, model->second) * PAGES_OF_MIB);
	touch(model, guest, vm->touches);
	read_files(model, guest, vm->reads);
}

/* ---- the host ---- */

static double weighs(const struct guest *guest)
{
	return above(guest->cache - guest->cold) + above(guest->in - guest->hot) / LOOKS_COLD;
}

/* Takes @part of what of it weighs, as far as it is there. */
static void swap_out(struct guest *guest, double part)
{
	double cold = above(guest->cache - guest->cold), hot = above(guest->in - guest->hot);

	guest->cold += cold * least(part, 1);
	guest->hot += hot * least(part / LOOKS_COLD, 1);
}

static double all_resident(const struct model *model)
{
	double pages = 0;

	for (unsigned i = 0; i < model->trace->count; i++)
		pages += resident(&model->guests[i]);
	return pages;
}

static void reclaim_host(struct model *model)
{
	double room = model->trace->memory_mib * PAGES_OF_MIB;

	/* A part above 1 takes all that is cold and not yet enough of the rest: again. */
	for (unsigned n = 0; n < 16; n++) {
		double over = all_resident(model) - room, weight = 0;

		if (over <= 0.5)
			return;
		for (unsigned i = 0; i < model->trace->count; i++)
			weight += weighs(&model->guests[i]);
		for (unsigned i = 0; i < model->trace->count; i++)
			swap_out(&model->guests[i], over / weight);
	}
}

/* ---- what duetd sees ---- */

/* 0.95 to 1.05, another for each VM and second. */
static double noise(unsigned index, unsigned second)
{
	uint64_t z = ((uint64_t)index << 32 | second) * 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9;
	return 0.95 + 0.1 * (double)(z >> 40) / (double)(1 << 24);
}

static uint64_t bytes(double pages)
{
	return (uint64_t)(above(pages) * PAGE_BYTES);
}

static void mean_some(double *some, double rate)
{
	*some += (least(rate * SOME_OF_PAGES, 10000) - *some) * SOME_MEAN;
}

static void look_at_cpus(struct vm_view *view, unsigned index, unsigned second)
{
	/* Only so that the other mechanisms have something to decide. */
	for (unsigned n = 0; n < view->vcpus; n++)
		view->vcpu[n].runnable = (index + n + second / 8) % 3;
}

static void look(struct model *model, unsigned index)
{
	const struct trace_vm *vm = &model->trace->vms[index];
	struct vm_view *view = &model->view.vms[index];
	struct guest *guest = &model->guests[index];
	double says = vm->claims > 0 ? vm->claims * PAGES_OF_MIB
				     : guest->in * noise(index, model->second);

	mean_some(&guest->some, guest->guest_rate + guest->host_rate);
	view->age += SECOND_NS;
	view->balloon_since += SECOND_NS;
	view->resident = bytes(resident(guest));
	view->balloon = view->memory - bytes(guest->holds);
	view->guest_total = bytes(guest->holds);
	view->guest_free = bytes(guest->holds - guest->in - guest->cache);
	view->guest_available =
		vm->claims > 0 ? 0 : bytes(guest->holds - guest->in * (1 - IS_CACHE(index)));
	view->swap_in = guest->guest_rate;
	view->refaults = guest->guest_rate;
	view->memory_some = (uint32_t)guest->some;
	view->working_set = bytes(says);
	view->host_swap_in = guest->host_rate;
	look_at_cpus(view, index, model->second);
}

/* Its swap is as large as its memory, and takes more all the same. */
static void look_at_host(struct model *model)
{
	double rate = 0, swapped = 0;

	model->view.now += SECOND_NS;
	for (unsigned i = 0; i < model->trace->count; i++) {
		rate += model->guests[i].host_rate;
		swapped += model->guests[i].cold + model->guests[i].hot;
	}
	model->view.host.swap_total = bytes(model->trace->memory_mib * PAGES_OF_MIB);
	model->view.host.swap_free = bytes(model->trace->memory_mib * PAGES_OF_MIB - swapped);
	mean_some(&model->some, rate);
	model->view.host.memory_some = (uint32_t)model->some;
	model->view.host.available = model->view.host.free =
		bytes(model->trace->memory_mib * PAGES_OF_MIB - all_resident(model));
}

bool model_step(struct model *model)
{
	if (model->second >= model->trace->seconds)
		return false;
	for (unsigned i = 0; i < model->trace->count; i++)
		work(model, i);
	reclaim_host(model);
	for (unsigned i = 0; i < model->trace->count; i++)
		look(model, i);
	look_at_host(model);
	model->second++;
	return true;
}

const struct view *model_view(const struct model *model)
{
	return &model->view;
}

/* ---- what is done ---- */

void model_apply(struct model *model, const struct plan *plan)
{
	for (unsigned i = 0; i < model->trace->count; i++) {
		const struct vm_plan *to = &plan->vms[i];
		struct vm_view *view = &model->view.vms[i];
		struct guest *guest = &model->guests[i];
		uint64_t target = view->memory - min_u64(to->allowed, view->memory);
		double weight = weighs(guest);

		if (!to->set_memory)
			continue;
		if (to->reclaim && weight > 0)
			swap_out(guest, (double)to->reclaim / PAGE_BYTES / weight);
		if (!view->has_balloon || target == view->balloon_target)
			continue;
		view->balloon_target = target;
		view->balloon_since = 0;
		guest->target = (double)(view->memory - target) / PAGE_BYTES;
		if (guest->target < GUEST_KEEPS)
			guest->target = least(GUEST_KEEPS, (double)view->memory / PAGE_BYTES);
	}
}

void model_result(const struct model *model, struct model_result *result)
{
	*result = model->result;
	for (unsigned i = 0; i < model->trace->count; i++) {
		double mean = model->guests[i].missing / (model->second ? model->second : 1);

		if (mean > result->worst)
			result->worst = mean;
	}
}

/* ---- its beginning ---- */

static void begin(struct model *model, unsigned index)
{
	const struct trace_vm *vm = &model->trace->vms[index];
	struct vm_view *view = &model->view.vms[index];
	struct guest *guest = &model->guests[index];

	memcpy(view->name, vm->name, sizeof(view->name));
	view->memory = (uint64_t)vm->memory_mib << 20;
	view->share = vm->share;
	view->has_balloon = view->says_memory = vm->balloon;
	view->says_hints = vm->hints;
	view->vcpus = vm->vcpus;
	guest->holds = guest->target = (double)view->memory / PAGE_BYTES;
	guest->need = guest->in = trace_working_set(vm, 0) * PAGES_OF_MIB;
	for (unsigned n = 0; n < vm->vcpus; n++)
		view->vcpu[n] = (struct vcpu_view){.says = vm->hints,
			.burst = 1000000ULL * (1 + index % 20),
			.busy = 0.5,
			.node = (uint8_t)(index % 2),
			.uses = {[0] = bytes(guest->in / 2), [1] = bytes(guest->in / 3)}};
}

static void begin_host(struct model *model)
{
	struct host_view *host = &model->view.host;

	host->memory = host->available = bytes(model->trace->memory_mib * PAGES_OF_MIB);
	host->reclaim = host->slices = true;
	host->nodes = 2;
	host->cpus = model->trace->count + 2;
	for (unsigned n = 0; n < host->nodes; n++) {
		host->node_memory[n] = host->memory / host->nodes;
		host->node_cpus[n] = host->cpus / host->nodes;
	}
}

struct model *model_new(const struct trace *trace)
{
	struct model *model = calloc(1, sizeof(*model));

	if (!model)
		return NULL;
	model->trace = trace;
	model->view.count = trace->count;
	model->view.vms = calloc(trace->count, sizeof(*model->view.vms));
	model->guests = calloc(trace->count, sizeof(*model->guests));
	if (!model->view.vms || !model->guests) {
		model_free(model);
		return NULL;
	}
	begin_host(model);
	for (unsigned i = 0; i < trace->count; i++)
		begin(model, i);
	return model;
}

void model_free(struct model *model)
{
	free(model->view.vms);
	free(model->guests);
	free(model);
}
