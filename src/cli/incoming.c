/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/incoming.h"

#include "base/checked.h"
#include "base/log.h"
#include "base/thread.h"
#include "cli/stats_file.h"
#include "migrate/migrate.h"
#include "migrate/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_SIZE (256U << 10) /* a TLS handshake goes deep */

struct incoming {
	struct session *session;
	struct api_session *api;
	struct run_options *options;
	struct machine_config config; /* that came */
	struct machine *machine;      /* built, and not yet the session's */
	struct address address;
	struct mtls *tls;
	int listening, stop;
	pthread_t thread;
	struct arrival *arrival; /* memory that comes after it runs; null: all comes before */
	bool started, runs, late;
	int result;
	struct error err;

	/* What the thread wants to be done on the loop. */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct loop_task task, over, arrived, closed;
	int missed; /* by the arrival: why memory will never be whole; 0: it is */
	char missed_why[256];
	int (*wish)(struct incoming *incoming, struct error *err);
	bool has_answer, leaving;
	int answer;
	struct error answer_err;
	const char *text;
	size_t length;
	struct state_reader *state;
};

/* ---- on the loop ---- */

static int read_config(struct incoming *incoming, struct error *err)
{
	struct machine_config *config = &incoming->config;
	int ret = machine_config_read(config, incoming->text, incoming->length, "incoming", err);

	if (ret == 0)
		ret = machine_config_take_places(config, &incoming->options->config, err);
	return ret == 0 ? machine_config_complete(config, err) : ret;
}

static void stop_listening(struct incoming *incoming)
{
	address_close(&incoming->address, incoming->listening);
	incoming->listening = -1;
}

static int enter_sandbox(struct incoming *incoming, struct error *err)
{
	struct confine *confine = &incoming->session->confine;

	if (confine->choice == CONFINE_OFF)
		return 0;
	/* Its name goes while it may be removed, unless the source may come again by it. */
	if (!incoming->arrival)
		stop_listening(incoming);
	else if (incoming->address.is_unix)
		confine->incoming = incoming->address.path;
	vigil_end(&incoming->session->vigil);
	return confine_process(confine, machine_config(incoming->machine), err);
}

static void memory_ended(void *opaque, int result, const struct error *err);
static void memory_closed(void *opaque);

/* Asked for while the host still lets us ask. */
static int make_arrival(struct incoming *incoming, struct error *err)
{
	const struct arrival_terms terms = {.memory = machine_memory(incoming->machine),
		.listening = incoming->listening,
		.tls = incoming->tls,
		.ops = {.ended = memory_ended, .closed = memory_closed, .opaque = incoming}};

	return incoming->late ? arrival_new(&incoming->arrival, &terms, err) : 0;
}

/* While the source's machine runs, all that takes long and needs nothing of it. The session has no
 * machine until it runs: till then a signal ends the wait. */
static int build(struct incoming *incoming, struct error *err)
{
	struct session *session = incoming->session;
	int ret = read_config(incoming, err);

	if (ret == 0)
		ret = session_machine(session, &incoming->config, err);
	if (ret < 0)
		return ret;
	incoming->machine = session->machine;
	session->machine = NULL;
	machine_leave_disks(incoming->machine);
	ret = machine_build_bare(incoming->machine, err);
	if (ret == 0)
		ret = make_arrival(incoming, err);
	if (ret == 0)
		ret = enter_sandbox(incoming, err);
	if (ret == 0 && incoming->arrival)
		ret = arrival_start(incoming->arrival, err);
	return ret == 0 ? machine_ready(incoming->machine, err) : ret;
}

static int restore(struct incoming *incoming, struct error *err)
{
	return machine_restore(incoming->machine, incoming->state, err);
}

/* It has not run yet: the source goes on with it, and with its disks. */
static void give_back(struct incoming *incoming)
{
	struct error ignored;

	incoming->machine = incoming->session->machine;
	incoming->session->machine = NULL;
	machine_release_disks(incoming->machine, &ignored);
}

static int start(struct incoming *incoming, struct error *err)
{
	struct session *session = incoming->session;
	int ret;

	if (session->ended_by)
		return error_set(err, ECANCELED, "the target was ended by a signal");
	ret = machine_claim_disks(incoming->machine, err);
	if (ret < 0)
		return ret;
	session->machine = incoming->machine;
	incoming->machine = NULL;
	ret = session_go(session, err);
	if (ret < 0) {
		give_back(incoming);
		return ret;
	}
	/* From here on it is ours: what goes wrong ends it here. */
	incoming->runs = true;
	if (incoming->options->api_sock)
		api_session_go(incoming->api);
	machine_announce(session->machine);
	return 0;
}

