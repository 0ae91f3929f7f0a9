/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle_private.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Devices that every container has: the guest makes its own. */
static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
	"/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx"};

/* What a container has of its own whatever is said, and why it cannot be the host's. */
static const struct {
	const char *type, *why;
	bool optional;
} namespaces[] = {
	{"pid",
		"the container's processes are of its VM's kernel, and the host's are not to be "
		"seen there (--pid=host)",
		false},
	{"network",
		"the VM's network card is in a network namespace, and the host's own cannot be "
		"shared (--network=host)",
		false},
	{"mount", "the VM has its own file systems", false},
	{"ipc", "memory and queues of the host cannot be shared with a VM (--ipc=host)", false},
	{"uts", "the VM's kernel has a host name of its own (--uts=host)", false},
	{"cgroup", "the VM's kernel has cgroups of its own", true},
	{"time", "the VM's kernel has clocks of its own", true},
};
#define NETWORK 1

struct seen {
	struct bundle *bundle;
	unsigned kinds;
};

static unsigned find_namespace(const char *name)
{
	unsigned i = 0;

	while (name && i < ARRAY_SIZE(namespaces) && strcmp(name, namespaces[i].type) != 0)
		i++;
	return name ? i : ARRAY_SIZE(namespaces);
}

static int refuse_namespace(const struct node *type)
{
	const char *name = node_word(type);

	if (name && strcmp(name, "user") == 0)
		return node_bad(
			type, "users are not mapped: the VM is the boundary (leave out --userns)");
	return node_bad(type, "is no namespace that this duet-oci knows");
}

static int take_namespace(void *opaque, const struct node *node)
{
	struct seen *seen = opaque;
	const struct node type = node_member(node, "type"), path = node_member(node, "path");
	const unsigned i = find_namespace(node_word(&type));

	if (i == ARRAY_SIZE(namespaces))
		return refuse_namespace(&type);
	if (seen->kinds & 1U << i)
		return node_bad(&type, "%s is there twice", namespaces[i].type);
	seen->kinds |= 1U << i;
	if (i == NETWORK)
		return node_text(&path, &seen->bundle->network);
	if (node_is(&path) && json_string_length(path.json))
		return node_bad(&path, "cannot be joined: %s", namespaces[i].why);
	return 0;
}

static int check_seen(const struct node *all, unsigned kinds)
{
	for (unsigned i = 0; i < ARRAY_SIZE(namespaces); i++)
		if (!(kinds & 1U << i) && !namespaces[i].optional)
			return node_bad(all, "there is no %s namespace: %s", namespaces[i].type,
				namespaces[i].why);
	return 0;
}

static int take_namespaces(struct bundle *bundle, const struct node *all)
{
	struct seen seen = {.bundle = bundle};

	return node_each(all, take_namespace, &seen) ?: check_seen(all, seen.kinds);
}

static bool is_ordinary(const char *name)
{
	for (unsigned i = 0; name && i < ARRAY_SIZE(devices); i++)
		if (strcmp(name, devices[i]) == 0)
			return true;
	return false;
}

static int check_device(void *opaque, const struct node *node)
{
	const struct node path = node_member(node, "path");

	return is_ordinary(node_word(&path))
		       ? 0
		       : node_bad(&path, "is a device of the host, which its VM does not "
					 "have (--device, --privileged)");
}

static int add_sysctl(struct texts *sysctl, const char *name, const char *text)
{
	if (sysctl->count + 2 > WIRE_TEXTS_MAX || strlen(text) >= WIRE_TEXT_MAX ||
		strlen(name) >= WIRE_TEXT_MAX)
		return -E2BIG;
	return texts_add(sysctl, name) ?: texts_add(sysctl, text);
}

static int take_sysctl(void *opaque, const struct node *node)
{
	struct setup *setup = opaque;

	if (!node_word(node))
		return node_bad(node, "is no text");
	/* A path below /proc/sys, and no other. */
	if (!*node->name || *node->name == '/' || strstr(node->name, ".."))
		return node_bad(node, "is no name of a sysctl");
	return add_sysctl(&setup->sysctl, node->name, node_word(node)) < 0
		       ? node_bad(node, "is more than there is room for")
		       : 0;
}

/* Negative: no limit, which engines write as -1. */
static int take_limit(const struct node *node, uint64_t *limit)
{
	int64_t value = 0;
	int ret = node_i64(node, &value);

	*limit = value > 0 && value < INT64_MAX ? (uint64_t)value : 0;
	return ret;
}

static int take_cpu(struct resources *resources, const struct node *cpu)
{
	const struct node quota = node_member(cpu, "quota"), period = node_member(cpu, "period"),
			  shares = node_member(cpu, "shares"), cpus = node_member(cpu, "cpus");

	return node_object(cpu) ?: node_i64(&quota, &resources->cpu_quota)
		?: node_u64(&period, 0, 1000000, &resources->cpu_period)
		?: node_u64(&shares, 0, 262144, &resources->cpu_shares)
		?: node_text(&cpus, &resources->cpus);
}

static int take_resources(struct bundle *bundle, const struct node *all)
{
	const struct node memory = node_member(all, "memory"),
			  limit = node_member(&memory, "limit"), cpu = node_member(all, "cpu"),
			  pids = node_member(all, "pids"), number = node_member(&pids, "limit");

	return node_object(all) ?: node_object(&memory) ?: node_object(&pids)
		?: take_limit(&limit, &bundle->setup.memory)
		?: take_limit(&number, &bundle->setup.pids) ?: take_cpu(&bundle->resources, &cpu);
}

static int take_propagation(struct setup *setup, const struct node *node)
{
	const char *word = node_word(node);

	if (!node_is(node) || (word && !*word))
		return 0;
	return word && propagation_parse(word, &setup->propagation) == 0
		       ? 0
		       : node_bad(node, "is no propagation, such as rslave");
}

static int check_mappings(const struct node *linux_node)
{
	static const char *const names[] = {"uidMappings", "gidMappings"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const struct node node = node_member(linux_node, names[i]);

		if (node_is(&node) && node_count(&node))
			return node_bad(&node, "users are not mapped: the VM is the boundary "
					       "(leave out --userns)");
	}
	return 0;
}

int bundle_take_linux(struct bundle *bundle, const struct node *node)
{
	const struct node all = node_member(node, "namespaces"),
			  nodes = node_member(node, "devices"),
			  sysctl = node_member(node, "sysctl"),
			  resources = node_member(node, "resources"),
			  cgroup = node_member(node, "cgroupsPath"),
			  masked = node_member(node, "maskedPaths"),
			  readonly = node_member(node, "readonlyPaths"),
			  spread = node_member(node, "rootfsPropagation");

	return node_object(node) ?: check_mappings(node) ?: take_namespaces(bundle, &all)
		?: node_each(&nodes, check_device, NULL)
		?: node_each_member(&sysctl, take_sysctl, &bundle->setup)
		?: take_resources(bundle, &resources) ?: node_text(&cgroup, &bundle->cgroup)
		?: node_texts(&masked, &bundle->setup.masked)
		?: node_texts(&readonly, &bundle->setup.readonly)
		?: take_propagation(&bundle->setup, &spread);
}
