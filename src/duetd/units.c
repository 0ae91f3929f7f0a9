/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for: a job of one program after another. */
#include "duetd/units.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "duetd/child.h"
#include "duetd/plain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX  (1U << 20)
#define PATIENCE_MS 20000
#define UNIT_SIZE   (VIEW_NAME_MAX + 16) /* duet@NAME.service */

struct units {
	struct loop *loop;
	char directory[256]; /* of configurations */
	char booted[256];    /* there is one of this name where systemd runs */
	char sockets[256];
	struct job *jobs;
	unsigned count;
};

enum order {
	ORDER_LIST,
	ORDER_START,
	ORDER_STOP,
};

struct job {
	struct job *next;
	struct units *units;
	struct child *child; /* null: none runs */
	enum order order;
	units_done *done;
	void *opaque;
	struct unit *list; /* of one, but for a list */
	unsigned count;
	struct units_result result;
	/* What the child that runs is for. */
	void (*then)(struct job *job, int status, const char *output);
};

struct units *units_new(struct loop *loop, const char *root, const char *sockets)
{
	struct units *units = calloc(1, sizeof(*units));

	if (!units)
		return NULL;
	units->loop = loop;
	snprintf(units->directory, sizeof(units->directory), "%s" UNITS_DIRECTORY, root);
	snprintf(units->booted, sizeof(units->booted), "%s/run/systemd/system", root);
	snprintf(units->sockets, sizeof(units->sockets), "%s", sockets);
	return units;
}

/* ---- a job's end ---- */

static void job_end(struct job *job)
{
	struct job **at = &job->units->jobs;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	job->units->count--;
	job->result.units = job->list;
	job->result.count = job->order == ORDER_LIST ? job->count : 0;
	job->done(job->opaque, &job->result);
	free(job->list);
	free(job);
}

static void __attribute__((format(printf, 3, 4)))
say(struct job *job, unsigned status, const char *format, ...)
{
	va_list args;

	job->result.status = status;
	va_start(args, format);
	vsnprintf(job->result.why, sizeof(job->result.why), format, args);
	va_end(args);
	make_plain(job->result.why);
}

void units_free(struct units *units)
{
	if (!units)
		return;
	while (units->jobs) {
		struct job *job = units->jobs;

		if (job->child)
			child_drop(job->child);
		say(job, 503, "duetd ends; ask again when it has started");
		job_end(job);
	}
	free(units);
}

/* ---- programs ---- */

static void child_done(void *opaque, int status, const char *output)
{
	struct job *job = opaque;

	job->child = NULL;
	job->then(job, status, output);
}

static int run(struct job *job, const char *const *argv,
	void (*then)(struct job *job, int status, const char *output), struct error *err)
{
	const struct child_options options = {.argv = argv,
		.output_max = OUTPUT_MAX,
		.patience_ms = PATIENCE_MS,
		.done = child_done,
		.opaque = job};

	job->then = then;
	return child_start(&job->child, job->units->loop, &options, err);
}

