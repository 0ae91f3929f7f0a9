/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "duetd/control_private.h"
#include "duetd/policies/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_SIZE 400

/* Which mechanism makes use of which. */
static const enum mechanism lever_uses[LEVERS] = {
	[LEVER_CPU_WEIGHT] = MECHANISM_CPU,
	[LEVER_SLICE] = MECHANISM_CPU,
	[LEVER_RECLAIM] = MECHANISM_MEMORY,
	[LEVER_NODES] = MECHANISM_NUMA,
	[LEVER_PSI] = MECHANISM_MEMORY,
	[LEVER_KSM] = MECHANISM_SHARING,
};

void control_answer(struct exchange *exchange, unsigned status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	exchange->answer(exchange, text ? status : 500, EXCHANGE_JSON, text);
}

void control_refuse(struct exchange *exchange, unsigned status, const char *why)
{
	control_answer(exchange, status, json_pack("{s:s}", "fault_message", why));
}

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)min_u64(value, INT64_MAX));
}

/* ---- VMs ---- */

static void add_guest_memory(json_t *object, const struct vm_view *view)
{
	json_object_set_new(object, "guest_memory", number(view->guest_total));
	json_object_set_new(object, "guest_free", number(view->guest_free));
	json_object_set_new(object, "available", number(view->guest_available));
}

static void add_view(json_t *object, const struct vm_view *view)
{
	double busy = 0;

	for (unsigned i = 0; i < view->vcpus; i++)
		busy += view->vcpu[i].busy;
	json_object_set_new(object, "memory", number(view->memory));
	json_object_set_new(object, "resident", number(view->resident));
	json_object_set_new(object, "vcpus", json_integer(view->vcpus));
	json_object_set_new(object, "busy", json_real(busy));
	json_object_set_new(object, "share", json_integer(view->share));
	json_object_set_new(object, "passthrough", json_boolean(view->passthrough));
	if (view->has_balloon)
		json_object_set_new(object, "balloon", number(view->balloon));
	if (view->says_hints)
		json_object_set_new(object, "working_set", number(view->working_set));
	if (view->can_share)
		json_object_set_new(object, "offered", number(view->offered));
	json_object_set_new(object, "merged", number(view->merged));
	if (view->says_memory)
		add_guest_memory(object, view);
	json_object_set_new(
		object, "paging", json_real(view->swap_in + view->swap_out + view->refaults));
	json_object_set_new(
		object, "host_paging", json_real(view->host_swap_in + view->host_refaults));
}

static void add_plan(json_t *object, const struct vm_plan *plan)
{
	if (plan->set_memory)
		json_object_set_new(object, "allowed", number(plan->allowed));
	if (plan->set_cpu)
		json_object_set_new(object, "weight", json_integer(plan->weight));
	if (plan->set_numa)
		json_object_set_new(object, "memory_follows", json_boolean(plan->memory_follows));
	if (plan->set_sharing)
		json_object_set_new(object, "sharing",
			json_string(plan->sharing == SHARING_BLIND ? "blind" : "hinted"));
}

struct listing {
	const struct manager *manager;
	json_t *array;
	const char *name; /* null: all */
};

/* Its memory by node, where there is more than one. */
static void add_nodes(json_t *object, const struct vm_view *view, unsigned nodes)
{
	json_t *array;

	if (nodes < 2)
		return;
	array = json_array();
	for (unsigned i = 0; i < nodes && i < VIEW_NODES_MAX; i++)
		json_array_append_new(array, number(view->nodes_hold[i]));
	json_object_set_new(object, "nodes_hold", array);
}

static json_t *entry_json(const struct manager *manager, const struct fleet_entry *entry)
{
	json_t *object = json_pack("{s:s, s:s, s:i, s:b}", "name", entry->name, "socket",
		entry->socket, "pid", (int)entry->pid, "well", entry->well);
	int index = manager_find(manager, entry->name);

	if (entry->fault)
		json_object_set_new(object, "fault", json_string(entry->fault));
	if (entry->view && index >= 0) {
		add_view(object, &manager->view.vms[index]);
		add_nodes(object, &manager->view.vms[index], manager->view.host.nodes);
		add_plan(object, &manager->plan.vms[index]);
	} else if (entry->view) {
		add_view(object, entry->view);
	}
	return object;
}

