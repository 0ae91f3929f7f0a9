/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API (--api-sock) of a session: its socket, the machine's start through it, and the places for
 * log and metrics that a client names. Main thread.
 */
#ifndef DUET_CLI_API_SESSION_H
#define DUET_CLI_API_SESSION_H

#include "api/api.h"
#include "cli/session.h"
#include "cli/slow_file.h"
#include "http/server.h"

struct api_session {
	struct session *session;
	struct machine_config *config;
	struct api *api;
	struct http_server *server;
	struct loop_timer minute; /* until the next line of metrics */
	struct slow_file metrics;
	int log, serial; /* files; -1: none */
};

struct api_session_options {
	const char *path;              /* of the socket; null: none, only for api_read_file() */
	const char *id;                /* what GET / answers */
	size_t body_max;               /* bytes of a request's body */
	struct machine_config *config; /* the caller's; filled in until the start */
	bool running;                  /* the session has its machine already, or it comes */
};

/* @session is open. To be closed in any case. */
int api_session_open(struct api_session *api_session, struct session *session,
	const struct api_session_options *options, struct error *err);
/* With @running, of a session without one so far: the machine that came runs. */
void api_session_go(struct api_session *api_session);
/* Before session_close(). */
void api_session_close(struct api_session *api_session);

/* As PUT /actions InstanceStart, PUT /logger and PUT /metrics do. */
int api_session_start(void *opaque, struct error *err);
int api_session_log_to(void *opaque, const char *path, const char *level, struct error *err);
int api_session_metrics_to(void *opaque, const char *path, struct error *err);

#endif
