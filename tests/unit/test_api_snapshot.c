/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots by the API: real files, written by a real thread, of a machine that is none. */
#include "answer_log.h"
#include "snapshot_rig.h"

#include "api/private.h"
#include "base/checked.h"
#include "base/log.h"
#include "snapshot/merge.h"
#include "snapshot/read.h"
#include "state/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
	struct snapshot_rig *files;
	struct machine_config config, saved;
	struct loop *loop;
	struct api *api;
	unsigned status, answers, restores, gos, resumes, left;
	char *body;
	bool is_paused, fails;
	enum machine_state state;
	struct machine_pause *pause;
};

static struct rig *here;

/* ---- a machine that is none, by the linker's --wrap ---- */

const struct machine_config *__wrap_machine_config(const struct machine *machine);
const struct machine_config *__wrap_machine_config(const struct machine *machine)
{
	return &here->saved;
}

struct memory *__wrap_machine_memory(struct machine *machine);
struct memory *__wrap_machine_memory(struct machine *machine)
{
	return &here->files->memory;
}

bool __wrap_machine_is_paused(const struct machine *machine);
bool __wrap_machine_is_paused(const struct machine *machine)
{
	return here->is_paused;
}

enum machine_state __wrap_machine_state(const struct machine *machine);
enum machine_state __wrap_machine_state(const struct machine *machine)
{
	return here->state;
}

int __wrap_machine_pause(struct machine *machine, struct machine_pause *pause, uint64_t limit);
int __wrap_machine_pause(struct machine *machine, struct machine_pause *pause, uint64_t limit)
{
	here->pause = pause;
	return 0;
}

void __wrap_machine_resume(struct machine *machine);
void __wrap_machine_resume(struct machine *machine)
{
	here->is_paused = false;
	here->resumes++;
}

int __wrap_machine_save(struct machine *machine, struct state_writer *writer, struct error *err);
int __wrap_machine_save(struct machine *machine, struct state_writer *writer, struct error *err)
{
	state_section_begin(writer, "machine", 1);
	state_section_close(writer);
	return 0;
}

/* Page 3 is all that is ever written to. */
int __wrap_machine_log_start(struct machine *machine, struct error *err);
int __wrap_machine_log_start(struct machine *machine, struct error *err)
{
	return 0;
}

int __wrap_machine_log_take(
	struct machine *machine, unsigned region, uint64_t *bitmap, struct error *err);
int __wrap_machine_log_take(
	struct machine *machine, unsigned region, uint64_t *bitmap, struct error *err)
{
	memset(bitmap, 0, (region ? RIG_SIZE - RIG_LOW : RIG_LOW) / MEMORY_PAGE / 8);
	bitmap[0] = region ? 0 : 1U << 3;
	return 0;
}

void __wrap_machine_leave(struct machine *machine);
void __wrap_machine_leave(struct machine *machine)
{
	here->left++;
}

/* A disk that stands still for as long as it is told to. */
static _Atomic bool stands_still, inside;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	inside = true;
	while (stands_still)
		usleep(1000);
	return __real_fsync(fd);
}

/* ---- the API ---- */

/* Several may be on their way. */
struct asked {
	struct exchange exchange;
	struct rig *rig;
	struct request request;
	char text[512];
};

static void answered(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	struct asked *asked = container_of(exchange, struct asked, exchange);
	struct rig *rig = asked->rig;

	answer_log(&asked->request, status, type, body);
	free(asked);
	rig->status = status;
	rig->answers++;
	free(rig->body);
	rig->body = body;
	loop_stop(rig->loop);
}

static int start(void *opaque, struct error *err)
{
	return error_set(err, EIO, "no start");
}

static int restore(void *opaque, const struct snapshot *snapshot, struct error *err)
{
	struct rig *rig = opaque;

	if (rig->fails)
		return error_set(err, EIO, "no restore");
	rig->restores++;
	rig->state = MACHINE_BUILT;
	api_set_machine(rig->api, (struct machine *)rig);
	return 0;
}

