/* SPDX-License-Identifier: Apache-2.0 */
/* The API's parts, shared by the files of this folder only. Main thread. */
#ifndef DUET_API_PRIVATE_H
#define DUET_API_PRIVATE_H

#include "api/api.h"
#include "api/body.h"
#include "machine/fields.h"
#include "snapshot/track.h"

#include <jansson.h>

#define API_DRIVES_MAX  16
#define API_WAITERS_MAX 16
#define REQUEST_FIELDS  1024 /* bytes: room for the fields of any body; test_api looks */

/* What Firecracker's drives have and a disk's configuration has not. */
struct api_drive {
	char id[MACHINE_ID_SIZE];
	bool root, writeback, async;
	char *partuuid;
};

enum job_state {
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
	JOB_CANCELLED,
};

struct job;
struct migration;

struct job_kind {
	const char *name; /* as GET /duet/jobs has it */
	const char *what; /* "a snapshot", for messages */
	/* It is to end soon. */
	void (*cancel)(struct job *job);
	/* It is to have ended: the machine goes. */
	void (*abandon)(struct job *job);
	/* What it has moved so far. */
	uint64_t (*bytes)(const struct job *job);
};

/* The first member of what is known of a job besides. */
struct job {
	struct job *next;
	struct api *api;
	const struct job_kind *kind;
	unsigned number;
	enum job_state state;
	bool cancelled; /* asked for */
	char why[256];
};

struct api {
	struct api_options options;
	struct machine *machine; /* null: not started, or ended */
	bool started;
	struct api_drive drives[API_DRIVES_MAX];
	unsigned drive_count;
	char *boot_args; /* as they came; null: none did */
	bool smt, has_template;
	unsigned cpu_template; /* of machine-config's words */
	/* Those who have asked for the one pause that is on its way. */
	struct machine_pause pause;
	bool pausing;
	struct exchange *waiters[API_WAITERS_MAX];
	unsigned waiter_count;
	struct {
		struct loop_timer timer;
		uint64_t back; /* MiB that the balloon goes back to, while the timer is set */
	} lease;
	struct snapshot_track track; /* PUT /machine-config, PUT /snapshot/load, --track-dirty */
	struct {
		uint64_t at;                   /* when it was last looked up, ns; 0: not yet */
		bool was_moving, was_complete; /* a move, the map, ... */
		uint32_t told;                 /* ... of this number */
		json_t *answer;                /* null: there is no whole map */
		struct machine_uses uses;
	} place;
	struct {
		struct loop_timer timer;
		enum machine_sharing_state back; /* what it goes back to, while the timer is set */
	} sharing;
	struct migration *migration; /* the last one; null: there was none */
	json_t *told;                /* metrics.h; null: no line yet */
	struct job *jobs;            /* the newest first */
	unsigned last_job;
};

/* A request that is being answered. */
struct call {
	struct api *api;
	struct exchange *exchange; /* null: a section of a file */
	const char *id;            /* what {} of the pattern stands for; else "" */
	const void *fields;        /* as the route's body reads them; null: it has none */
	const json_t *json;        /* the body itself; null: there is none */
	json_t *reply;             /* of status 200, the function's to set; null: 204 */
	struct error err;          /* 400 */
};

/* Answers later, by call->exchange: api_answer(). */
#define CALL_LATER 1

/* Of one that nobody here starts. */
#define API_COMES "The machine is on its way here, and runs when it has come."

enum route_when {
	WHEN_ALWAYS,
	WHEN_BEFORE, /* before the start alone */
	WHEN_AFTER,  /* while there is a machine */
};

struct route {
	const char *method;
	const char *pattern; /* "drives/{}" */
	enum route_when when;
	bool exact;              /* nothing may follow; else it is no matter, as in Firecracker */
	bool resource;           /* {} is an id by Firecracker's rules */
	bool bare;               /* needs no body */
	const struct body *body; /* null: any JSON, or none */
	/* What is refused before the state is looked at; may be null. */
	int (*check)(struct call *call);
	/* 0, CALL_LATER, or negative with call->err. */
	int (*function)(struct call *call);
};

struct route_set {
	const struct route *routes;
	unsigned count;
};

extern const struct route_set instance_routes, machine_config_routes, boot_routes, drive_routes,
	net_routes, balloon_routes, output_routes, vsock_routes, absent_routes, duet_routes,
	hints_routes, job_routes, brief_routes, lease_routes, snapshot_routes, snapshot_load_routes,
	place_routes, sharing_routes, migration_routes;
/* All of them, in the order in which a request's is looked for. */
#define ROUTE_SETS 19
extern const struct route_set *const route_sets[ROUTE_SETS];

