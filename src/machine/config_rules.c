/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/config_rules.h"

#include "base/checked.h"
#include "machine/fields.h"
#include "machine/numa.h"
#include "x86/cpu.h"
#include "x86/cpu_changes.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- what is said ---- */

#define WORDS 512

/* Where something was described: a device's fields, or without one the machine's own. */
struct place {
	const struct device_config *device;
	bool in_file;
};

static const struct field *find(const struct device_config *device, const char *name, size_t length)
{
	const struct field *field = device ? device_field_find(device->type, name, length) : NULL;

	return field ? field : field_find(&machine_fields, name, length);
}

/* A file's "name": value. */
static int spell_member(char *to, size_t room, const struct field *field, const char *value)
{
	if (!*value)
		return snprintf(to, room, "\"%s\"", field->name);
	if (field->kind == FIELD_NUMBER || field->kind == FIELD_LONG)
		return snprintf(to, room, "\"%s\": %s", field->name, value);
	if (field->kind == FIELD_SWITCH)
		return snprintf(to, room, "\"%s\": %s", field->name,
			strcmp(value, "on") == 0 ? "true" : "false");
	return snprintf(to, room, "\"%s\": \"%s\"", field->name, value);
}

/* An option's name=value, or --net value for what is written without its name. */
static int spell_part(char *to, size_t room, const struct device_type_info *type,
	const struct field *field, const char *value)
{
	if (type->first_word && field == type->fields.fields)
		return snprintf(to, room, "%s %s", type->option, value);
	return snprintf(to, room, "%s=%s", field->name, value);
}

/* --name value */
static int spell_option(char *to, size_t room, const struct field *field, const char *value)
{
	return snprintf(to, room, "--%s%s%s", field->name, *value ? " " : "", value);
}

/* "{name}" or "{name=value}" at @from, as it is written at @place. Returns what is behind it. */
static const char *spell(const struct place *place, const char *from, char *to, size_t room)
{
	size_t length = strcspn(from, "}"), name = strcspn(from + 1, "=}");
	const struct field *field = find(place->device, from + 1, name);
	char value[64] = "";

	if (!field || !from[length]) {
		snprintf(to, room, "{");
		return from + 1;
	}
	if (name + 1 < length)
		snprintf(value, sizeof(value), "%.*s", (int)(length - name - 2), from + name + 2);
	if (place->in_file)
		spell_member(to, room, field, value);
	else if (place->device)
		spell_part(to, room, &device_types[place->device->type], field, value);
	else
		spell_option(to, room, field, value);
	return from + length + 1;
}

__attribute__((format(printf, 2, 0))) static void spell_all(
	const struct place *place, const char *format, va_list args, char to[WORDS])
{
	char words[WORDS];
	const char *from = words;
	size_t used = 0;

	vsnprintf(words, sizeof(words), format, args);
	*to = 0;
	while (*from && used < WORDS - 1) {
		size_t plain = strcspn(from, "{");

		snprintf(to + used, WORDS - used, "%.*s", (int)plain, from);
		from += plain;
		used = strlen(to);
		if (*from)
			from = spell(place, from, to + used, WORDS - used);
		used = strlen(to);
	}
}

/* Where @name was said; where the device was when it was not. */
static unsigned line_of(const struct device_config *device, const char *name)
{
	const struct field *field =
		name ? device_field_find(device->type, name, strlen(name)) : NULL;
	unsigned line =
		field ? device->lines[device_field_number(device->type, field)] : device->line;

	return line ? line : device->line;
}

int config_refuse(const struct machine_config *config, const struct device_config *device,
	const char *field, struct error *err, const char *format, ...)
{
	const struct device_type_info *type = &device_types[device->type];
	const struct place place = {device, device->line != 0};
	char spelled[WORDS];
	va_list args;

	va_start(args, format);
	spell_all(&place, format, args, spelled);
	va_end(args);
	if (device->line)
		return error_set(err, EINVAL, "%.200s:%u: %s: %s",
			config->file ? config->file : "configuration", line_of(device, field),
			device->id, spelled);
	return error_set(err, EINVAL, "%s %s: %s", type->option ? type->option : type->name,
		device->id, spelled);
}