static int go(void *opaque, struct error *err)
{
	struct rig *rig = opaque;

	rig->gos++;
	rig->state = MACHINE_RUNNING;
	return 0;
}

static int make(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	void *files;
	struct api_options options = {.config = &rig->config,
		.start = start,
		.restore = restore,
		.go = go,
		.opaque = rig};

	log_set_level(LOG_LEVEL_ERROR);
	here = rig;
	rig_make(&files);
	rig->files = files;
	machine_config_init(&rig->config);
	machine_config_init(&rig->saved);
	rig->saved.kernel = strdup("/dev/null");
	rig->saved.cpus = 3;
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	options.loop = rig->loop;
	assert_int_equal(api_new(&rig->api, &options, NULL), 0);
	*state = rig;
	return 0;
}

static int drop(void **state)
{
	struct rig *rig = *state;
	void *files = rig->files;

	api_free(rig->api);
	loop_free(rig->loop);
	machine_config_free(&rig->config);
	machine_config_free(&rig->saved);
	rig_free(&files);
	free(rig->body);
	free(rig);
	return 0;
}

/* @body has @ for the folder. @method and @path are constants. */
static void ask(struct rig *rig, const char *method, const char *path, const char *body)
{
	struct asked *asked = calloc(1, sizeof(*asked));
	char *text = asked->text;

	asked->exchange.answer = answered;
	asked->rig = rig;
	snprintf(text, sizeof(asked->text), "%s", body);
	for (char *at; (at = strchr(text, '@'));) {
		memmove(at + strlen(rig->files->folder), at + 1, strlen(at));
		memcpy(at, rig->files->folder, strlen(rig->files->folder));
	}
	asked->request = (struct request){
		.method = method, .path = path, .body = text, .length = strlen(text)};
	api_handle(rig->api, &asked->request, &asked->exchange);
}

static void refused(struct rig *rig, const char *method, const char *path, const char *body,
	const char *message)
{
	const unsigned before = rig->answers;

	ask(rig, method, path, body);
	assert_int_equal(rig->answers, before + 1);
	assert_int_equal(rig->status, 400);
	if (!strstr(rig->body, message))
		fail_msg("%s\nhas not\n%s", rig->body, message);
}

static void wait_for_answer(struct rig *rig, unsigned status)
{
	const unsigned before = rig->answers;

	assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(rig->answers, before + 1);
	if (rig->status != status)
		fail_msg("%u %s", rig->status, rig->body ? rig->body : "");
}

static void gives(struct rig *rig, const char *path, const char *part)
{
	ask(rig, "GET", path, "");
	assert_int_equal(rig->status, 200);
	if (!strstr(rig->body, part))
		fail_msg("%s\nhas not\n%s", rig->body, part);
	/* The loop is not to end with it. */
	assert_int_equal(loop_run(rig->loop), 0);
}

static void runs(struct rig *rig, bool is_paused)
{
	rig->is_paused = is_paused;
	rig->state = is_paused ? MACHINE_PAUSED : MACHINE_RUNNING;
	api_set_machine(rig->api, (struct machine *)rig);
}

#define CREATE "/snapshot/create"
#define FILES  "{\"snapshot_path\": \"@/state\", \"mem_file_path\": \"@/memory\"}"
#define DIFF                                                                                       \
	"{\"snapshot_type\": \"Diff\", \"snapshot_path\": \"@/state2\", \"mem_file_path\": "       \
	"\"@/memory2\"}"
#define JSON "An error occurred when deserializing the json body of a request: "

