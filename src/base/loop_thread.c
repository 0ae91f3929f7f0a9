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
	sem_t may_run, running;
	struct loop *loop;
	pthread_t thread;
	bool there; /* or has ended by itself, and is to be joined */
	bool goes;  /* it may run its loop, and not just end */
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
	while (sem_wait(&thread->may_run) < 0)
		continue;
	ret = thread->goes ? loop_run(thread->loop) : 0;
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
	sem_init(&thread->may_run, 0, 0);
	sem_init(&thread->running, 0, 0);
	*out = thread;
	return 0;
}

int loop_thread_ready(struct loop_thread *thread, struct error *err)
{
	int ret = thread->there ? 0 : thread_start(&thread->thread, STACK_SIZE, run, thread);

	if (ret)
		return error_errno(err, ret, "thread %s", thread->name);
	thread->there = true;
	return 0;
}

int loop_thread_go(struct loop_thread *thread, struct error *err)
{
	int ret = loop_thread_ready(thread, err);

	if (ret < 0)
		return ret;
	thread->started.run = tell_started;
	loop_post(thread->loop, &thread->started);
	thread->goes = true;
	sem_post(&thread->may_run);
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
	if (!thread->there)
		return;
	if (thread->goes)
		loop_stop(thread->loop);
	else
		sem_post(&thread->may_run);
	pthread_join(thread->thread, NULL);
	thread->there = thread->goes = false;
}

void loop_thread_stop(struct loop_thread *thread)
{
	if (!thread)
		return;
	loop_thread_quit(thread);
	loop_free(thread->loop);
	free(thread);
}
