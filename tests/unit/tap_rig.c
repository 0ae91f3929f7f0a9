/* SPDX-License-Identifier: Apache-2.0 */
#include "tap_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

extern unsigned if_nametoindex(const char *name); /* <net/if.h> clashes with <linux/if.h> */

bool tap_rig_namespace(void)
{
	return unshare(CLONE_NEWNET) == 0;
}

bool tap_rig_make(const char *ifname, int flags, int mtu)
{
	struct ifreq request = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), control;
	bool made;

	strcpy(request.ifr_name, ifname);
	made = fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0;
	if (fd >= 0)
		close(fd);
	control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	request.ifr_mtu = mtu;
	made = made && ioctl(control, SIOCSIFMTU, &request) == 0;
	request.ifr_flags = IFF_UP;
	made = made && ioctl(control, SIOCSIFFLAGS, &request) == 0;
	close(control);
	return made;
}

bool tap_rig_await_link(const char *ifname)
{
	struct ifreq request = {0};
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool running = false;

	strcpy(request.ifr_name, ifname);
	for (unsigned i = 0; i < TAP_RIG_PATIENCE_MS && !running; i++) {
		usleep(1000);
		running = ioctl(control, SIOCGIFFLAGS, &request) == 0 &&
			  (request.ifr_flags & IFF_RUNNING);
	}
	close(control);
	return running;
}

int tap_rig_socket(const char *ifname)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
		.sll_protocol = htons(TAP_RIG_ETHERTYPE),
		.sll_ifindex = (int)if_nametoindex(ifname)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TAP_RIG_ETHERTYPE));

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

bool tap_rig_segments(const char *ifname)
{
	struct ethtool_value value = {.cmd = ETHTOOL_GTSO};
	struct ifreq request = {.ifr_data = (void *)&value};
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool asked;

	strcpy(request.ifr_name, ifname);
	asked = ioctl(control, SIOCETHTOOL, &request) == 0;
	close(control);
	return asked && value.data;
}

unsigned tap_rig_index(const char *ifname)
{
	return if_nametoindex(ifname);
}
