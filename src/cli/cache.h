/* SPDX-License-Identifier: Apache-2.0 */
/* Where unpacked kernels are kept unless the user says so. */
#ifndef DUET_CLI_CACHE_H
#define DUET_CLI_CACHE_H

#include "machine/config.h"

/* Unless it was said: ~/.cache/duet/kernels, or none when there is no home. */
void cache_choose(struct machine_config *config);

#endif
