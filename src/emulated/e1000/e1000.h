/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel 82540EM gigabit Ethernet controller ("e1000"), as the PCI/PCI-X Family of Gigabit Ethernet
 * Controllers Software Developer's Manual (8254x) describes it.
 */
#ifndef DUET_EMULATED_E1000_E1000_H
#define DUET_EMULATED_E1000_E1000_H

#include "backend/net.h"
#include "bus/device.h"

struct e1000_options {
	struct net *net; /* belongs to the device, even when e1000_new() fails */
	uint8_t mac[6];  /* in the EEPROM */
};

/* Makes the device, not yet realized, named @name. */
int e1000_new(struct device **device, const char *name, const struct e1000_options *options,
	struct error *err);

#endif