static void refuses_to_create(void **state)
{
	struct rig *rig = *state;

	refused(rig, "PUT", CREATE, FILES,
		"The requested operation is not supported before starting the microVM.");
	runs(rig, false);
	refused(rig, "PUT", CREATE, FILES, "save/restore unavailable while running");
	rig->state = MACHINE_BUILT;
	refused(rig, "PUT", CREATE, FILES, "Create snapshot error: it was loaded");
	runs(rig, true);
	refused(rig, "PUT", CREATE, DIFF,
		"The requested operation is not supported: Diff snapshots are not allowed on uVMs "
		"with dirty page tracking disabled.");
	refused(rig, "PUT", CREATE, "{\"mem_file_path\": \"a\"}",
		JSON "missing field `snapshot_path` at line 1 column 22.");
	refused(rig, "PUT", CREATE, "{\"snapshot_type\": \"Half\"}", "unknown variant `Half`");
	refused(rig, "PUT", "/snapshot", FILES, "Missing snapshot operation type.");
	refused(rig, "PUT", "/snapshot/make", FILES,
		"Invalid request method and/or path: PUT snapshot/make.");
	assert_int_equal(rig_entries(rig->files), 0);
}

static void creates_and_stays_paused(void **state)
{
	struct rig *rig = *state;
	const struct snapshot_place place = {
		.state = rig_path(rig->files, "state"), .memory = rig_path(rig->files, "memory")};
	struct snapshot snapshot;

	runs(rig, true);
	rig_touch(rig->files, 3, 1);
	ask(rig, "PUT", CREATE, FILES);
	refused(rig, "PATCH", "/vm", "{\"state\": \"Resumed\"}", "DELETE /duet/jobs/1 ends it");
	refused(rig, "PUT", CREATE, FILES, "a snapshot is on its way already");
	assert_int_equal(loop_run(rig->loop), 0);
	if (rig->status != 204)
		wait_for_answer(rig, 204);
	gives(rig, "/duet/jobs", "\"type\":\"snapshot\",\"state\":\"done\",\"bytes\":4096,");
	assert_int_equal(rig->resumes, 0);
	assert_int_equal(snapshot_open(&snapshot, &place, true, &rig->files->err), 0);
	snapshot_close(&snapshot);
	ask(rig, "PATCH", "/vm", "{\"state\": \"Resumed\"}");
	assert_int_equal(rig->resumes, 1);
}

static void tells_what_failed(void **state)
{
	struct rig *rig = *state;

	runs(rig, true);
	ask(rig, "PUT", CREATE,
		"{\"snapshot_path\": \"@/none/state\", \"mem_file_path\": \"@/memory\"}");
	wait_for_answer(rig, 400);
	assert_non_null(strstr(rig->body, "Create snapshot error: /tmp"));
	assert_non_null(strstr(rig->body, "No such file or directory"));
	gives(rig, "/duet/jobs/1", "\"state\":\"failed\"");
	assert_int_equal(rig_entries(rig->files), 0);
}

/* Each to the one before; the pages of one that failed are in the next one. */
static void creates_changes(void **state)
{
	struct rig *rig = *state;
	const char *both[] = {rig_path(rig->files, "one"), rig_path(rig->files, "two")};

	runs(rig, true);
	assert_int_equal(api_track(rig->api, NULL, NULL), 0);
	rig_touch(rig->files, 3, 1);
	rig_touch(rig->files, 9, 1);
	/* There is none before it. */
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/one\", \"type\": \"Diff\"}");
	wait_for_answer(rig, 200);
	assert_non_null(strstr(rig->body, "\"bytes\":8192"));
	rig_touch(rig->files, 3, 2);
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/none/two\", \"type\": \"Diff\"}");
	wait_for_answer(rig, 400);
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/two\", \"type\": \"Diff\"}");
	wait_for_answer(rig, 200);
	assert_non_null(strstr(rig->body, "\"bytes\":4096"));
	assert_int_equal(snapshot_merge(both, 2, rig_path(rig->files, "now"), &rig->files->err), 0);
	assert_true(rig_same(rig->files, "now"));
}

