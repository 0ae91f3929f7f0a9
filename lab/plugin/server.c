/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct server {
	int listener;
	server_answer_fn *answer;
};

static void serve(const struct server *server, int fd)
{
	FILE *stream = fdopen(fd, "r+");
	char line[64] = "";

	if (!stream) {
		close(fd);
		return;
	}
	if (fgets(line, sizeof(line), stream)) {
		fseek(stream, 0, SEEK_CUR); /* from reading to writing */
		server->answer(stream, line);
	}
	fclose(stream);
}

static void *serve_forever(void *opaque)
{
	const struct server *server = opaque;

	for (;;) {
		int conn = accept(server->listener, NULL, NULL);

		if (conn >= 0)
			serve(server, conn);
		else if (errno != EINTR && errno != ECONNABORTED)
			return NULL;
	}
}

static int listen_at(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(name.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	memcpy(name.sun_path, path, strlen(path));
	unlink(path);
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) || listen(fd, 8)) {
		close(fd);
		return -1;
	}
	return fd;
}

int server_start(const char *path, server_answer_fn *answer)
{
	struct server *server = malloc(sizeof(*server)); /* lives as long as QEMU */
	sigset_t all, before;
	pthread_t thread;
	int error;

	if (!server)
		return -1;
	*server = (struct server){.listener = listen_at(path), .answer = answer};
	if (server->listener < 0) {
		fprintf(stderr, "lab plugin: %s: %s\n", path, strerror(errno));
		free(server);
		return -1;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, NULL, serve_forever, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? -1 : 0;
}
