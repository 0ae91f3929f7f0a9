/* SPDX-License-Identifier: Apache-2.0 */
/* Work that takes longer than a request should: it is begun by one, and asked for by others. */
#include "api/private.h"
#include "base/checked.h"
#include "base/clock.h"
#include "virtio/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_KEPT     16
#define SECONDS_MAX   3600
#define SECONDS_GIVEN 60

/* ---- any job ---- */

struct job *jobs_running(const struct api *api)
{
	for (struct job *job = api->jobs; job; job = job->next)
		if (job->state == JOB_RUNNING)
			return job;
	return NULL;
}

int jobs_check_free(const struct api *api, struct error *err)
{
	const struct job *job = jobs_running(api);

	return job ? error_set(err, EBUSY, "%s is on its way already", job->kind->what) : 0;
}

/* The oldest go; one at a time runs, and that is among the newest. */
static void forget_old(struct api *api)
{
	struct job **at = &api->jobs;

	for (unsigned i = 0; *at && i < JOBS_KEPT; i++)
		at = &(*at)->next;
	while (*at) {
		struct job *old = *at;

		*at = old->next;
		free(old);
	}
}

void job_begin(struct job *job, struct api *api, const struct job_kind *kind)
{
	job->api = api;
	job->kind = kind;
	job->number = ++api->last_job;
	job->next = api->jobs;
	api->jobs = job;
	forget_old(api);
}

void job_end(struct job *job, int result, const char *why)
{
	if (result == 0)
		job->state = JOB_DONE;
	else
		job->state = job->cancelled ? JOB_CANCELLED : JOB_FAILED;
	if (result < 0 && !job->cancelled)
		snprintf(job->why, sizeof(job->why), "%s",
			why && *why ? why : strerrordesc_np(-result));
}

void job_leave(struct job *job)
{
	struct job **at = &job->api->jobs;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
}

static void cancel(struct job *job)
{
	job->cancelled = true;
	job->kind->cancel(job);
}

void jobs_ended(struct api *api)
{
	struct job *job = jobs_running(api);

	if (job)
		job->kind->abandon(job);
}

void jobs_free(struct api *api)
{
	while (api->jobs) {
		struct job *job = api->jobs;

		api->jobs = job->next;
		free(job);
	}
}

/* ---- a round of free page hints ---- */

struct hints_job {
	struct job job; /* first: it is freed by it */
	uint64_t bytes;
	struct machine_hints hints;
};

static struct hints_job *hints_of(const struct job *job)
{
	return container_of(job, struct hints_job, job);
}

static void hints_done(struct machine_hints *hints, int result, uint64_t bytes, const char *why)
{
	struct hints_job *self = container_of(hints, struct hints_job, hints);

	self->bytes = bytes;
	if (result == -ETIMEDOUT && !(why && *why))
		why = "the guest did not come to an end in time";
	job_end(&self->job, result, why);
}

static void cancel_hints(struct job *job)
{
	machine_cut_hints(&hints_of(job)->hints);
}

/* A machine that has ended answers no pause any more, but its timer may be set. */
static void abandon_hints(struct job *job)
{
	loop_timer_stop(&hints_of(job)->hints.timer);
	hints_done(&hints_of(job)->hints, -ECANCELED, 0, "the machine has ended");
}

static uint64_t hints_bytes(const struct job *job)
{
	struct virtio_balloon_hints status = {.bytes = hints_of(job)->bytes};
	struct machine *machine = job->api->machine;

	if (job->state == JOB_RUNNING && machine && machine_balloon(machine))
		virtio_balloon_hint_status(machine_balloon(machine), &status);
	return status.bytes;
}

static const struct job_kind hints_kind = {.name = "hints",
	.what = "a round of free page hints",
	.cancel = cancel_hints,
	.abandon = abandon_hints,
	.bytes = hints_bytes};

int hints_begin(struct api *api, unsigned seconds, struct job **job, struct error *err)
{
	struct hints_job *made;
	int ret = jobs_check_free(api, err);

	if (ret < 0)
		return ret;
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_errno(err, ENOMEM, "job");
	made->hints.done = hints_done;
	ret = machine_take_hints(api->machine, &made->hints, seconds * SECOND_NS, err);
	if (ret < 0) {
		free(made);
		return ret;
	}
	job_begin(&made->job, api, &hints_kind);
	*job = &made->job;
	return 0;
}

void hints_cut(struct api *api)
{
	struct job *job = jobs_running(api);

	if (job && job->kind == &hints_kind)
		cancel(job);
}

/* ---- routes ---- */

json_t *job_json(const struct job *job)
{
	static const char *const states[] = {"running", "done", "failed", "cancelled"};

	return json_pack("{s:i, s:s, s:s, s:I, s:o}", "id", (int)job->number, "type",
		job->kind->name, "state", states[job->state], "bytes",
		(json_int_t)job->kind->bytes(job), "error",
		*job->why ? json_string(job->why) : json_null());
}

static struct job *find(struct call *call)
{
	for (struct job *job = call->api->jobs; job; job = job->next) {
		char number[16];

		snprintf(number, sizeof(number), "%u", job->number);
		if (strcmp(number, call->id) == 0)
			return job;
	}
	error_set(&call->err, ENOENT, "There is no job %.32s.", call->id);
	return NULL;
}

static int get(struct call *call)
{
	const struct job *job = find(call);

	if (job)
		call->reply = job_json(job);
	return job ? 0 : -ENOENT;
}

static int list(struct call *call)
{
	call->reply = json_array();
	for (const struct job *job = call->api->jobs; job; job = job->next)
		json_array_append_new(call->reply, job_json(job));
	return 0;
}

static int delete (struct call *call)
{
	struct job *job = find(call);

	if (job && job->state == JOB_RUNNING)
		cancel(job);
	return job ? 0 : -ENOENT;
}

struct fields {
	struct given_number seconds;
};

static const struct member members[] = {
	{"seconds", MEMBER_NUMBER, false, offsetof(struct fields, seconds), .most = UINT16_MAX},
};
static const struct body body = {
	"Hints", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static int post_hints(struct call *call)
{
	const struct fields *fields = call->fields;
	unsigned seconds = fields->seconds.given ? (unsigned)fields->seconds.value : SECONDS_GIVEN;
	struct job *job = NULL;
	int ret;

	if (!seconds || seconds > SECONDS_MAX)
		return error_set(
			&call->err, EINVAL, "seconds: give a number from 1 to %d", SECONDS_MAX);
	ret = hints_begin(call->api, seconds, &job, &call->err);
	if (job)
		call->reply = job_json(job);
	return ret;
}

static const struct route routes[] = {
	{"POST", "duet/hints", WHEN_AFTER, .exact = true, .bare = true, .body = &body,
		.function = post_hints},
	{"GET", "duet/jobs", .exact = true, .function = list},
	{"GET", "duet/jobs/{}", .exact = true, .function = get},
	{"DELETE", "duet/jobs/{}", .exact = true, .bare = true, .function = delete},
};
const struct route_set job_routes = {routes, ARRAY_SIZE(routes)};
