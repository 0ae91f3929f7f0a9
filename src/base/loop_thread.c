/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/loop.h"
#include "base/thread.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

struct loop_thread {
	struct loop_task started; /* first, so that the task is the thread */
	sem_t running;
	struct loop *loop;
	pthread_t thread;
	bool runs; /* or has ended by itself, and is to be joined */
	void (*died)(void *opaque, int error);
	void *opaque;
	char name[16];
};

/* 128 KiB: the loop's callbacks are shallow and keep no large buffers on the stack. */
#define STACK_SIZE (128U << 10)

static void *run(void *opaque)
{
	struct loop_thread *thread = opaque;
	int ret;

	pthread_setname_np(pthread_self(), thread->name);
	thread_confine(THREAD_IO);
	ret = loop_run(thread->loop);
	if (ret < 0 && thread->died)
		thread->died(thread->opaque, ret);
	else if (ret < 0)
		log_error("thread %s: io_uring: %s", thread->name, strerror(-ret));
	return NULL;
}

static void tell_started(struct loop_task *task)
{
	struct loop_thread *thread = (struct loop_thread *)task;

	sem_post(&thread->running);
}

/* Returns when the loop runs: from then on loop_call() waits for it. */
static void await_start(struct loop_thread *thread)
{
	while (sem_wait(&thread->running) < 0)
		continue;
}

int loop_thread_new(
	struct loop_thread **out, const struct loop_thread_options *options, struct error *err)
{
	struct loop_thread *thread = calloc(1, sizeof(*thread));
	int ret;

	if (!thread)
		return error_errno(err, ENOMEM, "thread %s", options->name);
	strncpy(thread->name, options->name, sizeof(thread->name) - 1);
	thread->died = options->died;
	thread->opaque = options->opaque;
	ret = loop_new(&thread->loop, options->entries, err);
	if (ret < 0) {
		free(thread);
		return ret;
	}
	sem_init(&thread->running, 0, 0);
	*out = thread;
	return 0;
}

int loop_thread_go(struct loop_thread *thread, struct error *err)
{
	int ret;

	thread->started.run = tell_started;
	loop_post(thread->loop, &thread->started);
	ret = thread_start(&thread->thread, STACK_SIZE, run, thread);
	if (ret) {
		loop_unpost(thread->loop, &thread->started);
		return error_errno(err, ret, "thread %s", thread->name);
	}
	thread->runs = true;
	await_start(thread);
	return 0;
}

int loop_thread_start(
	struct loop_thread **out, const struct loop_thread_options *options, struct error *err)
{
	struct loop_thread *thread;
	int ret = loop_thread_new(&thread, options, err);

	if (ret < 0)
		return ret;
	ret = loop_thread_go(thread, err);
	if (ret < 0) {
		loop_thread_stop(thread);
		return ret;
	}
	*out = thread;
	return 0;
}

struct loop *loop_thread_loop(struct loop_thread *thread)
{
	return thread->loop;
}

void loop_thread_quit(struct loop_thread *thread)
{
	if (!thread->runs)
		return;
	loop_stop(thread->loop);
	pthread_join(thread->thread, NULL);
	thread->runs = false;
}

void loop_thread_stop(struct loop_thread *thread)
{
	if (!thread)
		return;
	loop_thread_quit(thread);
	loop_free(thread->loop);
	free(thread);
}
