/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: Firecracker's two requests, and one of our own for a directory, which pauses and
 * resumes by itself. Writing one is a job. */
#include "api/private.h"
#include "base/checked.h"
#include "base/log.h"
#include "snapshot/take.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_LIMIT_NS 10000000000ULL

static const char *const type_words[] = {"Full", "Diff", NULL};
enum type {
	TYPE_FULL,
	TYPE_DIFF,
};

/* ---- the job ---- */

struct snapshot_job {
	struct job job; /* first: it is freed by it */
	struct snapshot_take take;
	struct machine_pause pause;
	struct exchange *exchange; /* null: answered */
	const char *prefix;        /* of what is refused */
	bool diff, resume, replies;
	char directory[]; /* until it has begun */
};

static struct snapshot_job *self_of(const struct job *job)
{
	return container_of(job, struct snapshot_job, job);
}

static void answer(struct snapshot_job *self, int result, const char *why)
{
	struct error err = {0};

	if (!self->exchange)
		return;
	if (result == 0 && self->replies)
		api_answer_json(self->exchange, 200, job_json(&self->job));
	else if (result == 0)
		api_answer_json(self->exchange, 204, NULL);
	else if (result == -EACCES && self->job.api->options.confined)
		error_set(&err, EACCES,
			"%s%s; in its sandbox a machine writes below the directories of --allow "
			"alone: start it with --allow and the directory above this one",
			self->prefix, why);
	else
		error_set(&err, -result, "%s%s", self->prefix, why);
	if (result < 0)
		api_answer_fault(self->exchange, err.text);
	self->exchange = NULL;
}

static void end(struct snapshot_job *self, int result, const char *why)
{
	if (result < 0)
		log_warning("snapshot: %s; the one before stays", why);
	job_end(&self->job, result, why);
	answer(self, result, why);
	if (self->resume)
		machine_resume(self->job.api->machine);
}

static void taken(struct snapshot_take *take, int result, const char *why)
{
	end(container_of(take, struct snapshot_job, take), result, why);
}

static int take(struct snapshot_job *self, const struct snapshot_place *place, struct error *err)
{
	struct api *api = self->job.api;

	self->take.done = taken;
	return snapshot_take_begin(
		&self->take, api->machine, &api->track, place, self->diff, api->options.loop, err);
}

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct snapshot_job *self = container_of(pause, struct snapshot_job, pause);
	const struct snapshot_place place = {.directory = self->directory};
	struct error err = {0};

	self->resume = result == 0;
	if (result == 0 && self->job.cancelled)
		result = error_set(&err, ECANCELED, "it was cancelled");
	else if (result == 0)
		result = take(self, &place, &err);
	if (result < 0)
		end(self, result, err.code ? err.text : why);
}

static void cancel(struct job *job)
{
	snapshot_take_cancel(&self_of(job)->take);
}

static void abandon(struct job *job)
{
	struct snapshot_job *self = self_of(job);

	self->resume = false;
	if (snapshot_take_end(&self->take) == 0) {
		end(self, -ECANCELED, "the machine has ended");
		return;
	}
	log_warning("ended while a snapshot still waits for the host's storage, which does not let "
		    "go; what is new of it is left there");
	machine_leave(job->api->machine);
	job_leave(job);
	answer(self, -ECANCELED, "the machine has ended");
}

static uint64_t bytes(const struct job *job)
{
	return atomic_load(&self_of(job)->take.progress.written);
}

static const struct job_kind kind = {.name = "snapshot",
	.what = "a snapshot",
	.cancel = cancel,
	.abandon = abandon,
	.bytes = bytes};

int snapshot_check_resume(const struct api *api, struct error *err)
{
	const struct job *job = jobs_running(api);

	if (!job || job->kind != &kind)
		return 0;
	return error_set(err, EBUSY,
		"A snapshot is being written, and the machine stays paused until then; DELETE "
		"/duet/jobs/%u ends it.",
		job->number);
}

static int check_diff(const struct api *api, enum type type, struct error *err)
{
	if (type != TYPE_DIFF || api->track.wanted)
		return 0;
	return error_set(err, ENOTSUP,
		"The requested operation is not supported: Diff snapshots are not allowed on uVMs "
		"with dirty page tracking disabled.");
}

static struct snapshot_job *make(struct call *call, enum type type, const char *directory)
{
	struct snapshot_job *self = calloc(1, sizeof(*self) + strlen(directory) + 1);

