/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to configure. */
#include "machine/fields.h"

#include "base/checked.h"
#include "virtio/devices.h"
#include "x86/acpi.h"
#include "x86/smbios.h"

#include <string.h>

/* By enum pmu_kind. */
const char *const pmu_words[] = {"off", "pv", "pass", "filter", NULL};

/* KVM takes what it is given; a processor of today is well within. */
#define TSC_KHZ_MIN 100000
#define TSC_KHZ_MAX 10000000

#define LIMIT_BYTES_MAX   (1ULL << 40)
#define LIMIT_PACKETS_MAX 100000000

#define IN_MACHINE(member) offsetof(struct machine_config, member)
#define IN_DEVICE(member)  offsetof(struct device_config, member)

static const char *const unpack_words[] = {"host", "guest", NULL};
static const char *const irqchip_words[] = {"kernel", "split", NULL};
static const char *const profile_words[] = {"host", "migratable", NULL};
static const char *const clock_words[] = {"host", "stopped", NULL};
static const char *const dirty_words[] = {"log", "ring", NULL};
static const char *const reset_words[] = {"restart", "exit", NULL};
static const char *const console_words[] = {"serial", "virtio", NULL};
static const char *const ring_words[] = {"split", "packed", NULL};
static const char *const disk_models[] = {"virtio", "ide", NULL};
static const char *const cache_words[] = {"writeback", "direct", NULL};
static const char *const net_kinds[] = {"tap", "user", NULL};
static const char *const default_words[] = {"allow", "deny", NULL};
static const char *const net_models[] = {"virtio", "e1000", NULL};

