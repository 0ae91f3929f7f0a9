/* SPDX-License-Identifier: Apache-2.0 */
/* What /sys says of a host function: its driver and its IOMMU group. */
#include "base/checked.h"
#include "vfio/internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"

/* The last part of what the link @name of function @host points to; "" when there is none. */
static void link_name(const char *host, const char *name, char *text, size_t size)
{
	char path[128], target[PATH_MAX];
	const char *slash;
	ssize_t length;

	text[0] = 0;
	snprintf(path, sizeof(path), DEVICES "/%s/%s", host, name);
	length = readlink(path, target, sizeof(target) - 1);
	if (length <= 0)
		return;
	target[length] = 0;
	slash = strrchr(target, '/');
	snprintf(text, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
}

static int check_present(const char *host, struct error *err)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "/%s", host);
	if (access(path, F_OK) == 0)
		return 0;
	return error_set(err, ENODEV,
		"--device vfio,host=%s: this host has no such PCI function; lspci -D shows those "
		"that it has",
		host);
}

static int check_driver(const char *host, struct error *err)
{
	char driver[64];

	link_name(host, "driver", driver, sizeof(driver));
	if (strcmp(driver, "vfio-pci") == 0)
		return 0;
	if (driver[0])
		return error_set(err, EBUSY,
			"--device vfio,host=%s: it belongs to the driver %s; hand it over: "
			"cd " DEVICES
			"/%s; echo vfio-pci >driver_override; echo %s >driver/unbind; "
			"echo %s >/sys/bus/pci/drivers_probe",
			host, driver, host, host, host);
	return error_set(err, EBUSY,
		"--device vfio,host=%s: no driver has it; hand it over: modprobe vfio-pci; echo "
		"vfio-pci >" DEVICES "/%s/driver_override; echo %s >/sys/bus/pci/drivers_probe",
		host, host, host);
}

int vfio_sysfs_group(const char *host, unsigned *group, struct error *err)
{
	char name[32];
	char *end;
	int ret = check_present(host, err);

	if (ret < 0)
		return ret;
	link_name(host, "iommu_group", name, sizeof(name));
	*group = (unsigned)strtoul(name, &end, 10);
	if (!name[0] || *end)
		return error_set(err, ENODEV,
			"--device vfio,host=%s: no IOMMU translates for it; switch the IOMMU on in "
			"the firmware and boot the host with intel_iommu=on or amd_iommu=on",
			host);
	ret = check_driver(host, err);
	if (ret == 0 && access("/dev/vfio/vfio", F_OK) < 0)
		ret = error_set(err, ENODEV,
			"--device vfio,host=%s: /dev/vfio/vfio is absent; modprobe vfio-pci", host);
	return ret;
}

/* Drivers with which a group stays viable: those of VFIO, stubs, and bridges' own. */
static bool harmless(const char *driver)
{
	static const char *const names[] = {"", "vfio-pci", "pci-stub", "pcieport"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(driver, names[i]) == 0)
			return true;
	return false;
}

void vfio_sysfs_others(unsigned group, const char *host, char *text, size_t size)
{
	char path[64], driver[64];
	struct dirent *entry;
	size_t length = 0;
	DIR *dir;

	text[0] = 0;
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%u/devices", group);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, host) == 0)
			continue;
		link_name(entry->d_name, "driver", driver, sizeof(driver));
		if (harmless(driver) || length >= size)
			continue;
		length += (size_t)snprintf(text + length, size - length, "%s%s (driver %s)",
			length ? ", " : "", entry->d_name, driver);
	}
	if (dir)
		closedir(dir);
}
