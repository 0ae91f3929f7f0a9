/* SPDX-License-Identifier: Apache-2.0 */
/* A small table of the System Management BIOS Reference Specification 3.0 (DMTF DSP0134): who made
 * the machine, and which one it is. At LAYOUT_SMBIOS, where guests without UEFI look for it. Main
 * thread. */
#ifndef DUET_X86_SMBIOS_H
#define DUET_X86_SMBIOS_H

#include "base/error.h"
#include "memory/memory.h"

#define SMBIOS_TEXT_MAX 64 /* characters */

struct smbios_config {
	const char *manufacturer, *product; /* at most SMBIOS_TEXT_MAX each */
	const char *serial;                 /* null: none */
	uint8_t uuid[16];                   /* in the order in which it is written */
};

/* -ENOMEM, naming --memory, where there is no RAM. */
int smbios_write(struct memory *memory, const struct smbios_config *config, struct error *err);

#endif