static const struct field machine_table[] = {
	{.section = "Kernel",
		.name = "kernel",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(kernel),
		.value = "FILE",
		.help = "Linux bzImage or uncompressed ELF vmlinux"},
	{.name = "initrd",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(initrd),
		.value = "FILE",
		.help = "initial RAM disk"},
	{.name = "cmdline",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(cmdline),
		.value = "STR",
		.may_be_empty = true,
		.help = "words added to the kernel command line"},
	{.name = "kernel-unpack",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(unpack),
		.words = unpack_words,
		.fallback = "host",
		.help = "host: duet unpacks a bzImage, once;\n"
			"guest: the kernel's own decompressor"},
	{.name = "cache",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(cache),
		.value = "DIR|off",
		.unset = "~/.cache/duet/kernels",
		.help = "where unpacked kernels are kept"},
	{.section = "Machine",
		.name = "cpus",
		.kind = FIELD_NUMBER,
		.offset = IN_MACHINE(cpus),
		.least = 1,
		.most = MACHINE_CPUS_MAX,
		.fallback = "1",
		.help = "virtual CPUs"},
	{.name = "memory",
		.kind = FIELD_SIZE,
		.offset = IN_MACHINE(memory),
		.least = MACHINE_MEMORY_MIN,
		.most = MACHINE_MEMORY_MAX,
		.fallback = "512M",
		.help = "guest RAM, for example 512M or 4G"},
	{.name = "numa",
		.kind = FIELD_NUMBER,
		.offset = IN_MACHINE(numa),
		.least = 1,
		.most = ACPI_NODES_MAX,
		.value = "NODES",
		.fallback = "1",
		.help = "NUMA nodes that the guest sees; vCPUs and memory are divided evenly"},
	{.name = "numa-distance",
		.kind = FIELD_NUMBER,
		.offset = IN_MACHINE(numa_distance),
		.least = 11,
		.most = 254,
		.fallback = "20",
		.help = "from one of them to another, where 10 is within one"},
	{.name = "numa-host",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(numa_host),
		.value = "NODE[+NODE]...",
		.unset = "any",
		.help = "the host's node that the memory of each is taken\n"
			"from while it has some, for example 0+1"},
	{.name = "pv",
		.kind = FIELD_PV,
		.offset = IN_MACHINE(pv),
		.value = "LIST",
		.fallback = "clock,steal,eoi,unhalt,tlbflush,ipi,yield,asyncpf,poll",
		.unset = "all",
		.help = "KVM's paravirtual features: clock, steal, eoi, unhalt, tlbflush, ipi, "
			"yield, asyncpf, poll; or none; -NAME takes one away"},
	{.name = "irqchip",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(irqchip),
		.words = irqchip_words,
		.fallback = "split",
		.help = "split: I/O APIC in duet; kernel: all in KVM"},
	{.name = "nested",
		.kind = FIELD_SWITCH,
		.offset = IN_MACHINE(nested),
		.fallback = "off",
		.help = "whether the guest sees SVM or VMX, to run guests of its own"},
	{.name = "pmu",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(pmu),
		.words = pmu_words,
		.fallback = "off",
		.help = "performance counters: pv: the host counts, the\n"
			"guest's module duet shows them (with --coop); pass:\n"
			"KVM's PMU; filter: that, of the guest's own work alone"},
	{.name = "cpu-config",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(cpu_config),
		.value = "CHANGES",
		.unset = "none",
		.help = "CPUID bits taken away and MSR bits changed, joined by +:\n"
			"cpuid:LEAF:SUBLEAF:REGISTER:FILTER:VALUE or\n"
			"msr:INDEX:FILTER:VALUE, for example\n"
			"cpuid:0x7:0x0:ebx:0x10000:0x0+msr:0x10a:0x8:0x0"},
	{.name = "profile",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(profile),
		.words = profile_words,
		.fallback = "host",
		.help = "migratable: nothing that ties the guest to one\n"
			"frequency of the TSC (invariant TSC, deadline timer)"},
	{.name = "tsc-khz",
		.kind = FIELD_NUMBER,
		.offset = IN_MACHINE(tsc_khz),
		.value = "KHZ",
		.least = TSC_KHZ_MIN,
		.most = TSC_KHZ_MAX,
		.unset = "the host's",
		.help = "frequency of the guest's TSC, scaled where KVM can"},
	{.name = "clock",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(clock),
		.words = clock_words,
		.fallback = "host",
		.help = "of a guest that was saved and goes on: host: time has\n"
			"passed meanwhile; stopped: none has"},
	{.name = "dirty",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(dirty),
		.words = dirty_words,
		.fallback = "log",
		.help = "how a move or snapshot learns what is written: log: by\n"
			"KVM's bitmaps; ring: by a ring of 64 KiB for each vCPU,\n"
			"so that a move slows down those that write alone; KVM\n"
			"without rings: log, with a warning"},
	{.name = "on-reset",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(on_reset),
		.words = reset_words,
		.fallback = "restart",
		.help = "what to do when the guest resets"},
	{.name = "share",
		.kind = FIELD_NUMBER,
		.offset = IN_MACHINE(share),
		.least = 1,
		.most = MACHINE_SHARE_MAX,
		.fallback = "100",
		.help = "its weight against the host's other machines, for duetd"},
	{.section = "What the guest is told of its machine (SMBIOS)",
		.name = "uuid",
		.kind = FIELD_UUID,
		.offset = IN_MACHINE(uuid),
		.unset = "a random one",
		.help = "the machine's UUID"},
	{.name = "serial-number",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(serial_number),
		.most = SMBIOS_TEXT_MAX,
		.unset = "none",
		.help = "its serial number"},
	{.name = "manufacturer",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(manufacturer),
		.most = SMBIOS_TEXT_MAX,
		.fallback = "duet",
		.help = "its manufacturer"},
	{.name = "product",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(product),
		.most = SMBIOS_TEXT_MAX,
		.fallback = "virtual machine",
		.help = "its name"},
	{.section = "Devices",
		.name = "console",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(console),
		.words = console_words,
		.fallback = "serial",
		.help = "serial: ttyS0; virtio: hvc0"},
	{.name = "entropy",
		.kind = FIELD_SWITCH,
		.offset = IN_MACHINE(entropy),
		.fallback = "on",
		.help = "random number device"},
	{.name = "entropy-bw",
		.kind = FIELD_LIMIT,
		.offset = IN_MACHINE(entropy_bw),
		.least = 1,
		.most = LIMIT_BYTES_MAX,
		.unset = "no limit",
		.help = "its bytes a second at most; N[/TIME][+BURST[+ONCE]]"},
	{.name = "entropy-ops",
		.kind = FIELD_LIMIT,
		.offset = IN_MACHINE(entropy_ops),
		.least = 1,
		.most = LIMIT_PACKETS_MAX,
		.unset = "no limit",
		.help = "its requests a second at most"},
	{.name = "keyboard",
		.kind = FIELD_SWITCH,
		.offset = IN_MACHINE(keyboard),
		.fallback = "off",
		.help = "PS/2 keyboard, for Ctrl-Alt-Del"},
	{.name = "ring",
		.kind = FIELD_WORD,
		.offset = IN_MACHINE(ring),
		.words = ring_words,
		.fallback = "split",
		.help = "virtio rings offered"},
	{.name = "passt",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(passt),
		.value = "PROGRAM",
		.unset = "from PATH",
		.help = "the passt to run"},
	{.section = "Reports",
		.name = "stats",
		.kind = FIELD_TEXT,
		.offset = IN_MACHINE(stats),
		.value = "FILE",
		.help = "JSON with exits, requests, bytes; at the end and on SIGUSR1"},
};

