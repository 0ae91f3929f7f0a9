/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/numbers.h"
#include "oci/cgroup.h"
#include "oci/commands.h"
#include "oci/console.h"
#include "oci/image.h"
#include "oci/keeper.h"
#include "oci/kit.h"
#include "oci/store.h"
#include "oci/text.h"
#include "oci/volumes.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct create {
	struct settings *settings;
	const char *id, *bundle_path, *pid_file, *console_socket;
	struct bundle bundle;
	struct container container;
	struct image image;
	char *kit;
	int terminal, line;
};

static const struct option options[] = {
	{"bundle", required_argument, NULL, 'b'},
	{"pid-file", required_argument, NULL, 'p'},
	{"console-socket", required_argument, NULL, 'c'},
	{"preserve-fds", required_argument, NULL, 'f'},
	/* What there is nothing to do about: there is no keyring and no pivot_root on the host. */
	{"no-new-keyring", no_argument, NULL, 'n'},
	{"no-pivot", no_argument, NULL, 'n'},
	{NULL, 0, NULL, 0},
};

static int take_options(struct create *create, int argc, char **argv, struct error *err)
{
	uint64_t number;
	int option;

	while ((option = next_option(argc, argv, "+b:p:", options, err)) != -1) {
		if (option == '?')
			return -EINVAL;
		if (option == 'b')
			create->bundle_path = optarg;
		else if (option == 'p')
			create->pid_file = optarg;
		else if (option == 'c')
			create->console_socket = optarg;
		else if (option == 'f' && (parse_number(optarg, 0, 0, &number) < 0))
			return error_set(err, EINVAL,
				"--preserve-fds %s: descriptors cannot be handed into a VM",
				optarg);
	}
	create->id = take_id(argc, argv, 1, err);
	return create->id ? 0 : -EINVAL;
}

/* ---- what can be wrong without a trace ---- */

static int read_bundle(struct create *create, struct error *err)
{
	_cleanup_free_ char *file = text_format("%s/config.json", create->bundle_path),
			    *text = NULL;
	size_t length = 0;
	int ret;

	if (!file)
		return error_set(err, ENOMEM, "there is no memory");
	ret = read_whole(file, BUNDLE_CONFIG_MAX, &text, &length, err)
		      ?: bundle_parse(&create->bundle, text, length, err);
	if (ret == 0)
		ret = container_make(&create->container, create->settings->root, create->id, err);
	return ret ?: container_write(&create->container, "config.json", text, length, err);
}

static int check_terminal(struct create *create, struct error *err)
{
	const bool terminal = create->bundle.setup.process.terminal;

	if (terminal && !create->console_socket)
		return error_set(err, EINVAL,
			"config.json: process.terminal needs --console-socket, where the terminal "
			"goes");
	if (!terminal && create->console_socket)
		return error_set(
			err, EINVAL, "--console-socket needs process.terminal in config.json");
	if (terminal)
		create->terminal = console_connect(create->console_socket, err);
	return terminal && create->terminal < 0 ? -EIO : 0;
}

static int find_root(struct create *create, char *root, struct error *err)
{
	_cleanup_free_ char *path =
		*create->bundle.root == '/'
			? strdup(create->bundle.root)
			: text_format("%s/%s", create->bundle_path, create->bundle.root);

	if (!path || !realpath(path, root))
		return error_errno(err, path ? errno : ENOMEM, "config.json: root.path: %s",
			create->bundle.root);
	/* Of /, the host's own files would go into a guest. */
	if (strcmp(root, "/") == 0)
		return error_set(err, EINVAL, "config.json: root.path is the host's own root");
	return 0;
}

/* ---- what it is made of ---- */