static void list_entry(void *opaque, const struct fleet_entry *entry)
{
	struct listing *listing = opaque;

	if (!listing->name || strcmp(listing->name, entry->name) == 0)
		json_array_append_new(listing->array, entry_json(listing->manager, entry));
}

static void get_vms(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	struct listing listing = {.manager = manager, .array = json_array()};

	fleet_each(manager->fleet, list_entry, &listing);
	control_answer(exchange, 200, listing.array);
}

static json_t *why_json(const struct manager *manager, unsigned index)
{
	const struct vm_plan *plan = &manager->plan.vms[index];
	json_t *why = json_object();

	for (unsigned i = 0; i < MECHANISMS; i++) {
		char words[WORDS_SIZE] = "";

		reason_words(plan_reason(plan, i), &manager->view, &manager->plan, index, words,
			sizeof(words));
		json_object_set_new(why, mechanism_name(i), json_string(words));
	}
	return why;
}

static json_t *vcpus_json(const struct manager *manager, unsigned index)
{
	const struct vm_view *view = &manager->view.vms[index];
	const struct vm_plan *plan = &manager->plan.vms[index];
	json_t *array = json_array();

	for (unsigned i = 0; i < view->vcpus; i++) {
		json_t *vcpu = json_pack(
			"{s:f, s:f}", "busy", view->vcpu[i].busy, "waits", view->vcpu[i].waits);

		if (view->vcpu[i].says) {
			json_object_set_new(vcpu, "runnable", number(view->vcpu[i].runnable));
			json_object_set_new(vcpu, "burst_ns", number(view->vcpu[i].burst));
		}
		if (plan->set_cpu && plan->vcpu[i].slice)
			json_object_set_new(vcpu, "slice_ns", number(plan->vcpu[i].slice));
		if (plan->set_numa && plan->vcpu[i].node >= 0)
			json_object_set_new(vcpu, "node", json_integer(plan->vcpu[i].node));
		json_array_append_new(array, vcpu);
	}
	return array;
}

static void get_vm(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	const char *name = request->path + strlen("/vms/");
	struct listing listing = {.manager = manager, .array = json_array(), .name = name};
	const int index = manager_find(manager, name);
	json_t *vm;

	fleet_each(manager->fleet, list_entry, &listing);
	vm = json_incref(json_array_get(listing.array, 0));
	json_decref(listing.array);
	if (!vm) {
		control_refuse(exchange, 404, "no VM of that name; duetctl ps lists them");
		return;
	}
	if (index >= 0) {
		json_object_set_new(vm, "why", why_json(manager, (unsigned)index));
		json_object_set_new(vm, "vcpu", vcpus_json(manager, (unsigned)index));
	}
	control_answer(exchange, 200, vm);
}

/* ---- the host ---- */

static json_t *levers_json(const struct manager *manager, enum mechanism mechanism)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < LEVERS; i++) {
		struct lever_state state;
		json_t *lever;

		if (mechanism != MECHANISMS && lever_uses[i] != mechanism)
			continue;
		levers_state(manager->levers, i, &state);
		lever = json_pack("{s:s, s:b}", "name", lever_name(i), "works", state.works);
		if (!state.works)
			json_object_set_new(lever, "why", json_string(state.why));
		json_array_append_new(array, lever);
	}
	return array;
}

static json_t *nodes_json(const struct host_view *host)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < host->nodes && i < VIEW_NODES_MAX; i++)
		json_array_append_new(
			array, json_pack("{s:o, s:i}", "memory", number(host->node_memory[i]),
				       "cpus", (int)host->node_cpus[i]));
	return array;
}

