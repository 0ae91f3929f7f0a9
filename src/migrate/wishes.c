/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration wants of its machine, done on the owner's loop, step by step: nothing waits. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/machine.h"
#include "memory/memory.h"
#include "migrate/private.h"
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REST_WITHIN (10 * SECOND_NS)
/* Somebody else's pause is on its way. */
#define AGAIN_NS  (SECOND_NS / 10)
#define TRIES_MAX 100
/* Who asks how far it is shall learn that it is done, before the process is gone. */
#define LINGER_NS (2 * SECOND_NS)

static void answer(struct migration *migration, int result, const struct error *err)
{
	pthread_mutex_lock(&migration->lock);
	migration->answer = result;
	migration->answer_err = *err;
	migration->has_answer = true;
	pthread_cond_signal(&migration->answered);
	pthread_mutex_unlock(&migration->lock);
}

int migration_ask(struct migration *migration, enum wish wish, struct error *err)
{
	int ret;

	pthread_mutex_lock(&migration->lock);
	migration->wish = wish;
	migration->has_answer = false;
	loop_post(migration->loop, &migration->task);
	while (!migration->has_answer && !migration->leaving)
		pthread_cond_wait(&migration->answered, &migration->lock);
	if (migration->has_answer) {
		ret = migration->answer;
		if (ret < 0)
			*err = migration->answer_err;
	} else {
		ret = error_set(err, ECANCELED, "the machine has ended");
	}
	pthread_mutex_unlock(&migration->lock);
	return ret;
}

/* ---- at rest ---- */

static int begin_log(struct migration *migration, struct error *err)
{
	int ret = machine_log_start(migration->machine, err);

	migration->logging = ret == 0;
	machine_resume(migration->machine);
	return ret;
}

static int get_config(struct migration *migration, char **text, struct error *err)
{
	return machine_config_write(machine_config(migration->machine), text, err);
}

/* The target has opened the disks and networks that it was told of. */
static int check_unchanged(struct migration *migration, struct error *err)
{
	_cleanup_free_ char *now = NULL;
	int ret = get_config(migration, &now, err);

	if (ret == 0 && strcmp(now, migration->config) != 0)
		ret = error_set(err, EAGAIN,
			"its configuration was changed while it was on its way; move it again");
	return ret;
}

static int save(struct migration *migration, struct error *err)
{
	int ret;

	machine_throttle(migration->machine, NULL);
	machine_hold(migration->machine, true);
	migration->held = true;
	ret = check_unchanged(migration, err);
	if (ret == 0)
		ret = machine_save(migration->machine, migration->writer, err);
	if (ret == 0 && state_writer_finish(migration->writer) < 0)
		ret = error_errno(err, ENOMEM, "state of the machine");
	return ret;
}

static void finish(struct migration *migration)
{
	migration->state = migration->cancelled ? MIGRATION_CANCELLED : MIGRATION_FAILED;
	log_warning("migration to %s: %s; the machine goes on here", migration->to,
		migration->err.text);
}

static void go_on(struct migration *migration)
{
	if (migration->logging)
		machine_log_stop(migration->machine);
	if (migration->held)
		machine_hold(migration->machine, false);
	migration->logging = migration->held = false;
	machine_resume(migration->machine);
	finish(migration);
}

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct migration *migration = container_of(pause, struct migration, pause);
	struct error err = {0};

	if (migration->wish == WISH_LET_GO) {
		if (result == 0)
			go_on(migration);
		else if (machine_state(migration->machine) != MACHINE_ENDED)
			loop_timer_after(migration->loop, &migration->timer, AGAIN_NS);
		return;
	}
	if (result < 0)
		result = error_set(&err, -result, "%s", why);
	else if (migration->wish == WISH_LOG)
		result = begin_log(migration, &err);
	else
		result = save(migration, &err);
	answer(migration, result, &err);
}

/* ---- on the way there ---- */

static int check_running(const struct migration *migration, struct error *err)
{
	if (machine_is_paused(migration->machine))
		return error_set(
			err, EINVAL, "the machine is paused; resume it, then move it (again)");
	if (migration->wish == WISH_LOG && memory_is_logged(machine_memory(migration->machine)))
		return error_set(err, EBUSY,
			"writes to its memory are logged for something else already; try again "
			"when that is over");
	return 0;
}

