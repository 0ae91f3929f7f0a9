/* SPDX-License-Identifier: Apache-2.0 */
/* The table of Intel's MultiProcessor Specification 1.4, for guests that do not use ACPI: CPUs, the
 * I/O APIC and who is wired to which of its pins. Written at LAYOUT_MPTABLE. Main thread. */
#ifndef DUET_X86_MPTABLE_H
#define DUET_X86_MPTABLE_H

#include "base/error.h"
#include "memory/memory.h"

struct mptable_config {
	unsigned cpus;  /* 1 to 64, APIC ids 0 to cpus - 1 */
	bool pic;       /* there are 8259s and a PIT */
	unsigned slots; /* of PCI bus 0: pin A of slot n is GSI 16 + n % 8 */
};

/* -ENOMEM, naming --memory, where there is no RAM. */
int mptable_write(struct memory *memory, const struct mptable_config *config, struct error *err);

#endif
