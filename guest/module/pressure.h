/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's pressure figures, which no exported symbol has: read where user space reads them. */
#ifndef DUET_MODULE_PRESSURE_H
#define DUET_MODULE_PRESSURE_H

#include <linux/types.h>

#define DUET_PRESSURES 6

/* A kernel without them gives zeroes. May sleep; one caller at a time. */
void duet_pressure_open(void);
void duet_pressure_read(u32 pressure[DUET_PRESSURES]);
void duet_pressure_close(void);

#endif
