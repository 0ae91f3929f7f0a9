/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/arrive.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "migrate/arrive_private.h"
#include "migrate/lacks.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_SIZE (256U << 10) /* a TLS handshake goes deep */

int arrival_take_pages(
	struct arrival *arrival, struct inflow *in, struct pages_seen *seen, struct error *err)
{
	return pages_apply(arrival->terms.memory, arrival->late, in->message.body,
		in->message.header.length, &in->decompressor, seen, err);
}

void arrival_open(struct arrival *arrival, struct inflow *in, const struct channel *channel)
{
	in->channel = *channel;
	in->channel.stop = arrival->stop;
	/* What is asked for has a limit of its own; the rest comes when it comes. */
	in->channel.patience = 0;
}

void arrival_close(struct inflow *in)
{
	channel_close(&in->channel);
	message_free(&in->message);
	decompressor_free(in->decompressor);
	in->decompressor = NULL;
}

/* ---- pages that somebody waits for ---- */

static int ask_from(struct arrival *arrival, unsigned first, struct error *err)
{
	const unsigned count = arrival->asked_count - first;
	uint8_t body[WIRE_WANT_MAX * 8];

	for (unsigned i = 0; i < count; i++) {
		store_le64(body + (size_t)i * 8, arrival->asked[first + i]);
		arrival->asked_at[first + i] = clock_ns();
	}
	return count ? channel_send(&arrival->urgent.channel, WIRE_WANT, body, (size_t)count * 8,
			       "", 0, err)
		     : 0;
}

static bool is_asked_for(const struct arrival *arrival, gpa_t page)
{
	for (unsigned i = 0; i < arrival->asked_count; i++)
		if (arrival->asked[i] == page.value)
			return true;
	return false;
}

/* No more at once than the line takes while nobody reads it. */
static int ask_for_more(struct arrival *arrival, struct error *err)
{
	const unsigned first = arrival->asked_count;
	gpa_t page;

	while (arrival->asked_count < WIRE_WANT_MAX && memory_late_next(arrival->late, &page))
		if (!is_asked_for(arrival, page))
			arrival->asked[arrival->asked_count++] = page.value;
	return ask_from(arrival, first, err);
}

/* clock_ns() at which the oldest has to be there, or a message that nobody has asked for. */
static uint64_t answer_by(const struct arrival *arrival)
{
	return (arrival->asked_count ? arrival->asked_at[0] : clock_ns()) +
	       CHANNEL_PATIENCE_S * SECOND_NS;
}

static int receive_answer(struct arrival *arrival, struct error *err)
{
	struct channel *channel = &arrival->urgent.channel;
	int ret;

	channel->until = answer_by(arrival);
	ret = channel_expect(channel, &arrival->urgent.message, WIRE_PAGES, err);
	channel->until = 0;
	return ret;
}

/* They come in the order in which they were asked for. */
static int take_answer(struct arrival *arrival, struct error *err)
{
	const struct message *message = &arrival->urgent.message;
	struct pages_seen seen = {0};
	unsigned count = 0;
	int ret = receive_answer(arrival, err);

	if (ret == 0)
		count = pages_match(message->body, message->header.length, arrival->asked,
			arrival->asked_count);
	if (ret == 0 && !count)
		ret = error_set(err, EPROTO, "pages came that nobody had asked for");
	if (ret == 0)
		ret = arrival_take_pages(arrival, &arrival->urgent, &seen, err);
	if (ret < 0)
		return ret;
	arrival->asked_count -= count;
	memmove(arrival->asked, arrival->asked + count,
		arrival->asked_count * sizeof(arrival->asked[0]));
	memmove(arrival->asked_at, arrival->asked_at + count,
		arrival->asked_count * sizeof(arrival->asked_at[0]));
	return 0;
}

/* ---- while there is a line ---- */

bool arrival_is(struct arrival *arrival, const bool *what)
{
	bool is;

	pthread_mutex_lock(&arrival->lock);
	is = *what;
	pthread_mutex_unlock(&arrival->lock);
	return is;
}

bool arrival_is_whole(struct arrival *arrival)
{
	return arrival_is(arrival, &arrival->runs) && memory_late_left(arrival->late) == 0;
}

/* What others have done meanwhile. */
static int look_around(struct arrival *arrival, struct error *err)
{
	eventfd_t ignored;
	int ret;

	eventfd_read(memory_late_word(arrival->late), &ignored);
	eventfd_read(arrival->word, &ignored);
	if (arrival_is(arrival, &arrival->given_up))
		return error_set(err, EPIPE, "it does not run here");
	ret = arrival_look_at_streams(arrival, err);
	return ret == 0 ? ask_for_more(arrival, err) : ret;
}

/* Milliseconds; -1: nothing is asked for. */
static int patience(const struct arrival *arrival)
{
	const uint64_t now = clock_ns(), until = answer_by(arrival);

	if (!arrival->asked_count)
		return -1;
	return now < until ? (int)((until - now) / MS_NS) + 1 : 0;
}

