/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/serve.h"

#include "base/bytes.h"
#include "base/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define STACK_SIZE  (128U << 10)
#define LAST_WORD_S 2

static struct channel *channel_of(const struct serve *serve)
{
	return &serve->source->channels[serve->source->streams];
}

static int add_page(struct serve *serve, uint64_t gpa, struct error *err)
{
	const void *host = memory_begin(serve->sweep->memory, GPA(gpa), MEMORY_PAGE);
	struct pages_seen seen = {0};

	if (!host || gpa % MEMORY_PAGE || !sweep_named(serve->sweep, GPA(gpa)))
		return error_set(err, EPROTO,
			"the other side wants a page at 0x%llx, where it lacks none",
			(unsigned long long)gpa);
	/* A message of them is less than a batch takes. */
	pages_add(&serve->batch, GPA(gpa), host, &seen);
	if (sweep_claim_at(serve->sweep, GPA(gpa)))
		atomic_fetch_sub(&serve->source->progress->left, 1);
	atomic_fetch_add(&serve->source->progress->urgent, 1);
	return 0;
}

static int answer(struct serve *serve, struct error *err)
{
	const struct message *message = &serve->message;
	struct channel *channel = channel_of(serve);
	const uint64_t before = channel->sent;
	const uint8_t *data;
	size_t length, head;
	int ret = message->header.length % 8 ? error_set(err, EPROTO, "a part of an address") : 0;

	pages_clear(&serve->batch);
	for (uint32_t at = 0; ret == 0 && at < message->header.length; at += 8)
		ret = add_page(serve, load_le64(message->body + at), err);
	if (ret < 0)
		return ret;
	head = pages_finish(&serve->batch, NULL, &data, &length);
	channel->patience = CHANNEL_PATIENCE_S;
	ret = channel_send(channel, WIRE_PAGES, serve->batch.head, head, data, length, err);
	atomic_fetch_add(&serve->source->progress->bytes, channel->sent - before);
	return ret;
}

/* 1: more may come. */
static int take_message(struct serve *serve, struct error *err)
{
	struct channel *channel = channel_of(serve);
	int ret;

	/* A guest may need nothing for a long time. */
	channel->patience = 0;
	ret = channel_receive_either(channel, &serve->message, WIRE_WANT, WIRE_WHOLE, err);
	if (ret < 0 || serve->message.header.kind == WIRE_WHOLE)
		return ret;
	ret = answer(serve, err);
	return ret < 0 ? ret : 1;
}

/* The target waits for nobody any more. */
static void confirm(struct serve *serve)
{
	struct channel *channel = channel_of(serve);

	channel->patience = LAST_WORD_S;
	channel_say(channel, WIRE_WHOLE, NULL);
}

static void *run(void *opaque)
{
	struct serve *serve = opaque;
	int ret;

	pthread_setname_np(pthread_self(), "duet-serve");
	do
		ret = take_message(serve, &serve->err);
	while (ret > 0);
	serve->whole = ret == 0;
	if (serve->whole)
		confirm(serve);
	/* Nobody reads the others either. */
	serve_hang_up(serve->source);
	return NULL;
}

int serve_init(struct serve *serve, struct sweep *sweep, struct error *err)
{
	*serve = (struct serve){.source = sweep->source, .sweep = sweep};
	serve->batch.data = malloc(PAGES_BATCH * MEMORY_PAGE);
	return serve->batch.data ? 0 : error_errno(err, ENOMEM, "migration");
}

int serve_start(struct serve *serve, struct error *err)
{
	int ret;

	serve->err = (struct error){0};
	ret = thread_start(&serve->thread, STACK_SIZE, run, serve);
	serve->started = ret == 0;
	return ret ? error_errno(err, ret, "migration: thread") : 0;
}

void serve_join(struct serve *serve)
{
	if (serve->started)
		pthread_join(serve->thread, NULL);
	serve->started = false;
}

void serve_hang_up(const struct source *source)
{
	for (unsigned i = 0; i <= source->streams; i++)
		if (source->channels[i].fd >= 0)
			shutdown(source->channels[i].fd, SHUT_RDWR);
}

void serve_free(struct serve *serve)
{
	serve_join(serve);
	free(serve->batch.data);
	message_free(&serve->message);
}