int config_refuse_own(const struct machine_config *config, const char *name, struct error *err,
	const char *format, ...)
{
	const struct field *field = field_find(&machine_fields, name, strlen(name));
	const unsigned line = config->lines[field - machine_fields.fields];
	const struct place place = {NULL, line && line != MACHINE_LINE_OPTION};
	char spelled[WORDS];
	va_list args;

	va_start(args, format);
	spell_all(&place, format, args, spelled);
	va_end(args);
	if (place.in_file)
		return error_set(err, EINVAL, "%.200s:%u: %s: %s",
			config->file ? config->file : "configuration", line, name, spelled);
	return error_set(err, EINVAL, "--%s: %s", name, spelled);
}

#define REFUSE(field, ...) config_refuse(config, device, field, err, __VA_ARGS__)

/* ---- the rules ---- */

/* An earlier device of the same type for which @same holds. */
static const struct device_config *twin(const struct machine_config *config,
	const struct device_config *device,
	bool (*same)(const struct device_config *one, const struct device_config *other))
{
	for (const struct device_config *at = config->devices; at < device; at++)
		if (at->type == device->type && same(at, device))
			return at;
	return NULL;
}

static int check_ide_disk(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct disk_config *disk = &device->disk;

	if (disk->queues || disk->poll)
		return REFUSE(disk->queues ? "queues" : "poll",
			"{queues} and {poll} are for {model=virtio}");
	if (disk->readonly)
		return REFUSE(
			"readonly", "an IDE disk cannot be read-only; give it {model=virtio}");
	if (device->slot)
		return REFUSE("slot", "an IDE disk has no slot; its controller, ide0, has");
	return 0;
}

static int check_disk(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct disk_config *disk = &device->disk;

	if (!disk->path)
		return REFUSE(NULL, "names no file; write {path=FILE}");
	if (disk->model == DISK_IDE)
		return check_ide_disk(config, device, err);
	return disk->drive ? REFUSE("drive", "{drive} is for {model=ide}") : 0;
}

/* As the kernel has it (dev_valid_name); '%' would have it choose a number. */
static bool is_interface(const char *name)
{
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	for (; *name; name++)
		if (isspace((unsigned char)*name) || strchr("/:%", *name))
			return false;
	return true;
}

static bool same_interface(const struct device_config *one, const struct device_config *other)
{
	return one->net.ifname && other->net.ifname &&
	       strcmp(one->net.ifname, other->net.ifname) == 0;
}

static bool same_mac(const struct device_config *one, const struct device_config *other)
{
	const struct mac_address *mac = &one->net.mac, *other_mac = &other->net.mac;

	return mac->given && other_mac->given &&
	       memcmp(mac->bytes, other_mac->bytes, sizeof(mac->bytes)) == 0;
}

static int check_tap(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct net_config *net = &device->net;
	const struct device_config *other = twin(config, device, same_interface);

	if (!net->ifname)
		return REFUSE(NULL, "names no interface; write {ifname=NAME} (made by: ip tuntap "
				    "add NAME mode tap)");
	if (!is_interface(net->ifname))
		return REFUSE("ifname",
			"{ifname} is no name of an interface; it has no blanks, slashes, colons "
			"or percent signs");
	if (other)
		return REFUSE("ifname", "{ifname} is also %s's; give each its own", other->id);
	if (net->forward)
		return REFUSE("forward", "{forward} is for {kind=user}");
	return 0;
}

