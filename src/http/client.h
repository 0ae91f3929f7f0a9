/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to an HTTP/1.1 server on a unix socket, and its answer. Nothing here waits, but for
 * http_question_wait() and http_question_finish(): whoever asks watches the descriptor (poll(2), a
 * loop's watch) and sets the limit on time. What the server sends is checked: an answer that is too
 * large, cut off, crumbled, or none at all is an error. A question belongs to the thread that asks.
 */
#ifndef DUET_HTTP_CLIENT_H
#define DUET_HTTP_CLIENT_H

#include "base/error.h"

#include <stddef.h>

struct http_question;

struct http_ask {
	const char *socket; /* where the server listens */
	const char *method; /* "GET" */
	const char *path;   /* "/machine-config" */
	const char *body;   /* null: none */
	size_t answer_max;  /* bytes of head and body together; more is -EMSGSIZE */
};

struct http_answer {
	unsigned status;  /* 200 */
	const char *body; /* the question's, until it is closed; null-terminated */
	size_t length;    /* of the body, which may hold nulls */
};

/* Connects; @ask and its texts need not stay. -EAGAIN: the server's queue is full now. Messages
 * name the socket. */
int http_question_open(
	struct http_question **question, const struct http_ask *ask, struct error *err);
int http_question_fd(const struct http_question *question);
/* POLLIN or POLLOUT: what it waits for. */
short http_question_events(const struct http_question *question);
/* To be called when the descriptor is ready. 1: more is to come; 0: @answer is there; negative: it
 * never will be, -EBADMSG for one that is no answer. */
int http_question_go_on(
	struct http_question *question, struct http_answer *answer, struct error *err);
/* For who has nothing else to do: waits until it is ready, at most @patience_ms, and goes on. As
 * above, and -ETIMEDOUT when nothing came in that time. */
int http_question_wait(struct http_question *question, unsigned patience_ms,
	struct http_answer *answer, struct error *err);
/* The same until the answer is there: 0 or negative. */
int http_question_finish(struct http_question *question, unsigned patience_ms,
	struct http_answer *answer, struct error *err);
/* Null is allowed. */
void http_question_close(struct http_question *question);

#endif
