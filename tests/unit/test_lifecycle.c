/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life cycle without a machine: vCPUs that stop when the test says so, devices that come to
 * rest when it says so, and wishes in every order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/log.h"
#include "machine/gate.h"
#include "machine/lifecycle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICES 3
#define MS      1000000ULL

struct model {
	struct device device;
	bool moving, coming, slow;
	unsigned starts, hurries, asking;
	bool drop; /* what has not begun */
	bool fail;
};

struct world {
	struct lifecycle life;
	struct loop *loop;
	struct model models[DEVICES];
	struct device *first;
	bool inside; /* vCPUs are in the guest */
	bool slow_cpus;
	bool dies; /* the I/O thread, while a step is taken */
	unsigned resets, gos, ends, asked, pauses, cancels, timeouts;
	bool fail_reset;
	enum machine_state states[256];
	unsigned state_count;
	char why[256];
	struct machine_pause pause;
	struct loop_task stop;
	struct loop_timer timer;
};

static struct model *model_of(struct device *device)
{
	return container_of(device, struct model, device);
}

static int start(struct device *device, struct error *err)
{
	struct model *model = model_of(device);

	if (model->fail)
		return error_set(err, EIO, "no start");
	model->moving = true;
	model->coming = false;
	model->starts++;
	return 0;
}

static void rest_now(struct model *model)
{
	model->moving = model->coming = false;
	device_at_rest(&model->device, model->asking);
}

static void quiesce(struct device *device, unsigned asking, bool drop)
{
	struct model *model = model_of(device);

	model->asking = asking;
	model->drop = drop;
	model->coming = true;
	if (!model->slow)
		rest_now(model);
}

static void hurry(struct device *device)
{
	model_of(device)->hurries++;
}

static const struct device_ops model_ops = {
	.type = "model", .start = start, .quiesce = quiesce, .hurry = hurry};

static struct world *world_of(struct lifecycle *life)
{
	return container_of(life, struct world, life);
}

__attribute__((format(printf, 3, 4))) static void end(
	struct world *world, enum machine_end how, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	lifecycle_end(&world->life, how, format, args);
	va_end(args);
}

static void halt(struct lifecycle *life)
{
	struct world *world = world_of(life);

	if (world->dies) {
		world->dies = false;
		lifecycle_io_died(life);
		end(world, MACHINE_FAILED, "dead");
	}
	if (!world->inside || world->slow_cpus)
		return;
	world->inside = false;
	lifecycle_poke(life);
}

static bool halted(struct lifecycle *life)
{
	return !world_of(life)->inside;
}

static void assert_rest(struct world *world)
{
	assert_false(world->inside);
	for (unsigned i = 0; i < DEVICES; i++)
		assert_false(world->models[i].moving);
}

static void go(struct lifecycle *life)
{
	struct world *world = world_of(life);

	for (unsigned i = 0; i < DEVICES; i++)
		assert_true(world->models[i].moving);
	world->inside = true;
	world->gos++;
}

static int reset(struct lifecycle *life, struct error *err)
{
	struct world *world = world_of(life);

	assert_rest(world);
	world->resets++;
	return world->fail_reset ? error_set(err, EIO, "no reset") : 0;
}

static void ended(struct lifecycle *life)
{
	struct world *world = world_of(life);

	if (!life->stuck)
		assert_rest(world);
	world->ends++;
}

static void changed(struct lifecycle *life, enum machine_state state)
{
	struct world *world = world_of(life);

	if (state == MACHINE_PAUSED)
		assert_rest(world);
	if (world->state_count < ARRAY_SIZE(world->states))
		world->states[world->state_count++] = state;
}

static const struct lifecycle_ops ops = {.halt = halt,
	.halted = halted,
	.go = go,
	.reset = reset,
	.ended = ended,
	.changed = changed};

static void paused(struct machine_pause *pause, int result, const char *why)
{
	struct world *world = container_of(pause, struct world, pause);

	world->pauses += result == 0;
	world->cancels += result == -ECANCELED;
	world->timeouts += result == -ETIMEDOUT;
	if (why)
		snprintf(world->why, sizeof(world->why), "%s", why);
}

static void stop_loop(struct loop_task *task)
{
	loop_stop(container_of(task, struct world, stop)->loop);
}

static void timer_stops(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct world, timer)->loop);
}

static void world_init(struct world *world)
{
	memset(world, 0, sizeof(*world));
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(loop_new(&world->loop, 8, NULL), 0);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct device *device = &world->models[i].device;

		device->ops = &model_ops;
		snprintf(device->name, sizeof(device->name), "model%u", i);
		device->next = i + 1 < DEVICES ? &world->models[i + 1].device : NULL;
	}
	world->first = &world->models[0].device;
	world->pause.done = paused;
	world->stop.run = stop_loop;
	world->timer.expired = timer_stops;
	lifecycle_init(&world->life, &ops, world->loop, &world->first);
	world->life.state = MACHINE_BUILT;
}

