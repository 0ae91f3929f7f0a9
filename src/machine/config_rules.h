/* SPDX-License-Identifier: Apache-2.0 */
/* The rules between fields, and what they say to the user. */
#ifndef DUET_MACHINE_CONFIG_RULES_H
#define DUET_MACHINE_CONFIG_RULES_H

#include "machine/config.h"

/*
 * Says where @device was described, "--disk disk0: " or "FILE:12: disk0: " (12: where its @field
 * is; null: the device), then the words. In these "{queues}" and "{model=ide}" become what one
 * writes there: queues= and model=ide, or "queues" and "model": "ide"; so they hold no user's text,
 * which may have braces. Returns -EINVAL.
 */
int config_refuse(const struct machine_config *config, const struct device_config *device,
	const char *field, struct error *err, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* The same of a field of the machine's own: "--numa: " or "FILE:3: numa: "; "{cpus=2}" becomes
 * --cpus 2 or "cpus": 2. @name is a field's. */
int config_refuse_own(const struct machine_config *config, const char *name, struct error *err,
	const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The rules for each device and for their number, ids known. */
int config_check(const struct machine_config *config, struct error *err);

#endif
