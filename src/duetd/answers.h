/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM answers, taken apart: a hostile one may say anything. Numbers are kept within what the
 * view's members mean (a working set within the guest's memory, a burst within a second, a count of
 * threads within 2^20), so that no policy has to. Any thread.
 */
#ifndef DUET_DUETD_ANSWERS_H
#define DUET_DUETD_ANSWERS_H

#include "base/error.h"
#include "duetd/view.h"

#include <sys/types.h>

/* Counters that a rate is made of. */
struct answer_counters {
	uint64_t swap_in, swap_out, major_faults, refaults;
};

struct answer {
	struct vm_view view; /* name, host's part and rates are not filled in */
	struct answer_counters counters;
	bool running;  /* not paused, not starting */
	bool says_own; /* an older duet does not */
	uint64_t own;  /* bytes that are in the balloon when no lease says otherwise */
	pid_t threads[VIEW_VCPUS_MAX];
};

/* @text: the body of GET /duet/brief, null-terminated. -EBADMSG: it is none; @err says what. */
int answer_read(struct answer *answer, const char *text, struct error *err);
/* Rates of @now from what was counted @span ns before; a counter that went back counts from 0. */
void answer_rates(struct answer *now, const struct answer_counters *before, uint64_t span);

#endif