const struct field_set machine_fields = {machine_table, ARRAY_SIZE(machine_table)};
_Static_assert(ARRAY_SIZE(machine_table) <= MACHINE_FIELDS_MAX, "each has its line");

static const struct field device_table[] = {
	{.name = "id",
		.kind = FIELD_ID,
		.offset = IN_DEVICE(id),
		.unset = "its kind and a number",
		.help = "its name in statistics and messages"},
	{.name = "slot",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(slot),
		.most = MACHINE_SLOTS - 1,
		.unset = "the next free one",
		.least = 1,
		.help = "PCI device number; not of an IDE disk"},
	{.name = "features",
		.kind = FIELD_BITS,
		.offset = IN_DEVICE(features),
		.fallback = "0x0",
		.unset = "all that it has",
		.help = "of a virtio device: the features offered"},
};

const struct field_set device_fields = {device_table, ARRAY_SIZE(device_table)};

#define QUEUES_MAX 8

static const struct field disk_table[] = {
	{.name = "path",
		.kind = FIELD_TEXT,
		.offset = IN_DEVICE(disk.path),
		.value = "FILE",
		.help = "raw file or block device; a comma is written ,,"},
	{.name = "model",
		.kind = FIELD_WORD,
		.offset = IN_DEVICE(disk.model),
		.words = disk_models,
		.fallback = "virtio",
		.help = "ide: the PIIX that old systems know"},
	{.name = "readonly",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(disk.readonly),
		.fallback = "off",
		.help = "the guest may only read"},
	{.name = "cache",
		.kind = FIELD_WORD,
		.offset = IN_DEVICE(disk.cache),
		.words = cache_words,
		.fallback = "writeback",
		.help = "writeback: the host's page cache; direct: past it"},
	{.name = "queues",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(disk.queues),
		.least = 1,
		.most = QUEUES_MAX,
		.unset = "1",
		.help = "of a virtio disk"},
	{.name = "poll",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(disk.poll),
		.fallback = "off",
		.help = "look at the ring instead of waiting for kicks"},
	{.name = "iops",
		.kind = FIELD_LIMIT,
		.offset = IN_DEVICE(disk.iops),
		.least = 1,
		.most = 1000000,
		.unset = "no limit",
		.help = "requests a second at most; N[/TIME][+BURST[+ONCE]]"},
	{.name = "bw",
		.kind = FIELD_LIMIT,
		.offset = IN_DEVICE(disk.bw),
		.least = 1,
		.most = LIMIT_BYTES_MAX,
		.unset = "no limit",
		.help = "bytes read and written a second at most, for example 50M, or 50M+4M+1G"},
	{.name = "drive",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(disk.drive),
		.least = 1,
		.most = MACHINE_IDE_MAX,
		.unset = "the next free one",
		.help = "place of an IDE disk at the controller"},
};

