/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was decided of late, and why: the last DECISIONS_MAX, for people (GET /decisions). One that
 * goes on for the same reason is one of them with a number of times, so that a guest on its way of
 * many steps does not push out all others. Main thread.
 */
#ifndef DUET_DUETD_DECISIONS_H
#define DUET_DUETD_DECISIONS_H

#include "duetd/policy.h"

#define DECISIONS_MAX 256

struct decision {
	int64_t first, last; /* ms since 1970, by the host's clock, which may jump */
	unsigned times;
	enum mechanism mechanism; /* MECHANISMS: of none */
	enum reason reason;
	char vm[VIEW_NAME_MAX]; /* "": of all */
	char words[256];        /* the last time's */
};

struct decisions;

/* Null: no memory. */
struct decisions *decisions_new(void);
/* Null is allowed. */
void decisions_free(struct decisions *decisions);
/* What @plan changes since the last call is noted. */
void decisions_take(struct decisions *decisions, const struct view *view, const struct plan *plan);
/* What somebody decided, for all VMs: another policy. */
void decisions_note(struct decisions *decisions, enum mechanism mechanism, const char *words);
/* The @nth, 0 being what was first noted last; null behind them. Valid until the next is noted. */
const struct decision *decisions_nth(const struct decisions *decisions, unsigned nth);

#endif