static void pauses_and_resumes_by_itself(void **state)
{
	struct rig *rig = *state;

	runs(rig, false);
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/one\"}");
	assert_int_equal(rig->answers, 0);
	gives(rig, "/duet/jobs/1", "\"state\":\"running\"");
	rig->is_paused = true;
	rig->pause->done(rig->pause, 0, NULL);
	wait_for_answer(rig, 200);
	assert_non_null(strstr(rig->body, "\"state\":\"done\""));
	assert_int_equal(rig->resumes, 1);
	/* One that cannot be paused goes on. */
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/two\"}");
	rig->pause->done(rig->pause, -ETIMEDOUT, "disk0 did not come to rest");
	assert_int_equal(rig->status, 400);
	assert_non_null(strstr(rig->body, "disk0 did not come to rest"));
	assert_int_equal(rig->resumes, 1);
	assert_int_equal(rig_entries(rig->files), 1);
}

static void is_cancelled(void **state)
{
	struct rig *rig = *state;

	runs(rig, false);
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/one\"}");
	ask(rig, "DELETE", "/duet/jobs/1", "");
	assert_int_equal(rig->status, 204);
	rig->is_paused = true;
	rig->pause->done(rig->pause, 0, NULL);
	assert_int_equal(rig->status, 400);
	assert_int_equal(rig->resumes, 1);
	gives(rig, "/duet/jobs/1", "\"state\":\"cancelled\"");
	assert_int_equal(rig_entries(rig->files), 0);
}

/* The machine goes while its memory is being written. */
static void ends_in_the_middle(void **state)
{
	struct rig *rig = *state;

	runs(rig, true);
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/one\"}");
	api_set_machine(rig->api, NULL);
	assert_int_equal(rig->answers, 1);
	assert_int_equal(rig->status, 400);
	assert_int_equal(rig->resumes, 0);
}

/* ... and its disk does not let go: nobody waits for it, and nothing of it is freed. */
static void is_left_where_storage_hangs(void **state)
{
	struct rig *rig = *state;
	struct job *job;

	runs(rig, true);
	stands_still = true;
	inside = false;
	ask(rig, "PUT", "/duet/snapshot", "{\"directory\": \"@/one\"}");
	job = rig->api->jobs;
	while (!inside)
		usleep(1000);
	api_set_machine(rig->api, NULL);
	assert_int_equal(rig->answers, 1);
	assert_int_equal(rig->status, 400);
	assert_int_equal(rig->left, 1);
	assert_null(rig->api->jobs);
	/* What a test can do and a process that ends does not: it comes to its end. */
	stands_still = false;
	assert_int_equal(loop_run(rig->loop), 0);
	while (job->state == JOB_RUNNING) {
		loop_stop(rig->loop);
		assert_int_equal(loop_run(rig->loop), 0);
	}
	assert_int_equal(rig->answers, 1);
	free(job);
}

static void take_one(struct rig *rig)
{
	struct snapshot_content content = {.memory = &rig->files->memory,
		.machine = rig->files->machine,
		.machine_length = rig->files->machine_length};
	const struct snapshot_place place = {
		.state = rig_path(rig->files, "state"), .memory = rig_path(rig->files, "memory")};
	char *config;

	assert_int_equal(machine_config_write(&rig->saved, &config, NULL), 0);
	content.config = config;
	assert_int_equal(snapshot_id_new(&content.id), 0);
	assert_int_equal(
		snapshot_write(&content, &place, &rig->files->progress, &rig->files->err), 0);
	free(config);
}

#define LOAD "/snapshot/load"
#define BACKEND(type)                                                                              \
	"{\"snapshot_path\": \"@/state\", \"mem_backend\": {\"backend_type\": \"" type             \
	"\", \"backend_path\": \"@/memory\"}"

