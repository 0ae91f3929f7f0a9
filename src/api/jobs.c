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

enum job_state {
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
	JOB_CANCELLED,
};

/* A round of free page hints, which is all that takes long yet. */
struct job {
	struct job *next;
	struct api *api;
	unsigned number;
	enum job_state state;
	bool cancelled; /* asked for */
	uint64_t bytes;
	char why[256];
	struct machine_hints hints;
};

static void hints_done(struct machine_hints *hints, int result, uint64_t bytes, const char *why)
{
	struct job *job = container_of(hints, struct job, hints);

	job->bytes = bytes;
	if (result == 0)
		job->state = JOB_DONE;
	else
		job->state = job->cancelled ? JOB_CANCELLED : JOB_FAILED;
	if (result == 0 || job->cancelled)
		return;
	snprintf(job->why, sizeof(job->why), "%s",
		why && *why            ? why
		: result == -ETIMEDOUT ? "the guest did not come to an end in time"
				       : strerrordesc_np(-result));
}

static struct job *running(const struct api *api)
{
	for (struct job *job = api->jobs; job; job = job->next)
		if (job->state == JOB_RUNNING)
			return job;
	return NULL;
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

int hints_begin(struct api *api, unsigned seconds, struct job **job, struct error *err)
{
	struct job *made;
	int ret;

	if (running(api))
		return error_set(err, EBUSY, "a round of hints is on its way already");
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_errno(err, ENOMEM, "job");
	made->api = api;
	made->hints.done = hints_done;
	ret = machine_take_hints(api->machine, &made->hints, seconds * SECOND_NS, err);
	if (ret < 0) {
		free(made);
		return ret;
	}
	made->number = ++api->last_job;
	made->next = api->jobs;
	api->jobs = made;
	forget_old(api);
	*job = made;
	return 0;
}

static void cancel(struct job *job)
{
	job->cancelled = true;
	machine_cut_hints(&job->hints);
}

void hints_cut(struct api *api)
{
	struct job *job = running(api);

	if (job)
		cancel(job);
}

/* A machine that has ended answers no pause any more, but its timer may be set. */
void jobs_ended(struct api *api)
{
	struct job *job = running(api);

	if (!job)
		return;
	loop_timer_stop(&job->hints.timer);
	hints_done(&job->hints, -ECANCELED, 0, "the machine has ended");
}

void jobs_free(struct api *api)
{
	while (api->jobs) {
		struct job *job = api->jobs;

		api->jobs = job->next;
		free(job);
	}
}

/* ---- routes ---- */

static json_t *job_json(const struct job *job)
{
	static const char *const states[] = {"running", "done", "failed", "cancelled"};
	struct virtio_balloon_hints status = {.bytes = job->bytes};
	struct machine *machine = job->api->machine;

	if (job->state == JOB_RUNNING && machine && machine_balloon(machine))
		virtio_balloon_hint_status(machine_balloon(machine), &status);
	return json_pack("{s:i, s:s, s:s, s:I, s:o}", "id", (int)job->number, "type", "hints",
		"state", states[job->state], "bytes", (json_int_t)status.bytes, "error",
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