static const struct field net_table[] = {
	{.name = "kind",
		.kind = FIELD_WORD,
		.offset = IN_DEVICE(net.kind),
		.words = net_kinds,
		.help = "user: through a passt process, no privileges needed;\n"
			"tap: an existing tap interface"},
	{.name = "ifname",
		.kind = FIELD_TEXT,
		.offset = IN_DEVICE(net.ifname),
		.value = "NAME",
		.most = 15,
		.help = "tap: the interface"},
	{.name = "model",
		.kind = FIELD_WORD,
		.offset = IN_DEVICE(net.model),
		.words = net_models,
		.fallback = "virtio",
		.help = "e1000: the 82540EM that old systems know"},
	{.name = "mac",
		.kind = FIELD_MAC,
		.offset = IN_DEVICE(net.mac),
		.unset = "a random one",
		.help = "the guest's address"},
	{.name = "mtu",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(net.mtu),
		.least = 68,
		.most = 65535,
		.unset = "the driver's",
		.help = "largest packet, of virtio"},
	{.name = "queues",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(net.queues),
		.least = 1,
		.most = QUEUES_MAX,
		.unset = "1",
		.help = "pairs of queues, of a tap"},
	{.name = "offloads",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(net.offloads),
		.fallback = "on",
		.help = "checksums and segmentation, of a tap"},
	{.name = "standby",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(net.standby),
		.fallback = "off",
		.help = "takes over from a passed-through function of the same mac; give mac= too"},
	{.name = "forward",
		.kind = FIELD_TEXT,
		.offset = IN_DEVICE(net.forward),
		.value = "PORTS",
		.help = "user: TCP ports to forward, in passt's words"},
	{.name = "vhost",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(net.vhost),
		.fallback = "off",
		.help = "tap: the host's kernel moves the frames"},
	{.name = "poll",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(net.poll),
		.fallback = "off",
		.help = "look at the rings instead of waiting for kicks"},
	{.name = "rx-rate",
		.kind = FIELD_LIMIT,
		.offset = IN_DEVICE(net.rx_rate),
		.least = 1,
		.most = LIMIT_BYTES_MAX,
		.unset = "no limit",
		.help = "bytes a second to the guest; N[/TIME][+BURST[+ONCE]]"},
	{.name = "rx-pps",
		.kind = FIELD_LIMIT,
		.offset = IN_DEVICE(net.rx_pps),
		.least = 1,
		.most = LIMIT_PACKETS_MAX,
		.unset = "no limit",
		.help = "packets a second to the guest"},
	{.name = "tx-rate",
		.kind = FIELD_LIMIT,
		.offset = IN_DEVICE(net.tx_rate),
		.least = 1,
		.most = LIMIT_BYTES_MAX,
		.unset = "no limit",
		.help = "bytes a second from the guest"},
	{.name = "tx-pps",
		.kind = FIELD_LIMIT,
		.offset = IN_DEVICE(net.tx_pps),
		.least = 1,
		.most = LIMIT_PACKETS_MAX,
		.unset = "no limit",
		.help = "packets a second from the guest"},
	{.name = "mac-check",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(net.mac_check),
		.fallback = "off",
		.help = "the guest sends from its MAC address alone"},
	{.name = "ip",
		.kind = FIELD_ADDRESSES,
		.offset = IN_DEVICE(net.ip),
		.unset = "any",
		.help = "the guest sends from these addresses alone"},
	{.name = "rules",
		.kind = FIELD_RULES,
		.offset = IN_DEVICE(net.rules),
		.help = "what it may send and receive: a JSON array, see man duet"},
	{.name = "rules-default",
		.kind = FIELD_WORD,
		.offset = IN_DEVICE(net.rules_default),
		.words = default_words,
		.fallback = "allow",
		.help = "what becomes of frames that no rule is for"},
};

static const struct field vfio_table[] = {
	{.name = "host",
		.kind = FIELD_PCI,
		.offset = IN_DEVICE(vfio.host),
		.help = "DOMAIN:BUS:DEVICE.FUNCTION of one that is bound to vfio-pci"},
};

static const struct field balloon_table[] = {
	{.name = "size",
		.kind = FIELD_SIZE,
		.offset = IN_DEVICE(balloon.size),
		.most = MACHINE_MEMORY_MAX,
		.fallback = "0",
		.help = "memory to take from the guest at first"},
	{.name = "deflate-on-oom",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(balloon.deflate_on_oom),
		.fallback = "off",
		.help = "the guest takes some back rather than kill a process"},
	{.name = "stats",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(balloon.stats),
		.most = 86400,
		.value = "SECONDS",
		.fallback = "0",
		.help = "how often the guest is asked what its memory is used for; 0: once"},
	{.name = "reporting",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(balloon.reporting),
		.fallback = "on",
		.help = "memory that becomes free in the guest goes back to the host"},
	{.name = "hinting",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(balloon.hinting),
		.fallback = "off",
		.help = "the guest can be asked for all of its free memory"},
};

static const struct field vsock_table[] = {
	{.name = "path",
		.kind = FIELD_TEXT,
		.offset = IN_DEVICE(vsock.path),
		.value = "FILE",
		.most = VSOCK_PATH_MAX,
		.help = "the unix socket to make; the guest reaches FILE_PORT"},
	{.name = "cid",
		.kind = FIELD_NUMBER,
		.offset = IN_DEVICE(vsock.cid),
		.least = 3,
		.most = UINT32_MAX,
		.fallback = "3",
		.help = "the guest's address"},
};

