/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle_private.h"

#include "base/checked.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define DATA_MAX 4000 /* a page is mount(2)'s limit */

static const struct {
	const char *word;
	uint64_t set, clear;
} flags[] = {
	{"async", 0, MS_SYNCHRONOUS},
	{"atime", 0, MS_NOATIME},
	{"bind", MS_BIND, 0},
	{"defaults", 0, 0},
	{"dev", 0, MS_NODEV},
	{"diratime", 0, MS_NODIRATIME},
	{"dirsync", MS_DIRSYNC, 0},
	{"exec", 0, MS_NOEXEC},
	{"iversion", MS_I_VERSION, 0},
	{"noatime", MS_NOATIME, 0},
	{"nodev", MS_NODEV, 0},
	{"nodiratime", MS_NODIRATIME, 0},
	{"noexec", MS_NOEXEC, 0},
	{"noiversion", 0, MS_I_VERSION},
	{"norelatime", 0, MS_RELATIME},
	{"nostrictatime", 0, MS_STRICTATIME},
	{"nosuid", MS_NOSUID, 0},
	{"nosymfollow", 256 /* MS_NOSYMFOLLOW */, 0},
	{"rbind", MS_BIND | MS_REC, 0},
	{"relatime", MS_RELATIME, 0},
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"strictatime", MS_STRICTATIME, 0},
	{"suid", 0, MS_NOSUID},
	{"sync", MS_SYNCHRONOUS, 0},
	/* What says how an engine prepares a volume, and nothing to who mounts it. */
	{"copy", 0, 0},
	{"nocopy", 0, 0},
	{"tmpcopyup", 0, 0},
	{"notmpcopyup", 0, 0},
	{"z", 0, 0},
	{"Z", 0, 0},
};

static const struct {
	const char *word;
	uint32_t flags;
} propagations[] = {
	{"private", MS_PRIVATE},
	{"rprivate", MS_PRIVATE | MS_REC},
	{"rshared", MS_SHARED | MS_REC},
	{"rslave", MS_SLAVE | MS_REC},
	{"runbindable", MS_UNBINDABLE | MS_REC},
	{"shared", MS_SHARED},
	{"slave", MS_SLAVE},
	{"unbindable", MS_UNBINDABLE},
};

/* Of the guest's kernel, and without a way to its devices or to the host. */
static const char *const kernel_types[] = {
	"cgroup", "cgroup2", "devpts", "mqueue", "proc", "sysfs", "tmpfs", "ramfs"};

int propagation_parse(const char *word, uint32_t *found)
{
	for (unsigned i = 0; i < ARRAY_SIZE(propagations); i++)
		if (strcmp(word, propagations[i].word) == 0) {
			*found = propagations[i].flags;
			return 0;
		}
	return -EINVAL;
}

static int add_data(struct mount *mount, const struct node *node, const char *word)
{
	const size_t before = mount->data ? strlen(mount->data) : 0;
	char *data;

	if (before + strlen(word) > DATA_MAX)
		return node_bad(node, "the options are longer than Linux takes them");
	data = realloc(mount->data, before + strlen(word) + 2);
	if (!data)
		return node_no_memory(node);
	mount->data = data;
	if (before)
		data[before] = ',';
	strcpy(data + before + (before ? 1 : 0), word);
	return 0;
}

static bool take_flag(struct mount *mount, const char *word)
{
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		if (strcmp(word, flags[i].word) == 0) {
			mount->flags = (mount->flags & ~flags[i].clear) | flags[i].set;
			return true;
		}
	return false;
}

static int take_option(void *opaque, const struct node *node)
{
	const char *word = node_word(node);
	struct mount *mount = opaque;

	if (!word)
		return node_bad(node, "is no text");
	return propagation_parse(word, &mount->propagation) < 0 && !take_flag(mount, word)
		       ? add_data(mount, node, word)
		       : 0;
}

static int check_type(struct mount *mount, const struct node *type)
{
	if (mount->flags & MS_BIND || (mount->type && strcmp(mount->type, "bind") == 0)) {
		mount->is_bind = true;
		return 0;
	}
	for (unsigned i = 0; mount->type && i < ARRAY_SIZE(kernel_types); i++)
		if (strcmp(mount->type, kernel_types[i]) == 0)
			return 0;
	return node_bad(type,
		"is none that the guest mounts: it has tmpfs, proc, sysfs, devpts, mqueue and "
		"cgroup of its own, and what is bound");
}

static int take_parts(struct mount *mount, const struct node *node)
{
	const struct node type = node_member(node, "type"), source = node_member(node, "source"),
			  options = node_member(node, "options");

	return node_text(&type, &mount->type) ?: node_text(&source, &mount->source)
		?: node_each(&options, take_option, mount) ?: check_type(mount, &type);
}

static int take_mount(void *opaque, const struct node *node)
{
	struct setup *setup = opaque;
	struct mount *mount = &setup->mounts[setup->mount_count++];
	const struct node to = node_member(node, "destination"),
			  source = node_member(node, "source"),
			  ids = node_member(node, "uidMappings");
	int ret = node_object(node) ?: node_must(&to) ?: node_text(&to, &mount->destination)
			  ?: take_parts(mount, node);

	if (ret < 0)
		return ret;
	if (*mount->destination != '/')
		return node_bad(&to, "is no absolute path");
	if (mount->is_bind && (!mount->source || !*mount->source))
		return node_bad(&source, "is missing: nothing is bound");
	return node_count(&ids) ? node_bad(&ids, "a volume's owners are passed on as they are") : 0;
}

int bundle_take_mounts(struct setup *setup, const struct node *node)
{
	if (node_count(node) > SETUP_MOUNTS_MAX)
		return node_bad(node, "has more than %d elements", SETUP_MOUNTS_MAX);
	setup->mounts = calloc(node_count(node) + 1, sizeof(*setup->mounts));
	return setup->mounts ? node_each(node, take_mount, setup) : node_no_memory(node);
}
