/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/log.h"
#include "oci/commands.h"
#include "oci/spawn.h"

#include <errno.h>
#include <string.h>

#define WORDS_ROOM 320

static int run(const struct hook *hook, const char *state, struct error *err)
{
	static const char *const none[] = {NULL};
	const char *const own[] = {hook->path, NULL};
	char words[WORDS_ROOM];
	const struct spawn spawn = {.path = hook->path,
		.argv = hook->args.count ? (const char *const *)(void *)hook->args.items : own,
		.env = hook->env.count ? (const char *const *)(void *)hook->env.items : none,
		.input = state,
		.timeout = hook->timeout,
		.output = words,
		.output_room = sizeof(words)};

	return spawn_run(&spawn, err) < 0 ? error_prefix(err, "hook ") : 0;
}

int hooks_run(const struct bundle *bundle, enum hook_kind kind, const struct container *container,
	bool all, struct error *err)
{
	const struct hooks *hooks = &bundle->hooks[kind];
	json_t *json = hooks->count ? container_state(container) : NULL;
	_cleanup_free_ char *state = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int ret = 0;

	json_decref(json);
	if (hooks->count && !state)
		return error_set(err, ENOMEM, "there is no memory");
	for (size_t i = 0; i < hooks->count && (ret == 0 || all); i++) {
		const int one = run(&hooks->items[i], state, err);

		if (one < 0 && all)
			log_warning("%s", err->text);
		ret = ret ?: one;
	}
	return ret;
}
