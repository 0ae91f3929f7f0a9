/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus' text format. Names of VMs need no quoting: the fleet takes none with odd letters. */
#include "base/checked.h"
#include "duetd/control.h"

#include <stdio.h>

static double of_memory(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)view->memory;
}

static double of_resident(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)view->resident;
}

static double of_balloon(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)view->balloon;
}

static double of_allowed(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)(plan->set_memory ? plan->allowed : view->memory);
}

static double of_working_set(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)view->working_set;
}

static double of_offered(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)view->offered;
}

static double of_merged(const struct vm_view *view, const struct vm_plan *plan)
{
	return (double)view->merged;
}

static double of_weight(const struct vm_view *view, const struct vm_plan *plan)
{
	return plan->set_cpu ? plan->weight : 0;
}

static double of_paging(const struct vm_view *view, const struct vm_plan *plan)
{
	return view->swap_in + view->swap_out + view->refaults;
}

static double of_host_paging(const struct vm_view *view, const struct vm_plan *plan)
{
	return view->host_swap_in + view->host_refaults;
}

static double of_busy(const struct vm_view *view, const struct vm_plan *plan)
{
	double busy = 0;

	for (unsigned i = 0; i < view->vcpus; i++)
		busy += view->vcpu[i].busy;
	return busy;
}

static const struct {
	const char *name, *help;
	double (*of)(const struct vm_view *view, const struct vm_plan *plan);
} vm_metrics[] = {
	{"memory_bytes", "What the guest was given at its start.", of_memory},
	{"resident_bytes", "Host memory that it takes.", of_resident},
	{"balloon_bytes", "Memory in its balloon.", of_balloon},
	{"allowed_bytes", "What it may hold, as decided last.", of_allowed},
	{"working_set_bytes", "Its working set, as it says; 0: it says nothing.", of_working_set},
	{"offered_bytes", "Memory that it offers to KSM.", of_offered},
	{"merged_bytes", "Memory of it that is merged with equal pages.", of_merged},
	{"cpu_weight", "Its weight, as decided last; 0: left as it is.", of_weight},
	{"cpus_busy", "CPUs that its vCPUs took.", of_busy},
	{"paging_pages_per_second", "Pages swapped or read in again by the guest.", of_paging},
	{"host_paging_pages_per_second", "The same, by the host.", of_host_paging},
};

static void head(FILE *file, const char *name, const char *type, const char *help)
{
	fprintf(file, "# HELP duetd_%s %s\n# TYPE duetd_%s %s\n", name, help, name, type);
}

static void single(FILE *file, const char *name, const char *type, const char *help, double value)
{
	head(file, name, type, help);
	fprintf(file, "duetd_%s %.15g\n", name, value);
}

static void put_vms(FILE *file, const struct manager *manager)
{
	for (unsigned i = 0; i < ARRAY_SIZE(vm_metrics); i++) {
		char name[64];

		snprintf(name, sizeof(name), "vm_%s", vm_metrics[i].name);
		head(file, name, "gauge", vm_metrics[i].help);
		for (unsigned j = 0; j < manager->view.count; j++)
			fprintf(file, "duetd_%s{vm=\"%s\"} %.15g\n", name,
				manager->view.vms[j].name,
				vm_metrics[i].of(&manager->view.vms[j], &manager->plan.vms[j]));
	}
}

static void put_host(FILE *file, const struct manager *manager)
{
	const struct host_view *host = &manager->view.host;

	single(file, "vms", "gauge", "VMs of the last decision.", manager->view.count);
	single(file, "decisions_total", "counter", "Decisions.", (double)manager->decisions);
	single(file, "decision_seconds_total", "counter", "Time that the policies took.",
		(double)manager->decision_ns / 1e9);
	single(file, "lever_faults_total", "counter", "Levers that could not be pulled.",
		(double)manager->faults);
	single(file, "host_available_bytes", "gauge", "Memory that the host can give away.",
		(double)host->available);
	single(file, "host_memory_pressure_ratio", "gauge",
		"Share of time in which something waited for memory.",
		(double)host->memory_some / 10000);
	single(file, "host_cpu_pressure_ratio", "gauge",
		"Share of time in which something waited for a CPU.",
		(double)host->cpu_some / 10000);
}

static void put_choices(FILE *file, const struct manager *manager)
{
	head(file, "policy", "gauge", "The policy of each mechanism.");
	for (unsigned i = 0; i < MECHANISMS; i++)
		fprintf(file, "duetd_policy{mechanism=\"%s\",policy=\"%s\"} 1\n", mechanism_name(i),
			manager->policies[i]->name);
	head(file, "lever", "gauge", "Whether it works on this host.");
	for (unsigned i = 0; i < LEVERS; i++) {
		struct lever_state state;

		levers_state(manager->levers, i, &state);
		fprintf(file, "duetd_lever{lever=\"%s\"} %d\n", lever_name(i), state.works);
	}
}

char *control_metrics(const struct manager *manager)
{
	char *text = NULL;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	if (!file)
		return NULL;
	put_host(file, manager);
	put_choices(file, manager);
	put_vms(file, manager);
	return fclose(file) == 0 ? text : NULL;
}