static void pause_for(struct migration *migration)
{
	struct error err = {0};
	int ret = check_running(migration, &err);

	if (ret == 0) {
		ret = machine_pause(migration->machine, &migration->pause, REST_WITHIN);
		if (ret == -EALREADY && migration->tries++ < TRIES_MAX) {
			loop_timer_after(migration->loop, &migration->timer, AGAIN_NS);
			return;
		}
		if (ret < 0)
			error_errno(&err, -ret, "the machine cannot be paused now");
	}
	if (ret < 0)
		answer(migration, ret, &err);
}

static void let_go(struct migration *migration)
{
	struct machine *machine = migration->machine;

	if (migration->state != MIGRATION_RUNNING || machine_state(machine) == MACHINE_ENDED)
		return;
	machine_throttle(machine, NULL);
	/* Paused by somebody else: it stays so. */
	if (migration->logging && !migration->held && machine_is_paused(machine)) {
		machine_log_stop(machine);
		migration->logging = false;
	}
	if (!migration->logging && !migration->held)
		finish(migration);
	else if (migration->held)
		go_on(migration);
	else if (machine_pause(machine, &migration->pause, REST_WITHIN) < 0)
		loop_timer_after(migration->loop, &migration->timer, AGAIN_NS);
}

static void lost(struct migration *migration)
{
	char why[512];

	if (migration->end == SOURCE_TORN)
		snprintf(why, sizeof(why),
			"%s did not say that it has all of its memory (%.100s): look there, for it "
			"may run, and have it; start it anew from its disks only when it does not",
			migration->to, migration->err.text);
	else
		snprintf(why, sizeof(why),
			"given to %s, which did not say that it runs there (%.200s): look there, "
			"and start it anew only when it does not",
			migration->to, migration->err.text);
	migration->state = MIGRATION_LOST;
	machine_moved(migration->machine, false, why);
}

static void end(struct migration *migration)
{
	if (migration->end == SOURCE_STAYS) {
		let_go(migration);
	} else if (migration->end != SOURCE_MOVED) {
		lost(migration);
	} else {
		log_info("moved to %s", migration->to);
		machine_give_away(migration->machine);
		migration->state = MIGRATION_DONE;
		loop_timer_after(migration->loop, &migration->timer, LINGER_NS);
	}
}

static int take_back(struct migration *migration, struct error *err)
{
	int ret = machine_claim_disks(migration->machine, err);

	pthread_mutex_lock(&migration->lock);
	migration->committed = migration->committed && ret < 0;
	pthread_mutex_unlock(&migration->lock);
	return ret;
}

/* It cannot be asked back for any more; its memory is all that is left of it here. */
static void follow(struct migration *migration)
{
	machine_give_away(migration->machine);
	log_info("it runs at %s, and lacks %llu pages of its memory, which follow", migration->to,
		(unsigned long long)atomic_load(&migration->progress.left));
}

static void run(struct loop_task *task)
{
	struct migration *migration = container_of(task, struct migration, task);
	struct error err = {0};

	migration->tries = 0;
	switch (migration->wish) {
	case WISH_CONFIG:
		answer(migration, get_config(migration, &migration->config, &err), &err);
		break;
	case WISH_LOG:
	case WISH_STOP:
		pause_for(migration);
		break;
	case WISH_THROTTLE:
		machine_throttle(migration->machine, migration->percent);
		answer(migration, 0, &err);
		break;
	case WISH_TAKE_BACK:
		answer(migration, take_back(migration, &err), &err);
		break;
	case WISH_FOLLOW:
		follow(migration);
		answer(migration, 0, &err);
		break;
	case WISH_LET_GO:
		end(migration);
		break;
	}
}

static void again(struct loop_timer *timer)
{
	struct migration *migration = container_of(timer, struct migration, timer);

	if (migration->state == MIGRATION_DONE)
		machine_moved(migration->machine, true, "it goes on elsewhere");
	else if (migration->wish == WISH_LET_GO)
		let_go(migration);
	else
		pause_for(migration);
}

void migration_prepare(struct migration *migration)
{
	migration->task.run = run;
	migration->timer.expired = again;
	migration->pause.done = paused;
}
