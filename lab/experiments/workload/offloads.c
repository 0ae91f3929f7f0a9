/* SPDX-License-Identifier: Apache-2.0 */
/* What `ethtool -K` and `-C` do: offloads and interrupt coalescing, all on or all off. */
#include "workload.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define COALESCE_USECS 3 /* of e1000: conservative, adapting */

static const struct {
	const char *name;
	uint32_t get, set;
} features[] = {
	/* In the order to switch on: segmentation needs checksums. */
	{"tx_checksum", ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM},
	{"rx_checksum", ETHTOOL_GRXCSUM, ETHTOOL_SRXCSUM},
	{"scatter_gather", ETHTOOL_GSG, ETHTOOL_SSG},
	{"tso", ETHTOOL_GTSO, ETHTOOL_STSO},
	{"gso", ETHTOOL_GGSO, ETHTOOL_SGSO},
	{"gro", ETHTOOL_GGRO, ETHTOOL_SGRO},
};

static int ask(int fd, const char *device, void *command)
{
	struct ifreq request = {.ifr_data = command};

	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	return ioctl(fd, SIOCETHTOOL, &request);
}

/* The driver's word for coalescing afterwards; -1 when it offers none. */
static int coalesce(int fd, const char *device, int on)
{
	struct ethtool_coalesce setting = {.cmd = ETHTOOL_GCOALESCE};

	if (ask(fd, device, &setting) < 0)
		return -1;
	setting.cmd = ETHTOOL_SCOALESCE;
	setting.rx_coalesce_usecs = on ? COALESCE_USECS : 0;
	if (ask(fd, device, &setting) < 0)
		return -1;
	setting.cmd = ETHTOOL_GCOALESCE;
	return ask(fd, device, &setting) < 0 ? -1 : (int)setting.rx_coalesce_usecs;
}

int offloads(char **args)
{
	const int on = strcmp(args[1], "on") == 0;
	const int fd = socket(AF_INET, SOCK_DGRAM, 0);

	printf("{\"coalesce_us\": %d", coalesce(fd, args[0], on));
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		struct ethtool_value value = {.cmd = features[i].set, .data = (uint32_t)on};

		ask(fd, args[0], &value); /* a driver without it says so below */
		value.cmd = features[i].get;
		if (ask(fd, args[0], &value) == 0)
			printf(", \"%s\": %u", features[i].name, value.data != 0);
	}
	puts("}");
	close(fd);
	return 0;
}