/* What is asked for is there within the patience for any message. */
static int wait_for_either(const struct arrival *arrival, bool *answer, struct error *err)
{
	struct pollfd fds[] = {{.fd = arrival->stop, .events = POLLIN},
		{.fd = memory_late_word(arrival->late), .events = POLLIN},
		{.fd = arrival->word, .events = POLLIN},
		{.fd = arrival->urgent.channel.fd, .events = POLLIN}};
	int ret;

	do
		ret = poll(fds, ARRAY_SIZE(fds), patience(arrival));
	while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return error_errno(err, errno, "poll");
	if (fds[0].revents)
		return error_set(err, ECANCELED, "the target was ended");
	*answer = fds[3].revents;
	return ret > 0 ? 0
		       : error_set(err, ETIMEDOUT,
				 "a page that was asked for did not come within %d s",
				 CHANNEL_PATIENCE_S);
}

/* 0: nothing lacks any more. */
static int take_all(struct arrival *arrival, struct error *err)
{
	/* First those that were on their way when the line was cut. */
	int ret = ask_from(arrival, 0, err);

	while (ret == 0) {
		bool answer = false;

		ret = look_around(arrival, err);
		if (ret == 0 && arrival_is_whole(arrival))
			break;
		if (ret == 0)
			ret = wait_for_either(arrival, &answer, err);
		if (ret == 0 && answer)
			ret = take_answer(arrival, err);
	}
	return ret;
}

/* ---- when there is none ---- */

void arrival_drop_given(struct arrival *arrival)
{
	pthread_mutex_lock(&arrival->lock);
	if (arrival->has_given)
		for (unsigned i = 0; i < arrival->hello.streams; i++)
			channel_close(&arrival->given[i]);
	arrival->has_given = false;
	pthread_mutex_unlock(&arrival->lock);
}

/* Before the commit that is the end: nobody runs here, nor will. */
static void note_cut(struct arrival *arrival, const struct error *why)
{
	bool broken;

	pthread_mutex_lock(&arrival->lock);
	if (!arrival->committed && !arrival->broken && !arrival->given_up) {
		arrival->broken = true;
		arrival->err = *why;
	}
	broken = arrival->broken;
	arrival->cut = true;
	pthread_mutex_unlock(&arrival->lock);
	arrival_drop_given(arrival);
	/* Those that wait in the machine's restoring go on, to hear that it has failed. */
	if (broken)
		memory_late_end(arrival->late);
	arrival_end_streams(arrival);
	arrival_close(&arrival->urgent);
}

static void warn_of_cut(struct arrival *arrival, uint64_t left, const struct error *why)
{
	if (arrival_is(arrival, &arrival->runs))
		log_warning("--incoming: the line to the source was cut while %llu pages of memory "
			    "were still to come (%.200s); it may come again within %u s",
			(unsigned long long)left, why->text, arrival->hello.wait);
}

static int wait_for_source(struct arrival *arrival, struct error *err)
{
	const uint64_t left = memory_late_left(arrival->late);
	int ret;

	warn_of_cut(arrival, left, err);
	/* A source that comes and brings nothing is not waited for for ever. */
	if (left != arrival->left || !arrival->until)
		arrival->until = clock_ns() + arrival->hello.wait * SECOND_NS;
	arrival->left = left;
	ret = arrival_await_source(arrival, err);
	if (ret == 0 && arrival->urgent.channel.fd >= 0)
		log_info("--incoming: the source came again");
	return ret;
}

static int take_memory(struct arrival *arrival, struct error *err)
{
	int ret;

	for (;;) {
		ret = take_all(arrival, err);
		if (ret == 0 || arrival_is(arrival, &arrival->leaving))
			return ret;
		/* The source alone has need of a line. */
		if (arrival_is_whole(arrival))
			return 0;
		note_cut(arrival, err);
		ret = wait_for_source(arrival, err);
		/* Without a source when no more is needed. */
		if (ret < 0 || arrival->urgent.channel.fd < 0)
			return ret;
	}
}

/* ---- its life ---- */

static void *arrive(void *opaque)
{
	struct arrival *arrival = opaque;
	struct error err = {0};
	bool begun;

	pthread_setname_np(pthread_self(), "duet-arrive");
	thread_confine(THREAD_ARRIVE);
	pthread_mutex_lock(&arrival->lock);
	while (!arrival->begun && !arrival->leaving)
		pthread_cond_wait(&arrival->begun_or_leaving, &arrival->lock);
	begun = arrival->begun;
	pthread_mutex_unlock(&arrival->lock);
	if (begun)
		arrival_finish(arrival, take_memory(arrival, &err), &err);
	eventfd_write(arrival->over, 1);
	return NULL;
}

