/* SPDX-License-Identifier: Apache-2.0 */
/* start, state, kill, delete, pause, resume. */
#include "base/cleanup.h"
#include "base/log.h"
#include "base/numbers.h"
#include "http/client.h"
#include "oci/commands.h"
#include "oci/guest.h"
#include "oci/vm.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define ANSWER_MAX  (64U << 10)
#define PATIENCE_MS 30000

static const struct option no_options[] = {{NULL, 0, NULL, 0}};

/* The container that the only argument names. */
static const char *take_only(int argc, char **argv, struct error *err)
{
	if (next_option(argc, argv, "+", no_options, err) == '?')
		return NULL;
	return take_id(argc, argv, 1, err);
}

static int open_only(struct container *container, const struct settings *settings, int argc,
	char **argv, bool lock, struct error *err)
{
	const char *id = take_only(argc, argv, err);

	*container = (struct container){.dir = -1};
	return id ? container_open(container, settings->root, id, lock, err) : -EINVAL;
}

/* The bundle as it was when the container was made. */
static int read_bundle(const struct container *container, struct bundle *bundle, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;

	return container_read(container, "config.json", BUNDLE_CONFIG_MAX, &text, &length, err)
		       ?: bundle_parse(bundle, text, length, err);
}

static int start(struct container *container, struct error *err)
{
	const enum container_status status = container_status(container);
	struct bundle bundle = {0};
	int ret;

	if (status != CONTAINER_CREATED)
		return error_set(err, EINVAL,
			"container %s is %s: only one that is created can start", container->id,
			container_status_name(status));
	ret = read_bundle(container, &bundle, err) ?: guest_start(container, err);
	if (ret == 0) {
		container->status = CONTAINER_RUNNING;
		ret = container_store(container, err);
		/* What fails here the specification has warned of, and no more. */
		if (ret == 0)
			hooks_run(&bundle, HOOK_POSTSTART, container, true, &(struct error){0});
	}
	bundle_free(&bundle);
	return ret;
}

int command_start(struct settings *settings, int argc, char **argv, struct error *err)
{
	struct container container;
	int ret = open_only(&container, settings, argc, argv, true, err) ?: start(&container, err);

	container_close(&container);
	return ret;
}

int command_state(struct settings *settings, int argc, char **argv, struct error *err)
{
	struct container container;
	int ret = open_only(&container, settings, argc, argv, false, err);
	json_t *json = ret == 0 ? container_state(&container) : NULL;

	if (json && json_dumpf(json, stdout, JSON_INDENT(2)) == 0)
		putchar('\n');
	json_decref(json);
	container_close(&container);
	return ret;
}

int signal_parse(const char *text, struct error *err)
{
	uint64_t number;

	if (parse_number(text, 0, (uint64_t)SIGRTMAX, &number) == 0)
		return (int)number;
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (int i = 1; i < NSIG; i++) {
		const char *name = sigabbrev_np(i);

		if (name && strcasecmp(name, text) == 0)
			return i;
	}
	return error_set(err, EINVAL, "%s: is no signal", text);
}

/* What must end it does, whatever its guest makes of it. */
static int kill_it(const struct container *container, int number, bool all, struct error *err)
{
	const enum container_status status = container_status(container);
	int ret;

	if (status != CONTAINER_CREATED && status != CONTAINER_RUNNING)
		return error_set(err, EINVAL, "container not running: %s is %s, it gets no signals",
			container->id, container_status_name(status));
	ret = guest_kill(container, number, all, err);
	if (ret < 0 && number == SIGKILL)
		ret = identity_signal(&container->machine, SIGKILL) == 0 ||
				      !identity_is_alive(&container->keeper)
			      ? 0
			      : ret;
	return ret;
}

int command_kill(struct settings *settings, int argc, char **argv, struct error *err)
{
	static const struct option options[] = {
		{"all", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
	struct container container = {.dir = -1};
	const char *id;
	bool all = false;
	int option, number, ret;

	while ((option = next_option(argc, argv, "+a", options, err)) != -1) {
		if (option == '?')
			return -EINVAL;
		all = true;
	}
	id = take_id(argc, argv, 2, err);
	number = !id ? -EINVAL : signal_parse(optind + 1 < argc ? argv[optind + 1] : "TERM", err);
	ret = number < 0 ? number : container_open(&container, settings->root, id, false, err);
	if (ret == 0)
		ret = kill_it(&container, number, all, err);
	container_close(&container);
	return ret;
}

static int delete_it(struct container *container, bool force, struct error *err)
{
	const enum container_status status = container_status(container);
	struct bundle bundle = {0};
	int ret;

	if (status != CONTAINER_STOPPED && !force)
		return error_set(err, EBUSY,
			"container %s is %s: only one that is stopped can be deleted; --force "
			"kills it",
			container->id, container_status_name(status));
	/* A damaged one goes too. */
	ret = read_bundle(container, &bundle, &(struct error){0});
	ret = container_destroy(container, ret == 0 ? &bundle : NULL, err);
	bundle_free(&bundle);
	return ret;
}

int command_delete(struct settings *settings, int argc, char **argv, struct error *err)
{
	static const struct option options[] = {
		{"force", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
	struct container container = {.dir = -1};
	const char *id;
	bool force = false;
	int option, ret;

	while ((option = next_option(argc, argv, "+f", options, err)) != -1) {
		if (option == '?')
			return -EINVAL;
		force = true;
	}
	id = take_id(argc, argv, 1, err);
	ret = id ? container_open(&container, settings->root, id, true, err) : -EINVAL;
	/* Who forces it wants it gone. */
	if (force && ret == -ENOENT)
		ret = 0;
	else if (ret == 0 || (force && container.dir >= 0))
		ret = delete_it(&container, force, err);
	container_close(&container);
	return ret;
}

/* ---- by the machine's own API ---- */

static int set_state(const struct container *container, const char *state, struct error *err)
{
	char path[64], body[64];
	const struct http_ask what = {.socket = path,
		.method = "PATCH",
		.path = "/vm",
		.body = body,
		.answer_max = ANSWER_MAX};
	struct http_question *question = NULL;
	struct http_answer answer;
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/" VM_API, container->dir);
	snprintf(body, sizeof(body), "{\"state\": \"%s\"}", state);
	ret = http_question_open(&question, &what, err)
		      ?: http_question_finish(question, PATIENCE_MS, &answer, err);
	if (ret == 0 && answer.status >= 300)
		ret = error_set(err, EIO, "the container's machine: status %u: %.200s",
			answer.status, answer.body);
	http_question_close(question);
	return ret;
}

static int command_set_state(
	struct settings *settings, int argc, char **argv, const char *state, struct error *err)
{
	struct container container;
	int ret = open_only(&container, settings, argc, argv, true, err);

	if (ret == 0 && container_status(&container) != CONTAINER_RUNNING)
		ret = error_set(err, EINVAL, "container %s does not run", container.id);
	if (ret == 0)
		ret = set_state(&container, state, err);
	container_close(&container);
	return ret;
}

int command_pause(struct settings *settings, int argc, char **argv, struct error *err)
{
	return command_set_state(settings, argc, argv, "Paused", err);
}

int command_resume(struct settings *settings, int argc, char **argv, struct error *err)
{
	return command_set_state(settings, argc, argv, "Resumed", err);
}