static void obey(struct loop_task *task)
{
	struct incoming *incoming = container_of(task, struct incoming, task);
	const bool starts = incoming->wish == start;
	struct error err = {0};
	int ret = 0;

	/* What is restored is here already: nothing of the host's is waited for. But if pages of
	 * memory come later. */
	if (incoming->wish != restore || incoming->arrival)
		ret = session_busy(incoming->session, starts, &err);
	if (ret == 0)
		ret = incoming->wish(incoming, &err);
	session_listens(incoming->session);
	pthread_mutex_lock(&incoming->lock);
	incoming->answer = ret;
	incoming->answer_err = err;
	incoming->has_answer = true;
	pthread_cond_signal(&incoming->answered);
	pthread_mutex_unlock(&incoming->lock);
	/* The source waits no longer: for it the machine stands still until it is told. */
	if (starts && ret == 0)
		session_settle(incoming->session);
}

/* All of memory came before. */
static void close_arrival(struct incoming *incoming)
{
	arrival_free(incoming->arrival, true);
	incoming->arrival = NULL;
	stop_listening(incoming);
}

static void over(struct loop_task *task)
{
	struct incoming *incoming = container_of(task, struct incoming, over);

	if (!incoming->runs)
		loop_stop(incoming->session->loop);
	else if (incoming->arrival && !arrival_is_begun(incoming->arrival))
		close_arrival(incoming);
}

static void arrived(struct loop_task *task)
{
	struct incoming *incoming = container_of(task, struct incoming, arrived);

	if (incoming->missed < 0) {
		/* Those that wait for a page wait until the process ends. */
		session_starve(incoming->session, incoming->missed_why);
		return;
	}
	log_info("--incoming: all of memory is here");
}

/* What the arrival has made stays: another thread may look into it at this moment. */
static void closed(struct loop_task *task)
{
	stop_listening(container_of(task, struct incoming, closed));
}

/* ---- on the arrival's thread ---- */

static void memory_ended(void *opaque, int result, const struct error *err)
{
	struct incoming *incoming = opaque;

	incoming->missed = result;
	snprintf(incoming->missed_why, sizeof(incoming->missed_why), "--incoming: %.220s",
		err->text);
	loop_post(incoming->session->loop, &incoming->arrived);
}

static void memory_closed(void *opaque)
{
	struct incoming *incoming = opaque;

	loop_post(incoming->session->loop, &incoming->closed);
}

/* ---- on the thread ---- */

static int ask(struct incoming *incoming, int (*wish)(struct incoming *, struct error *),
	struct error *err)
{
	int ret;

	pthread_mutex_lock(&incoming->lock);
	incoming->wish = wish;
	incoming->has_answer = false;
	if (!incoming->leaving)
		loop_post(incoming->session->loop, &incoming->task);
	while (!incoming->has_answer && !incoming->leaving)
		pthread_cond_wait(&incoming->answered, &incoming->lock);
	ret = incoming->has_answer ? incoming->answer
				   : error_set(err, ECANCELED, "the target was ended");
	if (incoming->has_answer && ret < 0)
		*err = incoming->answer_err;
	pthread_mutex_unlock(&incoming->lock);
	return ret;
}

static int ask_build(void *opaque, const char *text, size_t length, struct memory **memory,
	struct arrival **arrival, struct error *err)
{
	struct incoming *incoming = opaque;
	int ret;

	incoming->text = text;
	incoming->length = length;
	incoming->late = arrival != NULL;
	ret = ask(incoming, build, err);
	if (ret == 0)
		*memory = machine_memory(incoming->machine);
	if (ret == 0 && arrival)
		*arrival = incoming->arrival;
	return ret;
}

static int ask_restore(void *opaque, struct state_reader *state, struct error *err)
{
	struct incoming *incoming = opaque;

	incoming->state = state;
	return ask(incoming, restore, err);
}

static int ask_start(void *opaque, struct error *err)
{
	return ask(opaque, start, err);
}

static void *run(void *opaque)
{
	struct incoming *incoming = opaque;
	const struct target_ops ops = {
		.build = ask_build, .restore = ask_restore, .run = ask_start, .opaque = incoming};

	pthread_setname_np(pthread_self(), "duet-incoming");
	incoming->result = target_run(
		&ops, incoming->listening, incoming->stop, incoming->tls, &incoming->err);
	pthread_mutex_lock(&incoming->lock);
	if (!incoming->leaving)
		loop_post(incoming->session->loop, &incoming->over);
	pthread_mutex_unlock(&incoming->lock);
	return NULL;
}

/* ---- its life ---- */

