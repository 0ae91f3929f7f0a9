/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle_private.h"

#include "base/numbers.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define MACHINE_MEMORY_LEAST (64ULL << 20)
#define MACHINE_MEMORY_MOST  (1ULL << 40)

/* A later minor version adds what may be passed over; another major one changes what is there. */
static int take_version(struct bundle *bundle, const struct node *top)
{
	const struct node node = node_member(top, "ociVersion");
	int ret = node_must(&node) ?: node_text(&node, &bundle->version);

	if (ret < 0)
		return ret;
	if (strncmp(bundle->version, "1.", 2) != 0 || !isdigit((unsigned char)bundle->version[2]))
		return node_bad(&node,
			"\"%.32s\" is not known; this duet-oci reads version 1 of the "
			"specification",
			bundle->version);
	return 0;
}

static int take_root(struct bundle *bundle, const struct node *top)
{
	const struct node root = node_member(top, "root"), path = node_member(&root, "path"),
			  readonly = node_member(&root, "readonly");
	int ret = node_must(&root) ?: node_object(&root) ?: node_must(&path)
			  ?: node_text(&path, &bundle->root)
			  ?: node_bool(&readonly, &bundle->setup.root_readonly);

	if (ret == 0 && !*bundle->root)
		return node_bad(&path, "is empty");
	return ret;
}

static int take_size(const struct node *node, const char *text, uint64_t *size)
{
	if (parse_size(text, size) < 0 || *size < MACHINE_MEMORY_LEAST ||
		*size > MACHINE_MEMORY_MOST)
		return node_bad(node, "no size from 64M to 1T, such as 512M");
	return 0;
}

static int take_meaning(struct bundle *bundle, const struct node *node, const char *text)
{
	if (strcmp(node->name, "org.duet.memory") == 0)
		return take_size(node, text, &bundle->machine_memory);
	if (strcmp(node->name, "org.duet.cpus") == 0 &&
		parse_number(text, 1, 64, &bundle->machine_cpus) < 0)
		return node_bad(node, "no number from 1 to 64");
	return 0;
}

static int take_annotation(void *opaque, const struct node *node)
{
	struct bundle *bundle = opaque;
	const char *text = node_word(node);

	if (!text)
		return node_bad(node, "is no text");
	if (texts_add(&bundle->annotations, node->name) < 0 ||
		texts_add(&bundle->annotations, text) < 0)
		return node_no_memory(node);
	return take_meaning(bundle, node, text);
}

/* What the specification has for other systems, or for VMs whose kernel the bundle brings. */
static int refuse_others(const struct node *top)
{
	static const char *const names[] = {"vm", "windows", "solaris", "zos", "freebsd"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const struct node node = node_member(top, names[i]);

		if (node_is(&node))
			return node_bad(&node,
				"is for another runtime: duet-oci runs Linux, with the "
				"host's own kernel package in the guest");
	}
	return 0;
}

static const char host_letters[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

/* One label of letters, digits and hyphens after another. */
static int check_hostname(const struct node *node, const char *name)
{
	if (name && strlen(name) > 64)
		return node_bad(node, "is longer than the 64 characters that Linux takes");
	if (name && name[strspn(name, host_letters)])
		return node_bad(node, "has a character that no host name has");
	return 0;
}

static int take_names(struct bundle *bundle, const struct node *top)
{
	const struct node host = node_member(top, "hostname"),
			  domain = node_member(top, "domainname");

	return node_text(&host, &bundle->setup.hostname)
		?: node_text(&domain, &bundle->setup.domainname)
		?: check_hostname(&host, bundle->setup.hostname)
		?: check_hostname(&domain, bundle->setup.domainname);
}

static int take_head(struct bundle *bundle, const struct node *top)
{
	const struct node notes = node_member(top, "annotations");

	return take_version(bundle, top) ?: refuse_others(top) ?: take_root(bundle, top)
		?: take_names(bundle, top)
		?: node_each_member(&notes, take_annotation, bundle);
}

static int take(struct bundle *bundle, const struct node *top)
{
	const struct node process = node_member(top, "process"),
			  mounts = node_member(top, "mounts"), own = node_member(top, "linux"),
			  hooks = node_member(top, "hooks");

	return take_head(bundle, top) ?: node_must(&process)
		?: bundle_take_process(&bundle->setup.process, &process)
		?: bundle_take_mounts(&bundle->setup, &mounts) ?: node_must(&own)
		?: bundle_take_linux(bundle, &own) ?: bundle_take_hooks(bundle, &hooks);
}

int bundle_parse(struct bundle *bundle, const char *text, size_t length, struct error *err)
{
	json_t *json = node_parse("config.json", text, length, err);
	const struct node top = {.json = json, .name = "config.json", .err = err};
	int ret = json ? take(bundle, &top) : -1;

	json_decref(json);
	return ret;
}

int process_parse(struct process *process, const char *text, size_t length, struct error *err)
{
	json_t *json = node_parse("process", text, length, err);
	const struct node top = {.json = json, .name = "process", .err = err};
	int ret = json ? bundle_take_process(process, &top) : -1;

	json_decref(json);
	return ret;
}

static void hooks_free(struct hooks *hooks)
{
	for (size_t i = 0; i < hooks->count; i++) {
		free(hooks->items[i].path);
		texts_free(&hooks->items[i].args);
		texts_free(&hooks->items[i].env);
	}
	free(hooks->items);
}

void bundle_free(struct bundle *bundle)
{
	for (unsigned i = 0; i < HOOK_KINDS; i++)
		hooks_free(&bundle->hooks[i]);
	free(bundle->version);
	free(bundle->root);
	free(bundle->network);
	free(bundle->cgroup);
	free(bundle->resources.cpus);
	texts_free(&bundle->annotations);
	setup_free(&bundle->setup);
	*bundle = (struct bundle){0};
}