	if (!self) {
		error_errno(&call->err, ENOMEM, "job");
		return NULL;
	}
	strcpy(self->directory, directory);
	self->job.api = call->api;
	self->exchange = call->exchange;
	self->diff = type == TYPE_DIFF;
	self->prefix = "";
	return self;
}

/* ---- PUT /snapshot/create ---- */

struct create_fields {
	struct given_word type;
	const char *state, *memory;
};

#define IN_CREATE(member) offsetof(struct create_fields, member)
static const struct member create_members[] = {
	{.name = "snapshot_type",
		.kind = MEMBER_WORD,
		.offset = IN_CREATE(type),
		.words = type_words},
	{.name = "snapshot_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN_CREATE(state)},
	{.name = "mem_file_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN_CREATE(memory)},
};
static const struct body create_body = {"CreateSnapshotParams", create_members,
	ARRAY_SIZE(create_members), .size = sizeof(struct create_fields)};

static int check_paused(const struct api *api, struct error *err)
{
	if (machine_is_paused(api->machine))
		return 0;
	if (machine_state(api->machine) == MACHINE_BUILT)
		return error_set(err, EINVAL,
			"it was loaded and has not run since; its snapshot is there already");
	return error_set(err, EINVAL,
		"Cannot save the microVM state: Operation not allowed: save/restore unavailable "
		"while running");
}

static int create(struct call *call)
{
	const struct create_fields *fields = call->fields;
	const struct snapshot_place place = {.state = fields->state, .memory = fields->memory};
	const char *const prefix = "Create snapshot error: ";
	struct snapshot_job *self;
	int ret = check_diff(call->api, fields->type.value, &call->err);

	if (ret < 0)
		return ret;
	ret = check_paused(call->api, &call->err);
	if (ret == 0)
		ret = jobs_check_free(call->api, &call->err);
	if (ret < 0)
		return error_prefix(&call->err, "%s", prefix);
	self = make(call, fields->type.value, "");
	if (!self)
		return -ENOMEM;
	self->prefix = prefix;
	ret = take(self, &place, &call->err);
	if (ret < 0) {
		free(self);
		return error_prefix(&call->err, "%s", prefix);
	}
	job_begin(&self->job, call->api, &kind);
	return CALL_LATER;
}

/* ---- PUT /duet/snapshot ---- */

struct own_fields {
	const char *directory;
	struct given_word type;
};

#define IN_OWN(member) offsetof(struct own_fields, member)
static const struct member own_members[] = {
	{.name = "directory", .kind = MEMBER_TEXT, .needed = true, .offset = IN_OWN(directory)},
	{.name = "type", .kind = MEMBER_WORD, .offset = IN_OWN(type), .words = type_words},
};
static const struct body own_body = {
	"Snapshot", own_members, ARRAY_SIZE(own_members), .size = sizeof(struct own_fields)};

static int begin_own(struct snapshot_job *self, struct error *err)
{
	struct machine *machine = self->job.api->machine;
	const struct snapshot_place place = {.directory = self->directory};
	int ret;

	if (machine_is_paused(machine))
		return take(self, &place, err);
	self->pause.done = paused;
	ret = machine_pause(machine, &self->pause, PAUSE_LIMIT_NS);
	if (ret == -EALREADY)
		return error_set(err, EBUSY, "it is being paused already; ask again");
	return ret < 0 ? error_set(err, -ret, "the machine does not run, and cannot be paused") : 0;
}

static int create_own(struct call *call)
{
	const struct own_fields *fields = call->fields;
	struct snapshot_job *self;
	int ret = check_diff(call->api, fields->type.value, &call->err);

	if (ret == 0)
		ret = jobs_check_free(call->api, &call->err);
	if (ret < 0)
		return ret;
	self = make(call, fields->type.value, fields->directory);
	if (!self)
		return -ENOMEM;
	self->replies = true;
	ret = begin_own(self, &call->err);
	if (ret < 0) {
		free(self);
		return ret;
	}
	job_begin(&self->job, call->api, &kind);
	return CALL_LATER;
}

/* ---- routes ---- */

static const struct route routes[] = {
	{"PUT", "snapshot/create", WHEN_AFTER, .body = &create_body, .function = create},
	{"PUT", "duet/snapshot", WHEN_AFTER, .exact = true, .body = &own_body,
		.function = create_own},
};
const struct route_set snapshot_routes = {routes, ARRAY_SIZE(routes)};