int arrival_new(struct arrival **out, const struct arrival_terms *terms, struct error *err)
{
	struct arrival *arrival = calloc(1, sizeof(*arrival));
	int ret;

	if (!arrival)
		return error_errno(err, ENOMEM, "post-copy");
	*arrival = (struct arrival){.terms = *terms, .urgent.channel.fd = -1};
	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++)
		arrival->streams[i].in.channel.fd = -1;
	pthread_mutex_init(&arrival->lock, NULL);
	pthread_cond_init(&arrival->begun_or_leaving, NULL);
	arrival->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	arrival->word = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	arrival->over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (arrival->stop < 0 || arrival->word < 0 || arrival->over < 0)
		ret = error_errno(err, errno, "post-copy: eventfd");
	else
		ret = memory_late_open(&arrival->late, terms->memory, err);
	if (ret < 0)
		arrival_free(arrival, false);
	else
		*out = arrival;
	return ret;
}

int arrival_start(struct arrival *arrival, struct error *err)
{
	int ret = memory_late_serve(arrival->late, err);

	if (ret < 0)
		return ret;
	ret = thread_start(&arrival->thread, STACK_SIZE, arrive, arrival);
	arrival->started = ret == 0;
	return ret ? error_errno(err, ret, "post-copy: thread") : 0;
}

static void put_lack(void *opaque, gpa_t gpa, uint64_t bits)
{
	struct arrival *arrival = opaque;

	memory_late_lack(arrival->late, gpa, bits);
}

int arrival_lack(struct arrival *arrival, const struct message *message, struct error *err)
{
	static const struct lacks_ops ops = {.put = put_lack};

	return lacks_take(arrival->terms.memory, message->body, message->header.length,
		&arrival->after, &ops, arrival, err);
}

int arrival_begin(struct arrival *arrival, const struct wire_hello *hello, struct channel *urgent,
	struct error *err)
{
	int ret = memory_late_begin(arrival->late, err);

	if (ret < 0) {
		channel_close(urgent);
		return ret;
	}
	pthread_mutex_lock(&arrival->lock);
	arrival->hello = *hello;
	arrival_open(arrival, &arrival->urgent, urgent);
	urgent->fd = -1;
	urgent->tls = NULL;
	arrival->begun = true;
	pthread_cond_signal(&arrival->begun_or_leaving);
	pthread_mutex_unlock(&arrival->lock);
	return 0;
}

bool arrival_is_begun(struct arrival *arrival)
{
	return arrival_is(arrival, &arrival->begun);
}

int arrival_commit(struct arrival *arrival, struct error *err)
{
	int ret = 0;

	pthread_mutex_lock(&arrival->lock);
	if (arrival->broken)
		ret = error_set(err, arrival->err.code ? arrival->err.code : EPIPE,
			"the stream for pages that are asked for: %.400s", arrival->err.text);
	else
		arrival->committed = true;
	pthread_mutex_unlock(&arrival->lock);
	return ret;
}

void arrival_run(struct arrival *arrival, struct channel *channels)
{
	pthread_mutex_lock(&arrival->lock);
	for (unsigned i = 0; i < arrival->hello.streams; i++) {
		if (arrival->cut) {
			channel_close(&channels[i]);
			continue;
		}
		arrival->given[i] = channels[i];
	}
	arrival->has_given |= !arrival->cut;
	arrival->runs = true;
	pthread_mutex_unlock(&arrival->lock);
	eventfd_write(arrival->word, 1);
}

void arrival_give_up(struct arrival *arrival, int stop, const struct error *why)
{
	log_warning("--incoming: %.300s; the machine does not run here, and its source, which may "
		    "not have heard so, is told when it comes again within %u s",
		why->text, arrival->hello.wait);
	pthread_mutex_lock(&arrival->lock);
	arrival->err = *why;
	arrival->given_up = true;
	arrival->given_up_until = clock_ns() + arrival->hello.wait * SECOND_NS;
	pthread_mutex_unlock(&arrival->lock);
	eventfd_write(arrival->word, 1);
	channel_wait(arrival->over, POLLIN, stop, 0, NULL);
}

static void end_thread(struct arrival *arrival, bool ended)
{
	pthread_mutex_lock(&arrival->lock);
	arrival->leaving = true;
	arrival->ended = ended;
	pthread_cond_signal(&arrival->begun_or_leaving);
	pthread_mutex_unlock(&arrival->lock);
	eventfd_write(arrival->stop, 1);
	pthread_join(arrival->thread, NULL);
}

void arrival_free(struct arrival *arrival, bool ended)
{
	if (!arrival)
		return;
	if (arrival->started)
		end_thread(arrival, ended);
	memory_late_free(arrival->late);
	arrival_drop_given(arrival);
	for (int fds[] = {arrival->stop, arrival->word, arrival->over}, i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	pthread_cond_destroy(&arrival->begun_or_leaving);
	pthread_mutex_destroy(&arrival->lock);
	free(arrival);
}