/* @body as in exchange.h. */
void api_answer_json(struct exchange *exchange, unsigned status, json_t *body);
void api_answer_fault(struct exchange *exchange, const char *message);
/* What holds now: the machine's configuration, or the one that is being filled in. */
const struct machine_config *api_config(const struct api *api);

/* file.c, and GET /vm/config */
json_t *machine_config_json(const struct api *api);
json_t *boot_json(const struct api *api);
json_t *drives_json(const struct api *api);
json_t *nets_json(const struct api *api);
/* Null: there is none. */
json_t *balloon_json(const struct api *api);
/* While there is a machine with a balloon. */
json_t *balloon_statistics_json(const struct api *api);
/* While there is a machine; 0 without a balloon. */
uint64_t balloon_target_mib(const struct api *api);
/* While there is a machine. Refuses what PATCH /balloon refuses. */
int balloon_resize(struct call *call, uint64_t mib);
json_t *vsock_json(const struct api *api);

/* boot.c: the kernel's command line follows from the arguments and the root drive. -ENOMEM. */
int boot_update(struct api *api);

/* cpu_config.c */
extern const struct body cpu_body;
int put_cpu_config(struct call *call);
/* null when nothing is changed. */
json_t *cpu_config_json(const struct api *api);

/* instance.c */
/* "Running", in Firecracker's words. */
const char *api_state_name(const struct api *api);
void instance_ended(struct api *api);

/* limiter.c */
struct given_bucket {
	bool given;
	struct given_number size, refill_time, one_time_burst;
};
struct given_limiter {
	bool given;
	struct given_bucket bandwidth, ops;
};
extern const struct body limiter_body;
/* What is not given stays as it is. @bandwidth and @ops: fields of @to, which say how much there
 * may be at most; of a device of @type by their names. */
int limiter_take_fields(const struct given_limiter *limiter, const struct field *bandwidth,
	const struct field *ops, void *to, struct error *err);
int limiter_take(const struct given_limiter *limiter, enum device_type type, const char *bandwidth,
	const char *ops, void *device, struct error *err);
json_t *limiter_json(const struct bucket_limit *bytes, const struct bucket_limit *operations);

/* The record of @id, a new one if there was none; one of another type is refused. */
int api_device(struct device_config **device, struct machine_config *config, enum device_type type,
	const char *id, struct error *err);
/* Sets a field of @device by its name, from the words of a command line. */
int api_set(struct device_config *device, const char *field, const char *text, struct error *err);

/* What is refused in the middle shall leave no trace: a copy is changed, which then becomes the
 * record (keep), or is dropped. */
int api_copy(struct device_config *copy, const struct device_config *device, struct error *err);
void api_keep(struct device_config *device, struct device_config *copy);
void api_drop(struct device_config *copy);

/* refresh.c, keys.c */
int refresh_drive(struct call *call, const char *id, const char *path);
int press_ctrl_alt_del(struct call *call);

/* hints.c, for a machine with a cooperation device. */
json_t *hints_vcpus_json(const struct api *api);
/* Null: the guest says nothing now. */
json_t *hints_machine_json(const struct api *api);

/* lease.c */
void lease_init(struct api *api);
/* What the balloon is, or goes back to when the lease that it has ends. */
uint64_t lease_own_mib(const struct api *api);
/* The balloon's size stays what it is. */
void lease_end(struct api *api);

/* place.c, with a cooperation device: what GET /duet/place says, of late; null: there is no whole
 * map. A new reference. */
json_t *place_brief_json(struct api *api);
void place_forget(struct api *api);

/* sharing.c */
void sharing_lease_init(struct api *api);
/* What is shared stays what it is. */
void sharing_lease_end(struct api *api);
/* While there is a machine. */
json_t *sharing_brief_json(const struct api *api);

/* jobs.c */
/* Null: none runs. */
struct job *jobs_running(const struct api *api);
/* -EBUSY: one runs. */
int jobs_check_free(const struct api *api, struct error *err);
/* @job, zeroed and in memory of malloc(), is the API's from now on. */
void job_begin(struct job *job, struct api *api, const struct job_kind *kind);
void job_end(struct job *job, int result, const char *why);
/* A thread that cannot be waited for has it: it stays until the process ends, and is no job any
 * more. */
void job_leave(struct job *job);
json_t *job_json(const struct job *job);
/* @seconds: of the guest's round. */
int hints_begin(struct api *api, unsigned seconds, struct job **job, struct error *err);
/* The round that is on its way, if there is one, ends soon. */
void hints_cut(struct api *api);
void jobs_ended(struct api *api);
void jobs_free(struct api *api);

/* snapshot.c: -EBUSY while one is being written. */
int snapshot_check_resume(const struct api *api, struct error *err);

#endif