static void world_free(struct world *world)
{
	lifecycle_destroy(&world->life);
	loop_free(world->loop);
}

/* Until everything posted so far, and by that, has run. */
static void settle(struct world *world)
{
	for (unsigned i = 0; i < 4; i++) {
		loop_post(world->loop, &world->stop);
		assert_int_equal(loop_run(world->loop), 0);
	}
}

static void wait_ms(struct world *world, unsigned ms)
{
	loop_timer_after(world->loop, &world->timer, ms * MS);
	assert_int_equal(loop_run(world->loop), 0);
}

static void run(struct world *world)
{
	world_init(world);
	assert_int_equal(lifecycle_start(&world->life, NULL), 0);
	settle(world);
	assert_int_equal(world->life.state, MACHINE_RUNNING);
	assert_true(world->inside);
}

static void pauses_and_goes_on(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	for (unsigned i = 1; i <= 50; i++) {
		assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
		assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), -EALREADY);
		settle(&world);
		assert_int_equal(world.life.state, MACHINE_PAUSED);
		assert_int_equal(world.pauses, i);
		assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), -EINVAL);
		lifecycle_resume(&world.life);
		lifecycle_resume(&world.life);
		settle(&world);
		assert_int_equal(world.life.state, MACHINE_RUNNING);
	}
	assert_int_equal(world.models[0].starts, 51);
	world_free(&world);
}

/* A pause that something does not let come about gives up, says who it was, and all goes on. */
static void gives_up_a_pause(void **state)
{
	struct world world;
	unsigned late;

	(void)state;
	run(&world);
	world.models[1].slow = world.models[2].slow = true;
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 20 * MS), 0);
	wait_ms(&world, 60);
	assert_int_equal(world.timeouts, 1);
	assert_non_null(strstr(world.why, "model1, model2"));
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	/* Its late answer changes nothing, nor is it taken for an answer to the next asking. */
	late = world.models[1].asking;
	device_at_rest(&world.models[1].device, late);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	world.models[2].slow = false;
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
	settle(&world);
	device_at_rest(&world.models[1].device, late);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	rest_now(&world.models[1]);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_PAUSED);
	lifecycle_resume(&world.life);
	settle(&world);
	world.models[1].slow = false;
	world.slow_cpus = true;
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 20 * MS), 0);
	wait_ms(&world, 60);
	assert_int_equal(world.timeouts, 2);
	assert_non_null(strstr(world.why, "a vCPU"));
	world_free(&world);
}

static void a_resume_takes_a_pause_back(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	world.models[0].slow = true;
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
	settle(&world);
	lifecycle_resume(&world.life);
	assert_int_equal(world.cancels, 1);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	assert_true(world.models[0].moving);
	world_free(&world);
}

/* It is given away: whoever resumes it only says what is to be when it is not. */
static void stays_while_it_is_held(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
	settle(&world);
	lifecycle_hold(&world.life, true);
	lifecycle_resume(&world.life);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_PAUSED);
	assert_false(world.inside);
	lifecycle_hold(&world.life, false);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
	settle(&world);
	lifecycle_hold(&world.life, true);
	end(&world, MACHINE_MOVED, "elsewhere");
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_ENDED);
	world_free(&world);
}

/* Two wishes before there was time for the first: it is the second that holds. */
static void a_pause_takes_a_resume_back(void **state)
{
	struct world world;
	unsigned gos;

	(void)state;
	run(&world);
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
	settle(&world);
	assert_true(lifecycle_is_paused(&world.life));
	gos = world.gos;
	lifecycle_resume(&world.life);
	assert_false(lifecycle_is_paused(&world.life));
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), 0);
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 0), -EALREADY);
	settle(&world);
	assert_true(lifecycle_is_paused(&world.life));
	assert_int_equal(world.pauses, 2);
	assert_int_equal(world.gos, gos);
	lifecycle_resume(&world.life);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	world_free(&world);
}

static void resets_in_place(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	for (unsigned i = 1; i <= 20; i++) {
		/* Several vCPUs at once make one reset. */
		lifecycle_ask_reset(&world.life);
		lifecycle_ask_reset(&world.life);
		settle(&world);
		assert_int_equal(world.resets, i);
		assert_int_equal(world.life.state, MACHINE_RUNNING);
		assert_true(world.inside);
	}
	/* One that was asked for while it is paused is done, and it stays paused. */
	lifecycle_pause(&world.life, &world.pause, 0);
	settle(&world);
	lifecycle_ask_reset(&world.life);
	settle(&world);
	assert_int_equal(world.resets, 21);
	assert_int_equal(world.life.state, MACHINE_PAUSED);
	world.fail_reset = true;
	lifecycle_ask_reset(&world.life);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_ENDED);
	assert_string_equal(world.life.end_text, "no reset");
	world_free(&world);
}

