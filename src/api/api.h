/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resources of the API: Firecracker's (their names, bodies, defaults, messages and status
 * codes) and our own under /duet/. Before the start they fill in a configuration, afterwards they
 * call what the command line calls. docs/openapi.json describes each. Main thread.
 */
#ifndef DUET_API_API_H
#define DUET_API_API_H

#include "http/exchange.h"
#include "machine/machine.h"

/* The one whose API this is, as GET /version tells it. */
#define API_FIRECRACKER_VERSION "1.12.0"
/* What its HTTP server calls itself, which clients may look for. */
#define API_NAME "Firecracker API"
#define API_ID   "anonymous-instance" /* unless --id says otherwise */

struct api;
struct snapshot;
struct snapshot_id;

struct api_options {
	const char *id; /* --id, as GET / gives it; null: API_ID */
	struct loop *loop;
	struct machine_config *config; /* the caller's; filled in before the start */
	bool calls;                    /* it may call other hosts */
	bool confined; /* files that its command line does not name are out of reach */
	/* InstanceStart: makes, builds and starts a machine of @config, which stays as it is should
	 * that fail, and says api_set_machine(). Null: it runs already, or it comes from elsewhere,
	 * and all is refused until api_set_machine(). */
	int (*start)(void *opaque, struct error *err);
	/* PUT /snapshot/load: makes a machine of @config and what @snapshot has, and says
	 * api_set_machine(); it waits for go(), which lets it run. Both may be null: 400
	 * then, also for one that is built and waits for somebody else (--incoming). */
	int (*restore)(void *opaque, const struct snapshot *snapshot, struct error *err);
	int (*go)(void *opaque, struct error *err);
	/* The places that PUT /logger and PUT /metrics name. May be null: 400 then. @path and
	 * @level ("error" to "debug", as log_level_parse() has them): null when not said. */
	int (*log_to)(void *opaque, const char *path, const char *level, struct error *err);
	int (*metrics_to)(void *opaque, const char *path, struct error *err);
	/* Where PUT /serial sends the guest's console. May be null: 400 then. */
	int (*serial_to)(void *opaque, const char *path, struct error *err);
	/* PUT /network-interfaces: whether the tap can be opened now. May be null: the start says.
	 */
	int (*check_tap)(void *opaque, const char *ifname, struct error *err);
	/* FlushMetrics: a line of api_metrics() to where PUT /metrics has said, if it has. May be
	 * null. */
	int (*flush_metrics)(void *opaque, struct error *err);
	void *opaque;
};

/* @options are copied, their texts not. Where there is a start(), the configuration becomes what
 * Firecracker's defaults are: 1 vCPU, 128 MiB, no devices, and a guest that resets ends it. */
int api_new(struct api **api, const struct api_options *options, struct error *err);
/* The machine has ended, or never began. Answers what was not answered. Null is allowed. */
void api_free(struct api *api);
/* The machine that runs; null: it is about to be freed, having ended. */
void api_set_machine(struct api *api, struct machine *machine);
/* Changes are to be known from the next snapshot on; with @parent, of which the machine was made
 * and has not run since, from now on. */
int api_track(struct api *api, const struct snapshot_id *parent, struct error *err);
void api_handle(struct api *api, const struct request *request, struct exchange *exchange);

/* Firecracker's word for a level of the log, in any case of letters, as log_level_parse() has it:
 * there is no silence here, and nothing below debug. Null: it is none. Any thread. */
const char *api_log_level(const char *name);

/* The line that --config-file, --metadata and FlushMetrics need: what GET of it would give, as JSON
 * of one line. Null: no memory. The caller's. */
char *api_metrics(struct api *api);
/* A file of --config-file: all resources in one JSON object, as GET /vm/config gives them. */
int api_read_file(struct api *api, const char *path, struct error *err);

#endif
