/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle_private.h"

#include <stdlib.h>

#define TIMEOUT_MAX 86400

static int take_parts(struct hook *hook, const struct node *node, uint64_t *seconds)
{
	const struct node args = node_member(node, "args"), env = node_member(node, "env"),
			  timeout = node_member(node, "timeout");

	return node_texts(&args, &hook->args) ?: node_texts(&env, &hook->env)
		?: node_u64(&timeout, 1, TIMEOUT_MAX, seconds);
}

static int take_hook(void *opaque, const struct node *node)
{
	struct hooks *hooks = opaque;
	struct hook *hook = &hooks->items[hooks->count++];
	const struct node path = node_member(node, "path");
	uint64_t seconds = 0;
	int ret = node_object(node) ?: node_must(&path) ?: node_text(&path, &hook->path)
			  ?: take_parts(hook, node, &seconds);

	hook->timeout = (uint32_t)seconds;
	return ret == 0 && *hook->path != '/' ? node_bad(&path, "is no absolute path") : ret;
}

static int take_kind(struct hooks *hooks, const struct node *node)
{
	hooks->items = calloc(node_count(node) + 1, sizeof(*hooks->items));
	return hooks->items ? node_each(node, take_hook, hooks) : node_no_memory(node);
}

static int refuse_inside(const struct node *node)
{
	return node_bad(node, "the container's namespaces are in its VM, where the host's hooks "
			      "cannot run; createRuntime and poststart can");
}

int bundle_take_hooks(struct bundle *bundle, const struct node *node)
{
	static const char *const names[HOOK_KINDS] = {
		[HOOK_PRESTART] = "prestart",
		[HOOK_CREATE_RUNTIME] = "createRuntime",
		[HOOK_POSTSTART] = "poststart",
		[HOOK_POSTSTOP] = "poststop",
	};
	static const char *const inside[] = {"createContainer", "startContainer"};
	int ret = node_object(node);

	for (unsigned i = 0; i < HOOK_KINDS && ret == 0; i++) {
		const struct node kind = node_member(node, names[i]);

		ret = take_kind(&bundle->hooks[i], &kind);
	}
	for (unsigned i = 0; i < 2 && ret == 0; i++) {
		const struct node kind = node_member(node, inside[i]);

		ret = node_array(&kind);
		if (ret == 0 && node_count(&kind))
			ret = refuse_inside(&kind);
	}
	return ret;
}