/* Before a reset, what has not begun is dropped; else it is finished. */
static void says_what_follows(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	lifecycle_ask_reset(&world.life);
	settle(&world);
	assert_true(world.models[0].drop);
	lifecycle_pause(&world.life, &world.pause, 0);
	settle(&world);
	assert_false(world.models[0].drop);
	world_free(&world);
}

static void a_pause_keeps_its_limit_in_a_reset(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	world.models[0].slow = true;
	lifecycle_ask_reset(&world.life);
	assert_int_equal(lifecycle_pause(&world.life, &world.pause, 20 * MS), 0);
	wait_ms(&world, 60);
	assert_int_equal(world.timeouts, 1);
	assert_int_equal(world.resets, 0);
	rest_now(&world.models[0]);
	settle(&world);
	assert_int_equal(world.resets, 1);
	assert_int_equal(world.life.state, MACHINE_RUNNING);
	world_free(&world);
}

static void ends_once(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	world.models[2].slow = true;
	lifecycle_pause(&world.life, &world.pause, 0);
	end(&world, MACHINE_POWERED_OFF, "first");
	end(&world, MACHINE_FAILED, "second");
	lifecycle_ask_reset(&world.life);
	settle(&world);
	/* What it has in flight is waited for. */
	assert_int_equal(world.ends, 0);
	rest_now(&world.models[2]);
	settle(&world);
	assert_int_equal(world.ends, 1);
	assert_int_equal(world.cancels, 1);
	assert_int_equal(world.resets, 0);
	assert_int_equal(world.life.state, MACHINE_ENDED);
	assert_string_equal(world.life.end_text, "first");
	assert_false(world.life.stuck);
	lifecycle_ask_reset(&world.life);
	lifecycle_resume(&world.life);
	lifecycle_kill(&world.life);
	settle(&world);
	assert_int_equal(world.ends, 1);
	world_free(&world);
}

/* Told to end at once it asks devices to hurry, and does not wait for long. */
static void is_killed_in_time(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	world.models[0].slow = true;
	end(&world, MACHINE_POWERED_OFF, "off");
	settle(&world);
	assert_int_equal(world.ends, 0);
	lifecycle_kill(&world.life);
	settle(&world);
	assert_int_equal(world.models[0].hurries, 1);
	assert_int_equal(world.ends, 0);
	wait_ms(&world, 500);
	assert_int_equal(world.ends, 1);
	assert_true(world.life.stuck);
	world_free(&world);
}

static void ends_when_the_io_thread_died(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	world.models[0].slow = world.models[1].slow = true;
	end(&world, MACHINE_FAILED, "dead");
	lifecycle_io_died(&world.life);
	settle(&world);
	assert_int_equal(world.ends, 1);
	assert_true(world.life.stuck);
	world_free(&world);
}

/* A machine at rest would end as if nothing were left in the kernel's hands. */
static void sees_the_io_thread_die_between_two_looks(void **state)
{
	struct world world;

	(void)state;
	run(&world);
	lifecycle_pause(&world.life, &world.pause, 0);
	settle(&world);
	assert_true(lifecycle_is_paused(&world.life));
	world.dies = true;
	lifecycle_poke(&world.life);
	settle(&world);
	assert_int_equal(world.ends, 1);
	assert_true(world.life.stuck);
	world_free(&world);
}

static void a_start_that_fails_is_an_end(void **state)
{
	struct world world;

	(void)state;
	world_init(&world);
	world.models[1].fail = true;
	assert_int_equal(lifecycle_start(&world.life, NULL), 0);
	settle(&world);
	assert_int_equal(world.life.state, MACHINE_ENDED);
	assert_string_equal(world.life.end_text, "no start");
	assert_true(lifecycle_start(&world.life, NULL) < 0);
	world_free(&world);
}

static void kill_it(struct world *world)
{
	end(world, MACHINE_KILLED, "killed");
	lifecycle_kill(&world->life);
}

static void do_something(struct world *world)
{
	struct model *model = &world->models[rand() % DEVICES];

	switch (rand() % 9) {
	case 0:
		world->asked +=
			lifecycle_pause(&world->life, &world->pause, rand() % 2 ? 0 : MS) == 0;
		break;
	case 1:
		lifecycle_resume(&world->life);
		break;
	case 2:
		lifecycle_ask_reset(&world->life);
		break;
	case 3:
		model->slow = !model->slow;
		break;
	case 4:
		if (model->coming)
			rest_now(model);
		break;
	case 5:
		world->slow_cpus = !world->slow_cpus;
		lifecycle_poke(&world->life);
		break;
	case 6:
		if (rand() % 8 == 0)
			end(world, MACHINE_POWERED_OFF, "off");
		break;
	case 7:
		if (rand() % 8 == 0)
			kill_it(world);
		break;
	default:
		settle(world);
		break;
	}
}

