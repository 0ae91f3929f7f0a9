/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI function of the host in memory: what duet does with real hardware is seen and counted. */
#ifndef DUET_TESTS_VFIO_RIG_H
#define DUET_TESTS_VFIO_RIG_H

#include "fake_host.h"
#include "vfio/internal.h"

#define FAKE_BAR_SIZE 0x8000ULL

struct fake_function {
	struct vfio_hardware hardware; /* first */
	uint8_t config[PCI_CONFIG_SIZE];
	uint64_t sizes[PCI_BARS];                /* of the BARs, up to FAKE_BAR_SIZE; 0: none */
	uint8_t *memory[PCI_BARS];               /* of those */
	bool mappable;                           /* memory BARs as a whole */
	unsigned maps;                           /* now */
	uint8_t config_touched[PCI_CONFIG_SIZE]; /* bits that were ever written as 1 */
	enum vfio_interrupt_kind kind;           /* what is set up */
	int eventfds[2048];
	unsigned count;
	_Atomic unsigned unmasks;
	unsigned resets;
	int reset_result;
	int fail; /* negative errno for set_irqs, or as many as there are */
	bool closed;
};

/* A header with vendor 0x8086, device 0x10ca, no BAR and no capability. */
void fake_function_init(struct fake_function *fake);
void fake_function_free(struct fake_function *fake);
/* The bytes of a capability put at @at, in front of the chain. */
void fake_function_capability(
	struct fake_function *fake, unsigned at, const uint8_t *bytes, unsigned length);
/* The hardware's interrupt: signals what was set up for it. */
void fake_function_interrupt(struct fake_function *fake, unsigned vector);

#endif
