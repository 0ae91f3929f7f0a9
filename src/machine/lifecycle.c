/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/lifecycle.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>

/* After it was told to end at once: what storage gets to let go of the guest's requests. The rest
 * of a second is for last words and for files to be closed. */
#define KILL_NS (3 * SECOND_NS / 10)
/* After it was told to reset or to end by itself: then somebody should know. */
#define TELL_NS    (5 * SECOND_NS)
#define NAMES_SIZE 128

static bool ending(const struct lifecycle *life)
{
	return atomic_load(&life->end) && atomic_load(&life->end_told);
}

static bool wants_rest(const struct lifecycle *life)
{
	return ending(life) || atomic_load(&life->reset_asked) || life->paused || life->held;
}

static void set_state(struct lifecycle *life, enum machine_state state)
{
	if (life->state == state)
		return;
	life->state = state;
	life->ops->changed(life, state);
}

static void answer_pause(struct lifecycle *life, int result, const char *why)
{
	struct machine_pause *pause = life->pause;

	life->pause = NULL;
	loop_timer_stop(&life->pause_limit);
	if (pause)
		pause->done(pause, result, why);
}

static void finish(struct lifecycle *life, bool stuck)
{
	loop_timer_stop(&life->patience);
	life->stuck = stuck;
	life->ops->ended(life);
	answer_pause(life, -ECANCELED, "the machine has ended");
	set_state(life, MACHINE_ENDED);
}