/* Nothing stands in the way any more. */
static void let_all_go(struct world *world)
{
	world->slow_cpus = false;
	for (unsigned i = 0; i < DEVICES; i++) {
		world->models[i].slow = false;
		if (world->models[i].coming)
			rest_now(&world->models[i]);
	}
	lifecycle_resume(&world->life);
	lifecycle_poke(&world->life);
	settle(world);
}

/* However far it had got when it was wished for. */
static void assert_ended(struct world *world)
{
	assert_int_equal(world->life.state, MACHINE_ENDED);
	assert_int_equal(world->ends, 1);
	assert_true(world->life.killed || !world->life.stuck);
	assert_int_equal(world->asked, world->pauses + world->cancels + world->timeouts);
	assert_int_equal(lifecycle_pause(&world->life, &world->pause, 0), -EINVAL);
	lifecycle_resume(&world->life);
	lifecycle_ask_reset(&world->life);
	lifecycle_kill(&world->life);
	settle(world);
	assert_int_equal(world->life.state, MACHINE_ENDED);
	assert_int_equal(world->ends, 1);
}

/* Whatever is wished for in whatever order: no step is taken too early (the model asserts that),
 * each pause is answered once, and at the end it runs and can be ended, or has ended. */
static void takes_wishes_in_any_order(void **state)
{
	unsigned ended = 0, killed = 0;

	(void)state;
	for (unsigned seed = 0; seed < 200; seed++) {
		struct world world;

		srand(seed);
		run(&world);
		for (unsigned i = 0; i < 100; i++)
			do_something(&world);
		let_all_go(&world);
		ended += world.life.end != 0;
		killed += world.life.killed;
		if (!world.life.end) {
			assert_int_equal(world.life.state, MACHINE_RUNNING);
			assert_true(world.inside);
			end(&world, MACHINE_POWERED_OFF, "off");
			settle(&world);
		}
		assert_ended(&world);
		world_free(&world);
	}
	/* Each of the three has come about. */
	assert_true(ended < 200 && killed > 0 && ended > killed);
}

#define THREADS 4

struct crowd {
	struct gate gate;
	_Atomic unsigned inside, emptied;
	_Atomic bool kicked;
};

static void emptied(void *opaque)
{
	((struct crowd *)opaque)->emptied++;
}

static void *one_of_the_crowd(void *opaque)
{
	struct crowd *crowd = opaque;

	while (gate_pass(&crowd->gate, emptied, crowd)) {
		crowd->inside++;
		while (!crowd->kicked)
			sched_yield();
		crowd->inside--;
	}
	return NULL;
}

static void the_gate_lets_nobody_in(void **state)
{
	struct crowd crowd = {.inside = 0};
	pthread_t threads[THREADS];

	(void)state;
	gate_init(&crowd.gate);
	for (unsigned i = 0; i < THREADS; i++) {
		gate_enter(&crowd.gate);
		assert_int_equal(pthread_create(&threads[i], NULL, one_of_the_crowd, &crowd), 0);
	}
	for (unsigned i = 1; i <= 200; i++) {
		crowd.kicked = false;
		assert_true(gate_set(&crowd.gate, GATE_OPEN));
		assert_false(gate_set(&crowd.gate, GATE_OPEN));
		while (i % 2 && crowd.inside < THREADS)
			sched_yield();
		gate_set(&crowd.gate, GATE_SHUT);
		crowd.kicked = true;
		while (!gate_is_empty(&crowd.gate))
			sched_yield();
		assert_int_equal(crowd.inside, 0);
	}
	gate_set(&crowd.gate, GATE_LEAVE);
	assert_false(gate_set(&crowd.gate, GATE_OPEN));
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(crowd.emptied > 0);
	gate_destroy(&crowd.gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pauses_and_goes_on),
		cmocka_unit_test(gives_up_a_pause),
		cmocka_unit_test(a_resume_takes_a_pause_back),
		cmocka_unit_test(a_pause_takes_a_resume_back),
		cmocka_unit_test(stays_while_it_is_held),
		cmocka_unit_test(resets_in_place),
		cmocka_unit_test(says_what_follows),
		cmocka_unit_test(a_pause_keeps_its_limit_in_a_reset),
		cmocka_unit_test(ends_once),
		cmocka_unit_test(is_killed_in_time),
		cmocka_unit_test(ends_when_the_io_thread_died),
		cmocka_unit_test(sees_the_io_thread_die_between_two_looks),
		cmocka_unit_test(a_start_that_fails_is_an_end),
		cmocka_unit_test(takes_wishes_in_any_order),
		cmocka_unit_test(the_gate_lets_nobody_in),
	};

	return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
