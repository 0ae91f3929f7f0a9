/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/mac.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

void machine_mac(const struct net_config *net, unsigned index, uint8_t mac[6])
{
	if (net->has_mac) {
		memcpy(mac, net->mac, 6);
		return;
	}
	if (getrandom(mac, 6, GRND_NONBLOCK) != 6) {
		/* Before the host has entropy: still different in each machine of this host. */
		pid_t pid = getpid();

		memcpy(mac, &pid, 4);
		mac[4] = (uint8_t)index;
		mac[5] = 0;
	}
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02);
}
