/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation ID: by it guests learn that they are one of several that were the same machine,
 * and for example seed their random numbers anew. */
#include "machine/internal.h"
#include "x86/layout.h"

#include <errno.h>
#include <sys/random.h>

/* #syscalls main: getrandom */

int machine_write_generation(struct machine *machine, struct error *err)
{
	uint8_t id[LAYOUT_GENERATION_SIZE];

	/* It is to be no other machine's: one that waits for random numbers is better. */
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return error_errno(err, errno, "VM generation ID: no random numbers");
	if (memory_write(&machine->memory, GPA(LAYOUT_GENERATION), id, sizeof(id)) < 0)
		return error_set(err, ENOMEM, "--memory: no RAM below 1 MiB; give more");
	return 0;
}

int machine_renew_generation(struct machine *machine, struct error *err)
{
	struct bus_host *host = machine->place.host;
	int ret = machine_write_generation(machine, err);

	if (ret < 0)
		return ret;
	/* An edge: it waits in the I/O APIC until the guest runs. */
	host->ops->set_line(host, LAYOUT_GENERATION_GSI, true);
	host->ops->set_line(host, LAYOUT_GENERATION_GSI, false);
	return 0;
}
