/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream between source and target: whole messages, in both directions, by a thread that waits.
 * One thread at a time sends, one receives. A wait ends when the other side is gone, when it has
 * been silent for too long, or when somebody makes the stop descriptor readable (-ECANCELED).
 */
#ifndef DUET_MIGRATE_CHANNEL_H
#define DUET_MIGRATE_CHANNEL_H

#include "migrate/wire.h"

#include <stdbool.h>

struct mtls;
struct mtls_stream;

struct channel {
	int fd;                  /* a stream socket, non-blocking; owned; -1: none */
	int stop;                /* eventfd; the caller's */
	struct mtls_stream *tls; /* null: plain */
	unsigned patience; /* seconds for which a wait may last; 0: as long as there is another side
			    */
	uint64_t until;    /* clock_ns() at which all patience is at its end; 0: never */
	uint64_t sent;     /* bytes */
	bool torn;         /* a message was begun and not sent whole: nothing can follow it */
	uint8_t crc[4];    /* of the message that was sent last, as it went */
};

struct message {
	struct wire_header header;
	uint8_t *body; /* header.length bytes and a null; until the next message is received */
	size_t capacity;
};

#define CHANNEL_PATIENCE_S 60

/* Takes over @fd, in any case. @tls: null: plain; else it begins with a handshake, in which this
 * side listens or not, and all that
 * follows has to be done in @patience seconds, unless that is 0 or channel->until is set anew. */
int channel_open(struct channel *channel, int fd, int stop, const struct mtls *tls, bool listens,
	unsigned patience, struct error *err);
/* For its own bytes to go or come. */
int channel_await(const struct channel *channel, short events, struct error *err);
/* What can be done about a channel of any state: it is closed. */
void channel_close(struct channel *channel);
/* One message, its body in two parts. */
int channel_send(struct channel *channel, enum wire_kind kind, const void *body, size_t length,
	const void *more, size_t more_length, struct error *err);
int channel_say(struct channel *channel, enum wire_kind kind, struct error *err);
/* One of @kind or of @other; what the other side says of a failure is the error then (-EREMOTEIO).
 * -EPIPE: it is gone; -EPROTO. */
int channel_receive_either(struct channel *channel, struct message *message, enum wire_kind kind,
	enum wire_kind other, struct error *err);
/* One of @kind. */
int channel_expect(
	struct channel *channel, struct message *message, enum wire_kind kind, struct error *err);
/* Room for a body of @size bytes less one: receiving such a message needs no memory then. */
int message_reserve(struct message *message, size_t size, struct error *err);
void message_free(struct message *message);
/* Something has come that was not received yet; does not wait. */
bool channel_has_word(const struct channel *channel);
/* Whether who runs it wants it to end: seen by itself whenever it waits for the other side. */
bool channel_is_stopped(const struct channel *channel);
/* Says why it ends, unless that would be taken for the rest of a message; whether it was said. */
bool channel_say_failed(struct channel *channel, const char *why);
/* Says why it ends, unless that would be taken for the rest of a message, and waits for a moment
 * until the other side has read it. */
void channel_fail(struct channel *channel, const char *why);

/* After that it was said: whether the other side says the same, so that it has heard; within
 * @seconds, or until the channel's stop. */
bool channel_hear_failed(struct channel *channel, unsigned seconds);

/* Ends what this side says, and waits until the other side ends, too: a close with bytes unread
 * would cut off what was just said. At most @milliseconds. */
void channel_hear_out(struct channel *channel, unsigned milliseconds);

/* Waits until @fd is ready for @events (POLLIN, POLLOUT), at most @patience seconds (0: no limit);
 * -ECANCELED by @stop, -ETIMEDOUT. */
int channel_wait(int fd, short events, int stop, unsigned patience, struct error *err);

#endif