static int prepare(struct create *create, struct error *err)
{
	struct container *container = &create->container;
	struct bundle *bundle = &create->bundle;
	char root[PATH_MAX];
	int ret = check_terminal(create, err) ?: find_root(create, root, err)
			  ?: volumes_prepare(&bundle->setup, create->bundle_path, err)
			  ?: cgroup_find(bundle->cgroup, &container->cgroup, err)
			  ?: kit_get(create->settings, &create->kit, err)
			  ?: image_get(create->settings->cache, root, &create->image, err);

	if (ret < 0)
		return ret;
	bundle->setup.root_type = strdup(create->image.type);
	container->bundle = strdup(create->bundle_path);
	container->network = bundle->network ? strdup(bundle->network) : NULL;
	container->version = strdup(bundle->version);
	container->annotations = json_object();
	for (uint32_t i = 0; i < bundle->annotations.count; i += 2)
		json_object_set_new(container->annotations, bundle->annotations.items[i],
			json_string(bundle->annotations.items[i + 1]));
	if (!bundle->setup.root_type || !container->bundle || !container->version)
		return error_set(err, ENOMEM, "there is no memory");
	return 0;
}

/* ---- the keeper ---- */

static int begin_keeper(struct create *create, struct error *err)
{
	struct keeper keeper = {.settings = create->settings,
		.container = &create->container,
		.bundle = &create->bundle,
		.kit = create->kit,
		.image = create->image.path,
		.terminal = create->terminal};
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "the container's keeper");
	create->line = pair[0];
	keeper.line = pair[1];
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		keeper_run(&keeper);
	}
	close(pair[1]);
	if (pid < 0 || identity_of(pid, &create->container.keeper) < 0)
		return error_errno(err, errno, "the container's keeper");
	create->container.status = CONTAINER_CREATING;
	return container_store(&create->container, err);
}

/* A message of the keeper's. */
static int hear(const struct create *create, char *text, size_t room, struct error *err)
{
	const ssize_t got = recv(create->line, text, room - 1, 0);

	if (got <= 0)
		return error_set(err, EIO, "the container's keeper has ended");
	text[got] = 0;
	return *text == '-' ? error_set(err, EIO, "%s", text + 1) : 0;
}

static int await_keeper(struct create *create, struct error *err)
{
	struct container *container = &create->container;
	char text[sizeof(err->text) + 1];
	int ret = hear(create, text, sizeof(text), err)
			  ?: hooks_run(&create->bundle, HOOK_PRESTART, container, false, err)
			  ?: hooks_run(&create->bundle, HOOK_CREATE_RUNTIME, container, false, err);

	if (ret < 0)
		return ret;
	if (send(create->line, "", 1, MSG_NOSIGNAL) < 0)
		return error_set(err, EIO, "the container's keeper has ended");
	ret = hear(create, text, sizeof(text), err);
	if (ret < 0)
		return ret;
	identity_of((pid_t)strtol(text + 1, NULL, 10), &container->machine);
	container->status = CONTAINER_CREATED;
	ret = container_store(container, err);
	if (ret == 0 && create->pid_file)
		ret = write_pid(create->pid_file, container->keeper.pid, err);
	return ret;
}

/* As if it had not been tried. */
static void undo(struct create *create)
{
	struct error err = {0};

	/* The keeper ends by itself when there is nobody to tell. */
	cleanup_close(&create->line);
	create->line = -1;
	if (create->container.keeper.pid > 0) {
		kill(create->container.keeper.pid, SIGKILL);
		waitpid(create->container.keeper.pid, NULL, 0);
	}
	if (create->container.dir >= 0)
		container_destroy(&create->container, NULL, &err);
}

static int run(struct create *create, struct error *err)
{
	char path[PATH_MAX];
	int ret;

	if (!realpath(create->bundle_path, path))
		return error_errno(err, errno, "--bundle %s", create->bundle_path);
	create->bundle_path = path;
	ret = read_bundle(create, err) ?: prepare(create, err) ?: begin_keeper(create, err)
		?: await_keeper(create, err);
	if (ret < 0)
		undo(create);
	return ret;
}

int command_create(struct settings *settings, int argc, char **argv, struct error *err)
{
	struct create create = {.settings = settings,
		.bundle_path = ".",
		.container = {.dir = -1},
		.terminal = -1,
		.line = -1};
	int ret = take_options(&create, argc, argv, err) ?: settings_complete(settings, err)
			  ?: run(&create, err);

	cleanup_close(&create.terminal);
	cleanup_close(&create.line);
	free(create.kit);
	free(create.image.path);
	container_close(&create.container);
	bundle_free(&create.bundle);
	return ret;
}
