/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine as its user described it: plain data, which owns its strings. The command line,
 * a JSON file and the API fill it in by the table of fields (machine/fields.h); the rules between
 * fields are checked here; the machine reads it.
 *
 * Each device is a record with a stable id and PCI slot, so that neither the order on a command
 * line nor a new type of device renumbers anything. What is decided at a machine's first start
 * (slots, MAC addresses, offered features) is written into its records then.
 *
 * Any thread, one at a time.
 */
#ifndef DUET_MACHINE_CONFIG_H
#define DUET_MACHINE_CONFIG_H

#include "backend/block.h"
#include "backend/net.h"
#include "base/bucket.h"
#include "base/error.h"
#include "kvm/kvm.h"
#include "x86/kernel.h"

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_CPUS_MAX    64
#define MACHINE_IDE_MAX     4 /* of the disks: one controller */
#define MACHINE_MEMORY_MIN  (16ULL << 20)
#define MACHINE_MEMORY_MAX  (1ULL << 40)
#define MACHINE_SHARE_MAX   10000
#define MACHINE_SLOTS       32 /* of the PCI bus; 0 is the host bridge's */
#define MACHINE_ID_SIZE     65 /* the null included; as Firecracker's clients have them */
#define MACHINE_DEVICES_MAX 64 /* records; more than there are slots and drives */
#define MACHINE_FIELDS_MAX  40 /* of a machine, and of a device: see machine/fields.h */
#define DEVICE_FIELDS_MAX   32 /* bits of cli/suboptions.c's */

enum disk_model {
	DISK_VIRTIO,
	DISK_IDE,
};

struct disk_config {
	char *path;
	enum disk_model model;
	bool readonly;
	enum block_cache cache;
	unsigned queues;              /* virtio; 0: one */
	bool poll;                    /* virtio: the ring is polled instead of waiting for kicks */
	struct bucket_limit iops, bw; /* requests and bytes; amounts of 0: no limit */
	unsigned drive; /* ide: 1 to 4, its place at the controller; 0: the next free one */
};

enum net_model {
	NET_MODEL_VIRTIO,
	NET_MODEL_E1000,
};

struct mac_address {
	uint8_t bytes[6];
	bool given; /* else a random one at the first start */
};

/* What becomes of frames that no rule is for. */
enum net_rules_default {
	NET_RULES_ALLOW,
	NET_RULES_DENY,
};

struct net_config {
	enum net_kind kind;
	enum net_model model;
	char *ifname;  /* tap */
	char *forward; /* user */
	struct mac_address mac;
	unsigned mtu; /* 0: the driver's default */
	unsigned queues;
	bool offloads;
	bool standby; /* virtio: of a passed-through function with the same MAC */
	bool vhost;   /* virtio on tap: the host kernel moves the frames */
	bool poll;    /* virtio: the ring is polled instead of waiting for kicks */
	/* The policy, which may change while the guest runs (machine_change_device()). */
	struct bucket_limit rx_rate, tx_rate; /* bytes to and from the guest; 0: no limit */
	struct bucket_limit rx_pps, tx_pps;   /* packets */
	bool mac_check;                       /* it sends from @mac alone */
	char *ip;                             /* addresses it sends from alone, "A+B"; null: any */
	char *rules;                          /* JSON as machine/net_policy.h has it; null: none */
	enum net_rules_default rules_default;
};

struct vfio_config {
	char *host; /* PCI address: domain:bus:device.function */
};

struct balloon_config {
	uint64_t size; /* bytes to take from the guest at first */
	bool deflate_on_oom;
	unsigned stats; /* seconds between the guest's statistics; 0: the first alone */
	bool reporting, hinting;
};

struct vsock_config {
	char *path;   /* the unix socket that the host's programs connect to */
	unsigned cid; /* the guest's */
};

/* What the cooperation device offers. */
struct coop_config {
	bool hints, time, yield, copy, counters;
};

/* In the order in which slots are given to those that have none. */
enum device_type {
	DEVICE_DISK,
	DEVICE_IDE, /* the controller of the disks with model=ide; comes with the first of them */
	DEVICE_NET,
	DEVICE_CONSOLE,
	DEVICE_ENTROPY,
	DEVICE_VFIO,
	DEVICE_BALLOON,
	DEVICE_VSOCK,
	DEVICE_COOP,
	DEVICE_TYPES,
};

struct device_config {
	enum device_type type;
	char id[MACHINE_ID_SIZE]; /* names it in statistics, messages and saved state */
	unsigned slot;     /* PCI device number, 0: the next free one. None for an IDE disk */
	uint64_t features; /* virtio: what it offers at most; 0: whatever it can */
	unsigned line;     /* of machine_config.file; 0: from the command line */
	/* ... where each of its fields stands, by device_field_number(); 0: it is not there. */
	unsigned lines[DEVICE_FIELDS_MAX];
	union {
		struct disk_config disk;
		struct net_config net;
		struct vfio_config vfio;
		struct balloon_config balloon;
		struct vsock_config vsock;
		struct coop_config coop;
	};
};

enum console_kind {
	CONSOLE_SERIAL, /* ttyS0 */
	CONSOLE_VIRTIO, /* hvc0, the kernel's early messages still through ttyS0 */
};

enum ring_kind {
	RING_SPLIT,
	RING_PACKED, /* offered beside split */
};

enum reset_kind {
	RESET_RESTART, /* a guest that resets starts anew */
	RESET_EXIT,    /* ... ends its machine */
};

enum pmu_kind {
	PMU_OFF,
	PMU_PV,     /* the host counts for each vCPU (machine/counters.h) */
	PMU_PASS,   /* KVM's vPMU */
	PMU_FILTER, /* ... for events of the guest's own work alone */
};

