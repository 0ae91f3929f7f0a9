/* SPDX-License-Identifier: Apache-2.0 */
/* MAC addresses for network devices that were given none. */
#ifndef DUET_MACHINE_MAC_H
#define DUET_MACHINE_MAC_H

#include "machine/config.h"

/* The user's address, or a random locally administered unicast one: two machines on one bridge must
 * not meet. */
void machine_mac(const struct net_config *net, unsigned index, uint8_t mac[6]);

#endif
