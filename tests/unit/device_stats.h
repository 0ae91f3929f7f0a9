/* SPDX-License-Identifier: Apache-2.0 */
/* One counter of those that a device tells in its statistics. */
#ifndef DUET_TESTS_DEVICE_STATS_H
#define DUET_TESTS_DEVICE_STATS_H

#include "bus/device.h"

/* The counter @name of @group (null: the device's own). Fails the test when there is none. */
uint64_t device_stat(struct device *device, const char *group, const char *name);
/* 0 when there is none: of registers a device may tell only those that were accessed. */
uint64_t device_stat_or_zero(struct device *device, const char *group, const char *name);

#endif