enum profile_kind {
	PROFILE_HOST,       /* all that there is */
	PROFILE_MIGRATABLE, /* nothing that ties the guest to one frequency of the TSC */
};

/* The clock of a guest that was saved, when it goes on. */
enum clock_kind {
	CLOCK_HOST,    /* as if it had run meanwhile */
	CLOCK_STOPPED, /* where it was */
};

/* By what it is known which pages are written to, while somebody wants to know. */
enum dirty_kind {
	DIRTY_LOG,  /* KVM's bitmaps */
	DIRTY_RING, /* a ring for each vCPU, where KVM has them: it tells who writes, too */
};

struct machine_uuid {
	uint8_t bytes[16]; /* in the order in which it is written */
	bool given;        /* else a random one at the first start */
};

struct machine_config {
	char *kernel, *initrd;
	char *cmdline; /* the user's part */
	enum kernel_unpack unpack;
	char *cache; /* directory for unpacked kernels; "off": none */
	unsigned cpus;
	uint64_t memory; /* bytes */
	/* The guest's nodes, which have as many vCPUs and as much memory each (machine/numa.h). */
	unsigned numa, numa_distance;
	char *numa_host; /* the host's node for the memory of each, "0+1"; null: any */
	unsigned pv;     /* enum pv_feature bits */
	enum kvm_vm_irqchip irqchip;
	char *cpu_config; /* what it is not shown of its CPU: x86/cpu_changes.h; null: nothing */
	/* What the guest finds in its SMBIOS table. */
	char *manufacturer, *product, *serial_number;
	struct machine_uuid uuid;
	enum pmu_kind pmu;
	/* What it is shown of the host's clocks. */
	enum profile_kind profile;
	unsigned tsc_khz; /* of its TSC; 0: the host's. Decided at the first start */
	enum clock_kind clock;
	enum dirty_kind dirty;
	bool nested; /* the guest may run guests of its own: it sees SVM or VMX */
	enum console_kind console;
	bool entropy;
	bool keyboard; /* a PS/2 keyboard, for Ctrl-Alt-Del */
	enum ring_kind ring;
	struct bucket_limit entropy_bw, entropy_ops; /* of that device; 0: no limit */
	char *passt;                                 /* program, null: from PATH */
	char *stats;                                 /* file */
	enum reset_kind on_reset;
	unsigned
		share; /* of the host, against other machines' (docs/duetd.md): duet passes it on */
	char *file;    /* that it was read from, for messages */
	/* Where each field stands in it, in the order of machine_fields; 0: it is not there. */
	unsigned lines[MACHINE_FIELDS_MAX];
	struct device_config *devices;
	unsigned device_count;
};

/* In machine_config.lines: an option has said it, whatever the file says. */
#define MACHINE_LINE_OPTION (~0U)

/* What holds for an empty command line. */
void machine_config_init(struct machine_config *config);
void machine_config_free(struct machine_config *config);
/* -ENOMEM. @to is initialised by it. */
int machine_config_copy(struct machine_config *to, const struct machine_config *from);

/* A new record with its type's defaults, behind the others; null: no memory. Valid until the next
 * one is added. */
struct device_config *machine_config_add(struct machine_config *config, enum device_type type);
/* The @nth record of a type; null behind the last. */
struct device_config *machine_config_device(
	const struct machine_config *config, enum device_type type, unsigned nth);
/* Null: there is none of the id. */
struct device_config *machine_config_find(const struct machine_config *config, const char *id);
/* Those behind it move up. */
void machine_config_remove(struct machine_config *config, struct device_config *device);
bool device_is_virtio(const struct device_config *device);

/* Checks the rules between fields, adds the devices that follow from others, and decides what is
 * left open: ids, slots, places of drives, MAC addresses. A second time it changes nothing.
 * A device that follows from others goes when it no longer does; one that the file itself
 * contradicts is refused. Messages name the option, or the line. */
int machine_config_complete(struct machine_config *config, struct error *err);

/*
 * JSON: {"duet": 1, "kernel": "...", ..., "devices": [{"type": "disk", "id": "disk0", ...}, ...]}.
 * write: all that differs from the defaults, to be freed; -EILSEQ: a name that is no UTF-8 cannot
 * be written. read: over what @config holds; messages name the field and the line of @name. @text
 * is
 * @length bytes long.
 */
#define MACHINE_CONFIG_VERSION 1
#define MACHINE_CONFIG_MAX     (1U << 20) /* bytes of JSON */
int machine_config_write(const struct machine_config *config, char **text, struct error *err);
int machine_config_read(struct machine_config *config, const char *text, size_t length,
	const char *name, struct error *err);
int machine_config_read_file(struct machine_config *config, const char *path, struct error *err);

/* @config came from another host: what is this host's is as @own says, or as it came where @own
 * does not say it: paths of disks, of vsock's socket, of kernel and initrd; networks' back ends.
 * Never as it came: the programs and files that duet itself uses. Devices of @own stand for those
 * of the same id, or else of the same place among their type. */
int machine_config_take_places(
	struct machine_config *config, const struct machine_config *own, struct error *err);
/* -EINVAL: a device that is nowhere on a host, of which @own may say nothing. */
int machine_config_check_place(const struct device_config *device, struct error *err);

/* The complete kernel command line: what this machine needs, then the user's words, which win.
 * @tsc_khz: the guest's, 0 when unknown. -E2BIG when @buffer is too small. */
int machine_cmdline(const struct machine_config *config, unsigned tsc_khz, char *buffer,
	size_t size, struct error *err);

/* Whether @cmdline sets the parameter that @word sets (its part up to '='). */
bool machine_cmdline_has(const char *cmdline, const char *word);

#endif