static void fail(struct lifecycle *life, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void fail(struct lifecycle *life, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	lifecycle_end(life, MACHINE_FAILED, format, args);
	va_end(args);
}

static void all_at_rest(struct device_rest *rest)
{
	struct lifecycle *life = container_of(rest, struct lifecycle, rest);

	atomic_store(&life->rested, true);
	lifecycle_poke(life);
}

/* The next step to rest; true: it is reached. */
static bool come_to_rest(struct lifecycle *life)
{
	life->ops->halt(life);
	if (!life->ops->halted(life))
		return false;
	if (life->phase == DEVICES_MOVING) {
		life->phase = DEVICES_COMING;
		atomic_store(&life->rested, false);
		device_rest_ask(&life->rest, *life->devices,
			atomic_load(&life->reset_asked) && !ending(life));
	}
	if (life->phase == DEVICES_COMING && atomic_load(&life->rested))
		life->phase = DEVICES_AT_REST;
	return life->phase == DEVICES_AT_REST;
}

/* A pause has its own limit. */
static void be_patient(struct lifecycle *life)
{
	if (loop_timer_set(&life->patience))
		return;
	if (life->killed)
		loop_timer_after(life->loop, &life->patience, KILL_NS);
	else if (ending(life) || atomic_load(&life->reset_asked))
		loop_timer_after(life->loop, &life->patience, TELL_NS);
}

static int start_devices(struct lifecycle *life, struct error *err)
{
	int ret = 0;

	if (life->phase == DEVICES_COMING)
		device_rest_forget(&life->rest, *life->devices);
	for (struct device *device = *life->devices; device && ret == 0; device = device->next)
		if (device->ops->start)
			ret = device->ops->start(device, err);
	life->phase = DEVICES_MOVING;
	return ret;
}

static void go(struct lifecycle *life)
{
	struct error err = {0};
	int ret = 0;

	loop_timer_stop(&life->patience);
	if (life->phase != DEVICES_MOVING)
		ret = start_devices(life, &err);
	if (ret < 0) {
		fail(life, "%s", err.text);
		return;
	}
	life->ops->go(life);
	set_state(life, MACHINE_RUNNING);
}

static void reset(struct lifecycle *life)
{
	struct error err = {0};

	/* First: another reset that is asked for from here on is a new one. */
	atomic_store(&life->reset_asked, false);
	life->resets++;
	if (life->ops->reset(life, &err) < 0)
		fail(life, "%s", err.text);
}

/* True: there is another step to take. */
static bool take_step(struct lifecycle *life)
{
	if (life->state == MACHINE_ENDED || life->state < MACHINE_BUILT)
		return false;
	if (atomic_load(&life->io_dead) && ending(life)) {
		finish(life, true);
		return false;
	}
	if (!wants_rest(life)) {
		if (life->state == MACHINE_BUILT)
			return false;
		go(life);
		return ending(life);
	}
	if (!come_to_rest(life)) {
		be_patient(life);
		return false;
	}
	loop_timer_stop(&life->patience);
	if (ending(life)) {
		/* It may have died since the look above; it says so before it asks for the end. */
		finish(life, atomic_load(&life->io_dead));
		return false;
	}
	if (atomic_load(&life->reset_asked)) {
		reset(life);
		return true;
	}
	set_state(life, MACHINE_PAUSED);
	answer_pause(life, 0, NULL);
	return false;
}

static void step(struct loop_task *task)
{
	struct lifecycle *life = container_of(task, struct lifecycle, step);

	atomic_store(&life->poked, false);
	while (take_step(life))
		continue;
}

void lifecycle_poke(struct lifecycle *life)
{
	if (!atomic_exchange(&life->poked, true))
		loop_post(life->loop, &life->step);
}

/* What does not come to rest, for a message. */
static const char *culprits(struct lifecycle *life, char names[NAMES_SIZE])
{
	if (!life->ops->halted(life))
		return "a vCPU";
	device_rest_busy(&life->rest, *life->devices, names, NAMES_SIZE);
	return names;
}

/* A reset or an end that is under way goes on. */
static void pause_expired(struct loop_timer *timer)
{
	struct lifecycle *life = container_of(timer, struct lifecycle, pause_limit);
	char names[NAMES_SIZE], why[NAMES_SIZE + 64];

	snprintf(why, sizeof(why), "%s did not come to rest; the machine goes on",
		culprits(life, names));
	life->paused = false;
	if (!wants_rest(life))
		go(life);
	answer_pause(life, -ETIMEDOUT, why);
}

static void lost_patience(struct loop_timer *timer)
{
	struct lifecycle *life = container_of(timer, struct lifecycle, patience);
	char names[NAMES_SIZE];

	if (life->killed) {
		log_warning("ended while %s still waits for the host's storage or kernel, which "
			    "does not let go; what the guest has flushed is safe",
			culprits(life, names));
		finish(life, true);
	} else {
		log_warning("the guest %s, and %s still waits for the host's storage; SIGTERM "
			    "ends it without",
			ending(life) ? "has ended" : "resets", culprits(life, names));
	}
}

void lifecycle_init(struct lifecycle *life, const struct lifecycle_ops *ops, struct loop *loop,
	struct device **devices)
{
	*life = (struct lifecycle){.ops = ops,
		.loop = loop,
		.devices = devices,
		.state = MACHINE_CONFIGURED,
		.step.run = step,
		.patience.expired = lost_patience,
		.pause_limit.expired = pause_expired};
	device_rest_init(&life->rest, all_at_rest);
}

void lifecycle_destroy(struct lifecycle *life)
{
	loop_timer_stop(&life->patience);
	loop_timer_stop(&life->pause_limit);
	loop_unpost(life->loop, &life->step);
	device_rest_destroy(&life->rest);
}

int lifecycle_start(struct lifecycle *life, struct error *err)
{
	if (life->state != MACHINE_BUILT)
		return error_set(err, EINVAL, "the machine is not in a state to be started");
	go(life);
	/* What went wrong is told as the machine's end. */
	lifecycle_poke(life);
	return 0;
}

bool lifecycle_is_paused(const struct lifecycle *life)
{
	return life->state == MACHINE_PAUSED && life->paused && !life->pause;
}

/* One that was told to go on may not have done so yet: it stays then. */
int lifecycle_pause(struct lifecycle *life, struct machine_pause *pause, uint64_t limit)
{
	if ((life->state != MACHINE_RUNNING && life->state != MACHINE_PAUSED) ||
		lifecycle_is_paused(life) || ending(life))
		return -EINVAL;
	if (life->pause)
		return -EALREADY;
	life->paused = true;
	life->pause = pause;
	if (limit)
		loop_timer_after(life->loop, &life->pause_limit, limit);
	lifecycle_poke(life);
	return 0;
}

void lifecycle_resume(struct lifecycle *life)
{
	if (!life->paused)
		return;
	life->paused = false;
	loop_timer_stop(&life->patience);
	answer_pause(life, -ECANCELED, "the machine was resumed");
	lifecycle_poke(life);
}

void lifecycle_hold(struct lifecycle *life, bool held)
{
	life->held = held;
	lifecycle_poke(life);
}

void lifecycle_ask_reset(struct lifecycle *life)
{
	atomic_store(&life->reset_asked, true);
	lifecycle_poke(life);
}

void lifecycle_end(struct lifecycle *life, enum machine_end end, const char *format, va_list args)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&life->end, &none, (int)end + 1))
		return;
	vsnprintf(life->end_text, sizeof(life->end_text), format, args);
	atomic_store(&life->end_told, true);
	lifecycle_poke(life);
}

void lifecycle_kill(struct lifecycle *life)
{
	if (life->killed || life->state == MACHINE_ENDED)
		return;
	life->killed = true;
	loop_timer_stop(&life->patience);
	for (struct device *device = *life->devices; device; device = device->next)
		if (device->ops->hurry)
			device->ops->hurry(device);
	lifecycle_poke(life);
}

void lifecycle_io_died(struct lifecycle *life)
{
	atomic_store(&life->io_dead, true);
	lifecycle_poke(life);
}