/* What a program said against it, its first line. */
static void program_failed(struct job *job, const char *program, int status, const char *output)
{
	const size_t length = strcspn(output, "\n");

	if (length)
		say(job, 502, "%s: %.*s", program, (int)(length < 500 ? length : 500), output);
	else if (WIFSIGNALED(status))
		say(job, 502, "%s: signal %d has ended it, after %u s at most", program,
			WTERMSIG(status), PATIENCE_MS / 1000);
	else
		say(job, 502, "%s: it failed without a word (status %d)", program,
			WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static bool succeeded(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- systemctl ---- */

static bool has_systemd(struct job *job)
{
	const char *name = job->order == ORDER_LIST ? "NAME" : job->list->name;
	struct stat status;

	if (stat(job->units->booted, &status) == 0)
		return true;
	say(job, 503,
		"systemd does not run here, which starts and stops machines; without it: duet run "
		"--config " UNITS_DIRECTORY "/%s.json --api-sock /run/duet/%s.sock",
		name, name);
	return false;
}

static void ordered(struct job *job, int status, const char *output)
{
	if (succeeded(status))
		job->result.status = 204;
	else
		program_failed(job, "systemctl", status, output);
	job_end(job);
}

/* --no-block: a guest has its time to end, and a start that hangs hangs in systemd. */
static void order(struct job *job)
{
	const char *verb = job->order == ORDER_START ? "start" : "stop";
	struct error err = {0};
	char unit[UNIT_SIZE];
	const char *const argv[] = {
		"systemctl", "--no-block", "--no-ask-password", verb, "--", unit, NULL};

	snprintf(unit, sizeof(unit), "duet@%s.service", job->list->name);
	if (has_systemd(job) && run(job, argv, ordered, &err) == 0)
		return;
	if (err.code)
		say(job, 502, "%s", err.text);
	job_end(job);
}

static void shown(struct job *job, int status, const char *output)
{
	struct unit *unit = job->list;

	units_read_show(job->list, job->count, output);
	if (!succeeded(status))
		program_failed(job, "systemctl", status, output);
	if (job->order == ORDER_LIST || !succeeded(status)) {
		job_end(job);
		return;
	}
	if (strcmp(unit->state, "inactive") != 0 && strcmp(unit->state, "failed") != 0) {
		order(job);
		return;
	}
	say(job, 409,
		"duet@%s.service is %s: there is nothing to stop; a machine that was started "
		"otherwise is ended by a signal to its process",
		unit->name, unit->state);
	job_end(job);
}

static void show(struct job *job)
{
	static const char *const head[] = {
		"systemctl", "show", "--property", "Id,ActiveState,Result,UnitFileState", "--"};
	const unsigned first = sizeof(head) / sizeof(*head);
	_cleanup_free_ const char **argv = calloc(job->count + first + 1, sizeof(*argv));
	_cleanup_free_ char(*names)[UNIT_SIZE] = calloc(job->count + 1, UNIT_SIZE);
	struct error err = {0};

	if (!has_systemd(job) || !job->count || !argv || !names) {
		job_end(job);
		return;
	}
	memcpy(argv, head, sizeof(head));
	for (unsigned i = 0; i < job->count; i++) {
		snprintf(names[i], UNIT_SIZE, "duet@%s.service", job->list[i].name);
		argv[first + i] = names[i];
	}
	if (run(job, argv, shown, &err) == 0)
		return;
	say(job, 502, "%s", err.text);
	job_end(job);
}

/* ---- duet check ---- */

static void checked(struct job *job, int status, const char *output)
{
	units_read_check(job->list, job->count, job->units->directory, output);
	if (job->order == ORDER_LIST) {
		show(job);
		return;
	}
	if (succeeded(status) && !job->list->fault[0]) {
		order(job);
		return;
	}
	if (job->list->fault[0])
		say(job, 400, "%s", job->list->fault);
	else
		program_failed(job, "duet", status, output);
	job_end(job);
}

static bool fill_check(struct job *job, const char **argv, char **paths)
{
	argv[0] = "duet";
	argv[1] = "check";
	for (unsigned i = 0; i < job->count; i++) {
		if (asprintf(&paths[i], "%s/%s.json", job->units->directory, job->list[i].name) <
			0) {
			paths[i] = NULL;
			return false;
		}
		argv[i + 2] = paths[i];
	}
	return true;
}

static void check(struct job *job)
{
	_cleanup_free_ const char **argv = calloc(job->count + 3UL, sizeof(*argv));
	_cleanup_free_ char **paths = calloc(job->count + 1UL, sizeof(*paths));
	struct error err = {0};
	int ret = -ENOMEM;

	if (argv && paths && fill_check(job, argv, paths))
		ret = run(job, argv, checked, &err);
	for (unsigned i = 0; paths && i < job->count; i++)
		free(paths[i]);
	if (ret == 0)
		return;
	say(job, 502, "%s", err.text[0] ? err.text : "no memory");
	job_end(job);
}

/* ---- what others call ---- */

static struct job *new_job(
	struct units *units, enum order order, units_done *done, void *opaque, unsigned room)
{
	const struct units_result full = {.status = 503,
		.why = "too many requests at once, or no memory for another; ask again"};
	struct job *job = units->count < UNITS_JOBS_MAX ? calloc(1, sizeof(*job)) : NULL;

	if (job)
		job->list = calloc(room, sizeof(*job->list));
	if (!job || !job->list) {
		free(job);
		done(opaque, &full);
		return NULL;
	}
	job->units = units;
	job->order = order;
	job->done = done;
	job->opaque = opaque;
	job->next = units->jobs;
	units->jobs = job;
	units->count++;
	return job;
}

void units_list(struct units *units, units_done *done, void *opaque)
{
	struct job *job = new_job(units, ORDER_LIST, done, opaque, UNITS_MAX);
	int ret;

	if (!job)
		return;
	job->result.status = 200;
	ret = units_read_directory(units->directory, job->list, UNITS_MAX);
	if (ret < 0 && ret != -ENOENT)
		say(job, 200, "%s: %s", units->directory, strerror(-ret));
	else if (ret > UNITS_MAX)
		say(job, 200, "%s: more than %u configurations; only so many are listed",
			units->directory, UNITS_MAX);
	job->count = ret < 0 ? 0 : (unsigned)min_u64((uint64_t)ret, UNITS_MAX);
	if (job->count)
		check(job);
	else
		job_end(job);
}

/* Null: it was told why not. */
static struct job *job_for(
	struct units *units, enum order order, const char *name, units_done *done, void *opaque)
{
	struct job *job = new_job(units, order, done, opaque, 1);

	if (!job)
		return NULL;
	job->count = 1;
	if (unit_name_is_valid(name)) {
		snprintf(job->list->name, sizeof(job->list->name), "%s", name);
		return job;
	}
	say(job, 404, "no name of a machine's unit: it is letters, digits and -_.:@, %u at most",
		VIEW_NAME_MAX - 1);
	job_end(job);
	return NULL;
}

static bool somebody_listens(const char *sockets, const char *name)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.sock", sockets, name) >=
		(int)sizeof(address.sun_path))
		return false;
	/* One whose queue is full is there, too. */
	return fd >= 0 &&
	       (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN);
}

void units_start(struct units *units, const char *name, units_done *done, void *opaque)
{
	struct job *job = job_for(units, ORDER_START, name, done, opaque);
	char path[512];

	if (!job)
		return;
	snprintf(path, sizeof(path), "%s/%s.json", units->directory, name);
	if (access(path, F_OK) < 0)
		say(job, 404, "%s: %s; duetctl list shows what is there", path, strerror(errno));
	else if (somebody_listens(units->sockets, name))
		say(job, 409, "%s runs already: somebody listens at %s/%s.sock", name,
			units->sockets, name);
	if (job->result.status)
		job_end(job);
	else
		check(job);
}

/* Its configuration may be gone by now. */
void units_stop(struct units *units, const char *name, units_done *done, void *opaque)
{
	struct job *job = job_for(units, ORDER_STOP, name, done, opaque);

	if (job)
		show(job);
}