static void get_host(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	const struct host_view *host = &manager->view.host;
	json_t *object = json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:o, s:o, s:o, s:s}",
		"memory", number(host->memory), "available", number(host->available), "free",
		number(host->free), "swap_total", number(host->swap_total), "swap_free",
		number(host->swap_free), "memory_some", (int)host->memory_some, "memory_full",
		(int)host->memory_full, "cpu_some", (int)host->cpu_some, "cpus", (int)host->cpus,
		"nodes", (int)host->nodes, "ksm_others", host->ksm_others, "vms",
		(int)manager->view.count, "decisions", number(manager->decisions), "decision_ns",
		number(manager->decision_ns), "levers", levers_json(manager, MECHANISMS), "fault",
		manager->fault);

	json_object_set_new(
		object, "reserve", number((uint64_t)((double)host->memory * HOST_RESERVE)));
	json_object_set_new(object, "node", nodes_json(host));
	control_answer(exchange, 200, object);
}

/* ---- policies ---- */

static json_t *choices_json(enum mechanism mechanism)
{
	json_t *array = json_array();

	for (const struct policy *const *at = policies_of(mechanism); *at; at++)
		json_array_append_new(
			array, json_pack("{s:s, s:s}", "name", (*at)->name, "help", (*at)->help));
	return array;
}

static void get_policies(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < MECHANISMS; i++)
		json_array_append_new(
			array, json_pack("{s:s, s:s, s:o, s:o}", "mechanism", mechanism_name(i),
				       "policy", manager->policies[i]->name, "choices",
				       choices_json(i), "levers", levers_json(manager, i)));
	control_answer(exchange, 200, array);
}

static bool take_mechanism(const char *name, enum mechanism *mechanism)
{
	for (unsigned i = 0; i < MECHANISMS; i++) {
		if (strcmp(mechanism_name(i), name) == 0) {
			*mechanism = i;
			return true;
		}
	}
	return false;
}

static void put_policy(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	json_t *body = json_loads(request->body, 0, NULL);
	const char *name = json_string_value(json_object_get(body, "policy"));
	const struct policy *policy = NULL;
	enum mechanism mechanism;
	struct error err = {0};

	if (!take_mechanism(request->path + strlen("/policies/"), &mechanism))
		control_refuse(exchange, 404, "no such mechanism; duetctl policy lists them");
	else if (!name)
		control_refuse(exchange, 400, "the body is to be {\"policy\": NAME}");
	else if (!(policy = policy_by_name(mechanism, name, &err)))
		control_refuse(exchange, 400, err.text);
	if (policy) {
		manager_set_policy(manager, mechanism, policy);
		exchange->answer(exchange, 204, EXCHANGE_JSON, NULL);
	}
	json_decref(body);
}

/* ---- dispatch ---- */

static void get_metrics(
	struct manager *manager, const struct request *request, struct exchange *exchange)
{
	char *text = control_metrics(manager);

	exchange->answer(exchange, text ? 200 : 500, EXCHANGE_TEXT, text);
}

static const struct {
	const char *method, *path;
	bool more; /* a name follows */
	void (*handle)(
		struct manager *manager, const struct request *request, struct exchange *exchange);
} routes[] = {
	{"GET", "/vms", false, get_vms},
	{"GET", "/vms/", true, get_vm},
	{"GET", "/host", false, get_host},
	{"GET", "/policies", false, get_policies},
	{"PUT", "/policies/", true, put_policy},
	{"GET", "/metrics", false, get_metrics},
	{"GET", "/decisions", false, control_get_decisions},
	{"GET", "/machines", false, control_get_machines},
	{"PUT", "/machines/", true, control_put_machine},
};

void control_handle(void *opaque, const struct request *request, struct exchange *exchange)
{
	for (unsigned i = 0; i < ARRAY_SIZE(routes); i++) {
		const size_t length = strlen(routes[i].path);

		if (strncmp(request->path, routes[i].path, length) == 0 &&
			routes[i].more == (request->path[length] != 0) &&
			strcmp(request->method, routes[i].method) == 0) {
			routes[i].handle(opaque, request, exchange);
			return;
		}
	}
	control_refuse(exchange, 404,
		"no such request; there are GET /vms, /vms/NAME, /host, /policies, /metrics, "
		"/decisions, /machines and PUT /policies/MECHANISM, /machines/NAME");
}
