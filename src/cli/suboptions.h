/* SPDX-License-Identifier: Apache-2.0 */
/* Options with parts: --disk path=F,..., --net tap,ifname=T,..., --device TYPE,NAME=VALUE,... */
#ifndef DUET_CLI_SUBOPTIONS_H
#define DUET_CLI_SUBOPTIONS_H

#include "machine/config.h"

/* Adds the device that --@name @value describes; @name, of @length bytes, is disk, net, balloon,
 * vsock or device; the value may be empty where a type's option needs none.
 */
int suboptions_add(struct machine_config *config, const char *name, size_t length,
	const char *value, struct error *err);

#endif
