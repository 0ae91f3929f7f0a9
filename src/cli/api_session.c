/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api_session.h"

#include "backend/net.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* #syscalls main: newfstatat fstat */

#define MINUTE_NS (60 * SECOND_NS)

int api_session_start(void *opaque, struct error *err)
{
	struct api_session *self = opaque;
	struct session *session = self->session;
	int ret = session_busy(session, false, err);

	if (ret == 0)
		ret = session_machine(session, self->config, err);
	if (ret == 0)
		ret = machine_build(session->machine, err);
	if (ret == 0)
		ret = session_start(session, err);
	if (ret < 0) {
		session_forget(session);
		session_listens(session);
		return ret;
	}
	api_set_machine(self->api, session->machine);
	return 0;
}

static int restore(void *opaque, const struct snapshot *snapshot, struct error *err)
{
	struct api_session *self = opaque;
	int ret = session_busy(self->session, false, err);

	if (ret == 0)
		ret = restore_machine(self->session, self->config, snapshot, err);
	if (ret < 0)
		session_forget(self->session);
	session_listens(self->session);
	if (ret < 0)
		return ret;
	api_set_machine(self->api, self->session->machine);
	return 0;
}

static int go(void *opaque, struct error *err)
{
	const struct api_session *self = opaque;

	return session_start(self->session, err);
}

/* A FIFO need not have a reader yet. */
static int open_place(const char *path, struct error *err)
{
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0640);

	return fd < 0 ? error_errno(err, errno, "%s", path) : fd;
}

static void replace(int *fd, int with)
{
	if (*fd >= 0)
		close(*fd);
	*fd = with;
}

int api_session_log_to(void *opaque, const char *path, const char *level, struct error *err)
{
	struct api_session *self = opaque;
	enum log_level wanted;
	int fd = path ? open_place(path, err) : 0;

	if (fd < 0)
		return fd;
	if (path) {
		log_set_output(fd);
		replace(&self->log, fd);
	}
	if (level && log_level_parse(level, &wanted))
		log_set_level(wanted);
	return 0;
}

/* Who does not read them does without. */
static int write_metrics(void *opaque, struct error *err)
{
	struct api_session *self = opaque;
	_cleanup_free_ char *metrics = NULL, *line = NULL;
	int ret;

	if (self->metrics.fd < 0) {
		log_info("metrics are written nowhere; name a place by PUT /metrics before the "
			 "start");
		return 0;
	}
	metrics = api_metrics(self->api);
	if (!metrics || asprintf(&line, "%s\n", metrics) < 0) {
		line = NULL;
		return error_errno(err, ENOMEM, "metrics");
	}
	/* A regular file may be on storage that hangs. */
	session_waits(self->session, true);
	ret = slow_file_write(&self->metrics, line, err);
	session_waits(self->session, false);
	return ret;
}

static void minute_over(struct loop_timer *timer)
{
	struct api_session *self = container_of(timer, struct api_session, minute);
	struct error err = {0};

	if (write_metrics(self, &err) < 0)
		log_warning("%s", err.text);
	loop_timer_after(self->session->loop, timer, MINUTE_NS);
}

int api_session_metrics_to(void *opaque, const char *path, struct error *err)
{
	struct api_session *self = opaque;
	int fd;

	if (self->metrics.fd >= 0)
		return error_set(err, EEXIST,
			"Cannot initialize the metrics system due to bad user input: "
			"Reinitialization of metrics not allowed.");
	fd = open_place(path, err);
	if (fd < 0)
		return fd;
	slow_file_set(&self->metrics, fd);
	loop_timer_after(self->session->loop, &self->minute, MINUTE_NS);
	return 0;
}

static int serial_to(void *opaque, const char *path, struct error *err)
{
	struct api_session *self = opaque;
	int fd = open_place(path, err);

	if (fd < 0)
		return fd;
	replace(&self->serial, fd);
	self->session->output = fd;
	return 0;
}

/* Who names one that cannot be had shall hear of it at once, not at the start. */
static int check_tap(void *opaque, const char *ifname, struct error *err)
{
	const struct net_options options = {.kind = NET_TAP, .ifname = ifname, .queues = 1};
	struct net *net;
	int ret = net_open(&net, &options, err);

	(void)opaque;
	if (ret == 0)
		net_close(net);
	return ret;
}

static void handle(void *opaque, const struct request *request, struct exchange *exchange)
{
	const struct api_session *self = opaque;

	api_handle(self->api, request, exchange);
}

int api_session_open(struct api_session *self, struct session *session,
	const struct api_session_options *options, struct error *err)
{
	const struct api_options api = {.id = options->id,
		.loop = session->loop,
		.config = options->config,
		.calls = confine_calls(&session->confine),
		.confined = session->confine.files && session->confine.choice != CONFINE_OFF,
		.start = options->running ? NULL : api_session_start,
		.restore = options->running ? NULL : restore,
		.go = options->running ? NULL : go,
		.log_to = api_session_log_to,
		.metrics_to = api_session_metrics_to,
		.serial_to = serial_to,
		.check_tap = check_tap,
		.flush_metrics = write_metrics,
		.opaque = self};
	const struct http_options http = {.option = "--api-sock",
		.name = API_NAME,
		.path = options->path,
		.body_max = options->body_max,
		.request = handle,
		.opaque = self};
	int ret;

	*self = (struct api_session){.session = session,
		.config = options->config,
		.minute.expired = minute_over,
		.log = -1,
		.serial = -1};
	slow_file_init(&self->metrics, session->loop);
	ret = api_new(&self->api, &api, err);
	if (ret == 0 && options->path)
		ret = http_server_open(&self->server, session->loop, &http, err);
	if (ret == 0 && options->running)
		api_set_machine(self->api, session->machine);
	return ret;
}

void api_session_go(struct api_session *self)
{
	api_set_machine(self->api, self->session->machine);
}

/* The files of log and console stay until the process ends: a machine that is stuck may still write
 * there. */
void api_session_close(struct api_session *self)
{
	loop_timer_stop(&self->minute);
	http_server_close(self->server);
	api_free(self->api);
	slow_file_close(&self->metrics);
}
