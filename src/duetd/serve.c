/* SPDX-License-Identifier: Apache-2.0 */
#include "duetd/serve.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "duetd/control.h"
#include "duetd/signals.h"
#include "http/server.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define LOOP_ENTRIES 64

/* Two seconds in all. */
#define OPEN_TRIES   100
#define OPEN_WAIT_NS 20000000

/* What one that was killed has left; whoever still listens keeps it. A file of another kind refuses
 * a connection in the same way, and is not ours. */
static void remove_stale(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path) || lstat(path, &status) < 0 ||
		!S_ISSOCK(status.st_mode))
		return;
	memcpy(address.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED)
		unlink(path);
}

/* The kernel lets go of a killed one's socket a moment after it has ended: its io_uring is taken
 * apart by then. */
static int open_server(struct http_server **server, struct loop *loop,
	const struct http_options *options, struct error *err)
{
	int ret = -EADDRINUSE;

	for (unsigned i = 0; ret == -EADDRINUSE && i < OPEN_TRIES; i++) {
		if (i)
			nanosleep(&(struct timespec){.tv_nsec = OPEN_WAIT_NS}, NULL);
		remove_stale(options->path);
		ret = http_server_open(server, loop, options, err);
	}
	return ret;
}

static int run(struct loop *loop, struct manager *manager, struct signals *signals,
	const struct serve_options *options, struct error *err)
{
	const struct http_options http = {.option = "--socket",
		.name = "duetd",
		.path = options->socket,
		.body_max = 4096,
		.request = control_handle,
		.opaque = manager};
	struct http_server *server = NULL;
	int ret = signals_open(signals, loop, "everything is put back", err);

	if (ret == 0)
		ret = open_server(&server, loop, &http, err);
	if (ret == 0) {
		log_info("manages the VMs of %s; duetctl finds it at %s",
			options->manager.directory, options->socket);
		ret = signals_run(signals, err);
	}
	http_server_close(server);
	signals_close(signals);
	return ret;
}

/* A descriptor for each machine that is asked at the same time. */
static void allow_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int serve(const struct serve_options *options, struct error *err)
{
	struct signals signals = {.fd = -1};
	struct manager manager;
	struct loop *loop;
	int ret = loop_new(&loop, LOOP_ENTRIES, err);

	if (ret < 0)
		return ret;
	allow_files();
	ret = manager_open(&manager, loop, &options->manager, err);
	if (ret == 0)
		ret = run(loop, &manager, &signals, options, err);
	manager_close(&manager);
	signals_settle(loop);
	loop_free(loop);
	return ret;
}