static void refuses_to_load(void **state)
{
	struct rig *rig = *state;

	take_one(rig);
	refused(rig, "PUT", LOAD, "{\"snapshot_path\": \"foo\"}",
		JSON "missing field: either `mem_backend` or `mem_file_path` is required.");
	refused(rig, "PUT", LOAD, BACKEND("File") ", \"mem_file_path\": \"bar\"}",
		JSON "too many fields: either `mem_backend` or `mem_file_path` exclusively is "
		     "required.");
	refused(rig, "PUT", LOAD,
		"{\"snapshot_path\": \"foo\", \"mem_backend\": {\"backend_path\": \"b\"}}",
		JSON "missing field `backend_type`");
	refused(rig, "PUT", LOAD, BACKEND("Uffd") "}", "Uffd is not there in duet");
	refused(rig, "PUT", LOAD,
		BACKEND("File") ", \"network_overrides\": [{\"iface_id\": \"net0\", "
				"\"host_dev_name\": \"tap7\"}]}",
		"Load snapshot error: Failed to restore from snapshot: the snapshot has no network "
		"net0 on a tap");
	refused(rig, "PUT", LOAD, BACKEND("File") ", \"network_overrides\": [5]}",
		"expected struct NetworkOverride");
	refused(rig, "PUT", LOAD,
		"{\"snapshot_path\": \"@/none\", \"mem_file_path\": \"@/memory\"}",
		"No such file or directory");
	rig->fails = true;
	refused(rig, "PUT", LOAD, FILES,
		"Load snapshot error: Failed to restore from snapshot: no restore");
	/* It can be configured as if nothing had been. */
	assert_int_equal(rig->config.cpus, 1);
	assert_null(rig->config.kernel);
	ask(rig, "PUT", "/boot-source", "{\"kernel_image_path\": \"/dev/null\"}");
	refused(rig, "PUT", LOAD, FILES,
		"Load snapshot error: Loading a microVM snapshot not allowed after configuring "
		"boot-specific resources.");
	runs(rig, false);
	refused(rig, "PUT", LOAD, FILES,
		"The requested operation is not supported after starting the microVM.");
	assert_int_equal(rig->restores, 0);
}

static void loads_and_goes_on_when_told(void **state)
{
	struct rig *rig = *state;

	take_one(rig);
	ask(rig, "PUT", LOAD, BACKEND("File") "}");
	assert_int_equal(rig->status, 204);
	assert_int_equal(rig->restores, 1);
	assert_int_equal(rig->gos, 0);
	assert_int_equal(rig->config.cpus, 3);
	ask(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}");
	assert_int_equal(rig->status, 204);
	ask(rig, "GET", "/", "");
	assert_non_null(strstr(rig->body, "\"Paused\""));
	ask(rig, "PATCH", "/vm", "{\"state\": \"Resumed\"}");
	assert_int_equal(rig->status, 204);
	assert_int_equal(rig->gos, 1);
}

static void loads_and_goes_on_at_once(void **state)
{
	struct rig *rig = *state;

	take_one(rig);
	ask(rig, "PUT", LOAD,
		BACKEND("File") ", \"resume_vm\": true, \"track_dirty_pages\": true}");
	assert_int_equal(rig->status, 204);
	assert_int_equal(rig->gos, 1);
	ask(rig, "GET", "/machine-config", "");
	assert_non_null(strstr(rig->body, "\"track_dirty_pages\":true"));
	/* What it was made of is what the next one's changes are to. */
	runs(rig, true);
	loop_stop(rig->loop);
	assert_int_equal(loop_run(rig->loop), 0);
	ask(rig, "PUT", CREATE, DIFF);
	wait_for_answer(rig, 204);
	gives(rig, "/duet/jobs/1", "\"bytes\":4096");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(refuses_to_create),
		TEST(creates_and_stays_paused),
		TEST(tells_what_failed),
		TEST(creates_changes),
		TEST(pauses_and_resumes_by_itself),
		TEST(is_cancelled),
		TEST(ends_in_the_middle),
		TEST(is_left_where_storage_hangs),
		TEST(refuses_to_load),
		TEST(loads_and_goes_on_when_told),
		TEST(loads_and_goes_on_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
