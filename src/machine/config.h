/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine as its user described it. Plain data: filled and checked by the command line
 * (or an API), read by the machine. Strings belong to whoever filled it in and outlive the machine.
 */
#ifndef DUET_MACHINE_CONFIG_H
#define DUET_MACHINE_CONFIG_H

#include "backend/block.h"
#include "backend/net.h"
#include "base/error.h"
#include "kvm/kvm.h"
#include "x86/kernel.h"

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_CPUS_MAX  64
#define MACHINE_DISKS_MAX 16
#define MACHINE_NETS_MAX  8
#define MACHINE_IDE_MAX   4 /* of the disks: one controller */
#define MACHINE_VFIO_MAX  8

enum disk_model {
	DISK_VIRTIO,
	DISK_IDE,
};

struct disk_config {
	const char *path;
	enum disk_model model;
	bool readonly;
	enum block_cache cache;
	unsigned queues; /* virtio; 0: one */
	bool poll;       /* virtio: the ring is polled instead of waiting for kicks */
	uint64_t iops;   /* requests a second at most; 0: no limit */
};

enum net_model {
	NET_MODEL_VIRTIO,
	NET_MODEL_E1000,
};

struct net_config {
	enum net_kind kind;
	enum net_model model;
	const char *ifname;  /* tap */
	const char *forward; /* user */
	uint8_t mac[6];
	bool has_mac; /* else a random one */
	uint16_t mtu; /* 0: the driver's default */
	unsigned queues;
	bool offloads;
	bool vhost; /* virtio on tap: the host kernel moves the frames */
	bool poll;  /* virtio: the ring is polled instead of waiting for kicks */
};

struct vfio_config {
	const char *host; /* PCI address: domain:bus:device.function */
};

enum console_kind {
	CONSOLE_SERIAL, /* ttyS0 */
	CONSOLE_VIRTIO, /* hvc0, the kernel's early messages still through ttyS0 */
};

struct machine_config {
	const char *kernel, *initrd;
	const char *cmdline; /* the user's part, may be null */
	enum kernel_unpack unpack;
	const char *cache; /* directory for unpacked kernels, null: none */
	unsigned cpus;
	uint64_t memory; /* bytes */
	unsigned pv;     /* enum pv_feature bits */
	enum kvm_vm_irqchip irqchip;
	enum console_kind console;
	bool entropy;
	bool packed; /* offer packed rings */
	struct disk_config disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct net_config nets[MACHINE_NETS_MAX];
	unsigned net_count;
	struct vfio_config passed[MACHINE_VFIO_MAX];
	unsigned passed_count;
	const char *passt; /* program, null: from PATH */
	const char *stats; /* file, may be null */
	bool restart;      /* on a guest reset: true starts anew, false ends */
};

/* What holds for an empty command line. */
void machine_config_defaults(struct machine_config *config);

/* The complete kernel command line: what this machine needs, then the user's words, which win.
 * @tsc_khz: the guest's, 0 when unknown. -E2BIG when @buffer is too small. */
int machine_cmdline(const struct machine_config *config, unsigned tsc_khz, char *buffer,
	size_t size, struct error *err);

/* Whether @cmdline sets the parameter that @word sets (its part up to '='). */
bool machine_cmdline_has(const char *cmdline, const char *word);

#endif