/* From the start: where there is something already nobody need come. */
static int open_api(struct incoming *incoming, struct error *err)
{
	const struct api_session_options of_api = {.path = incoming->options->api_sock,
		.id = "duet",
		.body_max = HTTP_BODY_MAX,
		.config = &incoming->config,
		.running = true};

	return incoming->options->api_sock
		       ? api_session_open(incoming->api, incoming->session, &of_api, err)
		       : 0;
}

static int listen_there(struct incoming *incoming, struct error *err)
{
	const struct run_options *options = incoming->options;
	const struct mtls_files files = {options->cert, options->key, options->ca};
	int ret = address_parse(&incoming->address, options->incoming, "--incoming", err);

	if (ret == 0 && (files.cert || files.key || files.ca))
		ret = mtls_new(&incoming->tls, &files, err);
	if (ret < 0)
		return ret;
	incoming->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (incoming->stop < 0)
		return error_errno(err, errno, "--incoming: eventfd");
	incoming->listening = address_listen(&incoming->address, err);
	return incoming->listening < 0 ? error_prefix(err, "--incoming ") : 0;
}

static int start_thread(struct incoming *incoming, struct error *err)
{
	int ret = thread_start(&incoming->thread, STACK_SIZE, run, incoming);

	if (ret)
		return error_errno(err, ret, "--incoming: thread");
	incoming->started = true;
	fprintf(stderr, "duet: waiting for a machine at %s; duet ctl SOCK migrate %s sends one\n",
		incoming->address.text, incoming->address.text);
	return 0;
}

int incoming_open(struct incoming **out, struct session *session, struct api_session *api,
	struct run_options *options, struct error *err)
{
	struct incoming *incoming = calloc(1, sizeof(*incoming));
	int ret;

	*out = incoming;
	if (!incoming)
		return error_errno(err, ENOMEM, "--incoming");
	*incoming = (struct incoming){.session = session,
		.api = api,
		.options = options,
		.listening = -1,
		.stop = -1,
		.task.run = obey,
		.over.run = over,
		.arrived.run = arrived,
		.closed.run = closed};
	machine_config_init(&incoming->config);
	pthread_mutex_init(&incoming->lock, NULL);
	pthread_cond_init(&incoming->answered, NULL);
	ret = options->config.stats ? stats_file_check(options->config.stats, err) : 0;
	if (ret == 0)
		ret = open_api(incoming, err);
	if (ret == 0)
		ret = listen_there(incoming, err);
	return ret == 0 ? start_thread(incoming, err) : ret;
}

int incoming_result(const struct incoming *incoming, struct error *err)
{
	if (incoming->runs)
		return 0;
	if (incoming->session->ended_by)
		return error_set(err, ECANCELED, "--incoming: ended by a signal, no machine came");
	return error_set(
		err, incoming->err.code, "--incoming: no machine came: %s", incoming->err.text);
}

static void end_thread(struct incoming *incoming)
{
	pthread_mutex_lock(&incoming->lock);
	incoming->leaving = true;
	pthread_cond_signal(&incoming->answered);
	pthread_mutex_unlock(&incoming->lock);
	eventfd_write(incoming->stop, 1);
	pthread_join(incoming->thread, NULL);
	loop_unpost(incoming->session->loop, &incoming->task);
	loop_unpost(incoming->session->loop, &incoming->over);
}

/* A machine that has not come to rest may wait for a page, which nobody but the source has: it
 * waits until the process has ended. */
static bool may_forget(const struct incoming *incoming)
{
	const struct machine *machine = incoming->session->machine;

	return !incoming->runs || !machine ||
	       (machine_state(machine) == MACHINE_ENDED && !machine_is_stuck(machine));
}

void incoming_close(struct incoming *incoming)
{
	if (!incoming)
		return;
	if (incoming->started)
		end_thread(incoming);
	if (incoming->arrival && !may_forget(incoming)) {
		/* Its thread may still wait for the source. */
		socket_file_remove(&incoming->address.file);
		return;
	}
	arrival_free(incoming->arrival, true);
	loop_unpost(incoming->session->loop, &incoming->arrived);
	loop_unpost(incoming->session->loop, &incoming->closed);
	stop_listening(incoming);
	if (incoming->stop >= 0)
		close(incoming->stop);
	mtls_free(incoming->tls);
	/* The API may have it: the session frees it, when the API is closed. */
	if (incoming->machine)
		incoming->session->machine = incoming->machine;
	machine_config_free(&incoming->config);
	pthread_cond_destroy(&incoming->answered);
	pthread_mutex_destroy(&incoming->lock);
	free(incoming);
}