static const struct field coop_table[] = {
	{.name = "hints",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(coop.hints),
		.fallback = "on",
		.help = "the guest tells what its CPUs do and its memory is used for"},
	{.name = "time",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(coop.time),
		.fallback = "on",
		.help = "it learns for how long it was paused or moved"},
	{.name = "yield",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(coop.yield),
		.fallback = "on",
		.help = "a vCPU that waits for another one lets it run"},
	{.name = "copy",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(coop.copy),
		.fallback = "on",
		.help = "the host copies a process's heap when it forks"},
	{.name = "counters",
		.kind = FIELD_SWITCH,
		.offset = IN_DEVICE(coop.counters),
		.fallback = "on",
		.help = "with --pmu pv: performance counters of its vCPUs"},
};

#define FITS(table) (ARRAY_SIZE(device_table) + ARRAY_SIZE(table) <= DEVICE_FIELDS_MAX)
_Static_assert(FITS(disk_table) && FITS(net_table) && FITS(vfio_table) && FITS(balloon_table) &&
		       FITS(vsock_table) && FITS(coop_table),
	"each has its line");

#define SET(table)                                                                                 \
	{                                                                                          \
		table, ARRAY_SIZE(table)                                                           \
	}

const struct device_type_info device_types[DEVICE_TYPES] = {
	[DEVICE_DISK] = {.name = "disk",
		.option = "--disk",
		.usage = "--disk path=FILE[,NAME=VALUE]...",
		.fields = SET(disk_table),
		.help = "a disk",
		.prefix = "disk",
		.most = 16},
	[DEVICE_IDE] = {.name = "ide", .prefix = "ide", .most = 1, .automatic = true},
	[DEVICE_NET] = {.name = "net",
		.option = "--net",
		.usage = "--net user|tap[,NAME=VALUE]...",
		.fields = SET(net_table),
		.help = "a network card",
		.prefix = "net",
		.most = 8,
		.first_word = true},
	[DEVICE_CONSOLE] = {.name = "console",
		.prefix = "console",
		.most = 1,
		.automatic = true,
		.is_virtio = true},
	[DEVICE_ENTROPY] = {.name = "entropy",
		.prefix = "entropy",
		.most = 1,
		.automatic = true,
		.is_virtio = true,
		.create = virtio_entropy_new},
	[DEVICE_VFIO] = {.name = "vfio",
		.option = "--device vfio",
		.usage = "--device vfio,host=ADDRESS[,NAME=VALUE]...",
		.fields = SET(vfio_table),
		.help = "one of the host's functions",
		.prefix = "vfio",
		.most = 8},
	[DEVICE_BALLOON] = {.name = "balloon",
		.option = "--balloon",
		.usage = "--balloon [NAME=VALUE,...]",
		.fields = SET(balloon_table),
		.help = "gives the guest's memory back to the host",
		.prefix = "balloon",
		.most = 1,
		.may_be_bare = true,
		.is_virtio = true},
	[DEVICE_VSOCK] = {.name = "vsock",
		.option = "--vsock",
		.usage = "--vsock path=FILE[,NAME=VALUE]...",
		.fields = SET(vsock_table),
		.help = "streams to and from the host",
		.prefix = "vsock",
		.most = 1,
		.is_virtio = true},
	[DEVICE_COOP] = {.name = "coop",
		.option = "--coop",
		.usage = "--coop [NAME=VALUE,...]",
		.fields = SET(coop_table),
		.help = "host and guest kit work together",
		.prefix = "coop",
		.most = 1,
		.may_be_bare = true,
		.is_virtio = true},
};

const char *const process_options[] = {"config", "print-config", "restore", "restore-taps",
	"track-dirty", "log", "api-sock", "sandbox", "allow", "user", "incoming", "cert", "key",
	"ca", "plain", "help", NULL};

const struct field *field_find(const struct field_set *set, const char *name, size_t length)
{
	for (unsigned i = 0; i < set->count; i++)
		if (strlen(set->fields[i].name) == length &&
			memcmp(set->fields[i].name, name, length) == 0)
			return &set->fields[i];
	return NULL;
}

const struct field *device_field_find(enum device_type type, const char *name, size_t length)
{
	const struct field *field = field_find(&device_fields, name, length);

	return field ? field : field_find(&device_types[type].fields, name, length);
}

unsigned device_field_number(enum device_type type, const struct field *field)
{
	const struct field_set *own = &device_types[type].fields;

	for (unsigned i = 0; i < device_fields.count; i++)
		if (field == &device_fields.fields[i])
			return i;
	return device_fields.count + (unsigned)(field - own->fields);
}

enum device_type device_type_find(const char *name, size_t length)
{
	unsigned type = 0;

	while (type < DEVICE_TYPES && (strlen(device_types[type].name) != length ||
					      memcmp(device_types[type].name, name, length) != 0))
		type++;
	return (enum device_type)type;
}
