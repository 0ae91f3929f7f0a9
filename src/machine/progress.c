/* SPDX-License-Identifier: Apache-2.0 */
/* What KVM has counted that tells whether a guest's kernel lives. */
#include "base/checked.h"
#include "machine/internal.h"

#include <string.h>

#define STATS_MAX 128

/* A guest that spins with interrupts off, or has halted with them off, makes none of these. Where
 * the host's CPU delivers interrupts by itself none of them may be counted while the guest is busy:
 * its timer then makes exits. */
static const char *const events[] = {
	"irq_injections", "halt_exits", "io_exits", "mmio_exits", "hypercalls"};

static bool is_event(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(events); i++)
		if (strcmp(name, events[i]) == 0)
			return true;
	return false;
}

static bool add(struct machine_progress *progress, struct kvm_vcpu *vcpu)
{
	struct kvm_stat stats[STATS_MAX];
	int count = kvm_vcpu_stats(vcpu, stats, STATS_MAX);

	for (int i = 0; i < count; i++) {
		if (is_event(stats[i].name))
			progress->events += stats[i].value;
		else if (strcmp(stats[i].name, "exits") == 0)
			progress->exits += stats[i].value;
		else if (strcmp(stats[i].name, "irq_exits") == 0)
			progress->exits -= stats[i].value;
	}
	return count > 0;
}

void machine_progress(const struct machine *machine, struct machine_progress *progress)
{
	*progress = (struct machine_progress){.known = true};
	for (unsigned i = 0; i < machine->config.cpus && progress->known; i++)
		progress->known = add(progress, machine->vcpus[i].kvm);
	progress->arriving = memory_arriving(&machine->memory);
}
