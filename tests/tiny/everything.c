/* SPDX-License-Identifier: Apache-2.0 */
#include "everything.h"

#include "../unit/tap_rig.h"
#include "tiny.h"

#include <string.h>
#include <unistd.h>

static char disks[2][32] = {"/tmp/duet-every-XXXXXX", "/tmp/duet-every-XXXXXX"};
static char sock[48];
static bool networks;

void everything_open(void)
{
	for (unsigned i = 0; i < 2; i++) {
		int fd = mkstemp(disks[i]);

		CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
		close(fd);
	}
	snprintf(sock, sizeof(sock), "%s.vsock", disks[0]);
	networks = tap_rig_namespace() && tap_rig_make("duet0", 0, 1500) &&
		   tap_rig_make("duet1", 0, 1500);
	if (!networks)
		printf("without networks: a tap needs root and /dev/net/tun\n");
}

void everything_close(void)
{
	unlink(disks[0]);
	unlink(disks[1]);
}

static void add_disk(struct machine_config *config, const char *path, enum disk_model model)
{
	struct device_config *device = machine_config_add(config, DEVICE_DISK);

	device->disk.path = strdup(path);
	device->disk.model = model;
}

static void add_net(struct machine_config *config, const char *tap, enum net_model model)
{
	struct device_config *device = machine_config_add(config, DEVICE_NET);

	device->net.kind = NET_TAP;
	device->net.ifname = strdup(tap);
	device->net.model = model;
	device->net.mtu = model == NET_MODEL_VIRTIO ? 1400 : 0;
}

void everything_add(struct machine_config *config)
{
	config->console = CONSOLE_VIRTIO;
	config->keyboard = true;
	config->pmu = PMU_PV;
	add_disk(config, disks[0], DISK_VIRTIO);
	add_disk(config, disks[1], DISK_IDE);
	if (networks) {
		add_net(config, "duet0", NET_MODEL_VIRTIO);
		add_net(config, "duet1", NET_MODEL_E1000);
	}
	machine_config_add(config, DEVICE_BALLOON)->balloon.size = 1 << 20;
	machine_config_add(config, DEVICE_VSOCK)->vsock.path = strdup(sock);
	machine_config_add(config, DEVICE_COOP);
}

unsigned everything_virtio(void)
{
	return networks ? 7 : 6; /* disk, console, entropy, balloon, vsock, coop; net */
}
