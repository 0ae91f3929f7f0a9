/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine gives up before another process has it, and what it takes there. */
#include "machine/internal.h"

void machine_hold(struct machine *machine, bool held)
{
	lifecycle_hold(&machine->life, held);
}

void machine_leave_disks(struct machine *machine)
{
	machine->unclaimed = true;
}

/* The first @count of them, as far as nothing else can be done about it. */
static void release(struct machine *machine, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (machine->backends[i].block)
			block_release(machine->backends[i].block, NULL);
}

int machine_claim_disks(struct machine *machine, struct error *err)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++) {
		int ret = machine->backends[i].block ? block_claim(machine->backends[i].block, err)
						     : 0;

		if (ret < 0) {
			release(machine, i);
			return ret;
		}
	}
	return 0;
}

int machine_release_disks(struct machine *machine, struct error *err)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++) {
		struct error ignored;
		int ret = machine->backends[i].block
				  ? block_release(machine->backends[i].block, err)
				  : 0;

		/* Nobody else has been told yet: they are still there to be had. */
		if (ret < 0) {
			machine_claim_disks(machine, &ignored);
			return ret;
		}
	}
	return 0;
}

void machine_give_away(struct machine *machine)
{
	machine->given_away = true;
}

void machine_moved(struct machine *machine, bool known, const char *why)
{
	machine->given_away = true;
	machine_end(machine, known ? MACHINE_MOVED : MACHINE_FAILED, "%s", why);
}