static int check_user(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct net_config *net = &device->net;

	if (net->ifname)
		return REFUSE("ifname", "{ifname} is for {kind=tap}");
	if (net->queues > 1)
		return REFUSE("queues", "{queues} is for {kind=tap}");
	if (!net->offloads && net->model == NET_MODEL_VIRTIO)
		return REFUSE("offloads", "{offloads} is for {kind=tap}");
	return 0;
}

static int check_e1000(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct net_config *net = &device->net;
	const char *field = net->queues > 1 ? "queues"
			    : net->mtu      ? "mtu"
			    : net->poll     ? "poll"
			    : net->standby  ? "standby"
					    : "offloads";

	if (net->queues <= 1 && !net->mtu && !net->poll && !net->standby && net->offloads)
		return 0;
	return REFUSE(field,
		"{queues}, {mtu}, {poll}, {standby} and {offloads=off} are for {model=virtio}");
}

static int check_net(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct net_config *net = &device->net;
	const struct device_config *other = twin(config, device, same_mac);
	bool tap = net->kind == NET_TAP, e1000 = net->model == NET_MODEL_E1000;
	int ret = tap ? check_tap(config, device, err) : check_user(config, device, err);

	if (ret == 0 && e1000)
		ret = check_e1000(config, device, err);
	if (ret < 0)
		return ret;
	if (net->vhost && (!tap || e1000 || net->poll))
		return REFUSE("vhost", "{vhost=on} is for {kind=tap} with {model=virtio}, without "
				       "{poll=on}");
	if (net->standby && !net->mac.given)
		return REFUSE("standby",
			"{standby} needs {mac}, the one that the function it stands in for has");
	if (other)
		return REFUSE("mac", "{mac} is also %s's; give each its own", other->id);
	return 0;
}

static bool same_function(const struct device_config *one, const struct device_config *other)
{
	return one->vfio.host && other->vfio.host && strcmp(one->vfio.host, other->vfio.host) == 0;
}

static int check_vfio(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct device_config *other = twin(config, device, same_function);

	if (!device->vfio.host)
		return REFUSE(NULL, "names no function; write {host=0000:01:10.0}, for example "
				    "(lspci -D shows them)");
	if (other)
		return REFUSE("host", "{host} is also %s's; a function has one owner", other->id);
	return 0;
}

static int check_balloon(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct device_config *passed = machine_config_device(config, DEVICE_VFIO, 0);

	if (passed)
		return REFUSE(NULL,
			"%s pins all of the guest's memory for its DMA, so nothing of it can be "
			"given back; leave one of the two out",
			passed->id);
	if (device->balloon.size >= config->memory)
		return REFUSE("size", "{size} is all of the guest's memory, or more");
	return 0;
}

static int check_vsock(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	if (device->vsock.path)
		return 0;
	return REFUSE(NULL, "names no socket; write {path=FILE}");
}

static int (*const checks[DEVICE_TYPES])(const struct machine_config *config,
	const struct device_config *device, struct error *err) = {
	[DEVICE_DISK] = check_disk,
	[DEVICE_NET] = check_net,
	[DEVICE_VFIO] = check_vfio,
	[DEVICE_BALLOON] = check_balloon,
	[DEVICE_VSOCK] = check_vsock,
};

bool device_is_virtio(const struct device_config *device)
{
	switch (device->type) {
	case DEVICE_DISK:
		return device->disk.model == DISK_VIRTIO;
	case DEVICE_NET:
		return device->net.model == NET_MODEL_VIRTIO;
	default:
		return device_types[device->type].is_virtio;
	}
}

static bool is_ide_disk(const struct device_config *device)
{
	return device->type == DEVICE_DISK && device->disk.model == DISK_IDE;
}

/* Those of the same type, or kind, up to @device. */
static unsigned rank(const struct machine_config *config, const struct device_config *device,
	bool (*of_kind)(const struct device_config *device))
{
	unsigned count = 0;

	for (const struct device_config *at = config->devices; at <= device; at++)
		count += of_kind ? of_kind(at) : at->type == device->type;
	return count;
}

/* By their names they are in statistics, and in saved state. */
static bool is_of_board(const char *id)
{
	static const char *const names[] = {
		"serial0", "rtc0", "acpi0", "ioapic0", "keyboard0", "eject0"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(id, names[i]) == 0)
			return true;
	return false;
}

static int check_device(
	const struct machine_config *config, const struct device_config *device, struct error *err)
{
	const struct device_type_info *type = &device_types[device->type];

	if (rank(config, device, NULL) > type->most)
		return REFUSE(NULL, "one too many; at most %u of the type \"%s\"", type->most,
			type->name);
	if (is_ide_disk(device) && rank(config, device, is_ide_disk) > MACHINE_IDE_MAX)
		return REFUSE("model",
			"at most %d disks with {model=ide}; give this one {model=virtio}",
			MACHINE_IDE_MAX);
	if (machine_config_find(config, device->id) != device)
		return REFUSE("id", "the id is another device's; give each its own");
	if (is_of_board(device->id))
		return REFUSE("id", "the id is that of a device of the board; take another");
	if (device->features && !device_is_virtio(device))
		return REFUSE("features", "{features} is for virtio devices");
	return checks[device->type] ? checks[device->type](config, device, err) : 0;
}

/* The guest reaches its counters by the cooperation device alone. */
static int check_pmu(const struct machine_config *config, struct error *err)
{
	const struct device_config *coop = machine_config_device(config, DEVICE_COOP, 0);

	if (config->pmu != PMU_PV || (coop && coop->coop.counters))
		return 0;
	if (!coop)
		return config_refuse_own(config, "pmu", err,
			"pv needs the cooperation device; add --coop, and the module duet in "
			"the guest");
	return config_refuse_own(config, "pmu", err,
		"pv needs the counters of the cooperation device; leave %s out",
		coop->line ? "\"counters\": false" : "counters=off");
}

/* What a guest goes by when it is shown nothing of its TSC. */
static int check_profile(const struct machine_config *config, struct error *err)
{
	if (config->profile == PROFILE_HOST || (config->pv & PV_CLOCK))
		return 0;
	return config_refuse_own(
		config, "profile", err, "the guest needs KVM's clock; add clock to {pv}");
}

static int check_cpu(const struct machine_config *config, struct error *err)
{
	struct cpu_change changes[CPU_CHANGES_MAX];
	struct error why = {0};
	unsigned count;

	return cpu_changes_parse(changes, &count, config->cpu_config, &why) < 0
		       ? config_refuse_own(config, "cpu-config", err, "%s", why.text)
		       : 0;
}

static int check_entropy(const struct machine_config *config, struct error *err)
{
	if (config->entropy || !(config->entropy_bw.amount || config->entropy_ops.amount))
		return 0;
	return config_refuse_own(config, config->entropy_bw.amount ? "entropy-bw" : "entropy-ops",
		err, "there is no random number device; leave {entropy=off} out");
}

int config_check(const struct machine_config *config, struct error *err)
{
	int ret = check_pmu(config, err);

	if (ret == 0)
		ret = check_profile(config, err);
	if (ret == 0)
		ret = check_cpu(config, err);
	if (ret == 0)
		ret = check_entropy(config, err);
	if (ret == 0)
		ret = numa_check(config, err);
	for (unsigned i = 0; ret == 0 && i < config->device_count; i++)
		ret = check_device(config, &config->devices[i], err);
	if (ret == 0 && !config->kernel && config->file)
		return error_set(err, EINVAL,
			"%s: names no \"kernel\"; write \"kernel\": \"FILE\", a Linux bzImage or "
			"vmlinux",
			config->file);
	if (ret == 0 && !config->kernel)
		return error_set(err, EINVAL,
			"--kernel: missing; name a Linux bzImage or vmlinux, for example "
			"--kernel /boot/vmlinuz-$(uname -r)");
	return ret;
}
