/* SPDX-License-Identifier: GPL-2.0-only */
/* What main.c, call.c, requests.c, wishes.c and selftest.c share; the other parts need none of it. */
#ifndef DUET_MODULE_CORE_H
#define DUET_MODULE_CORE_H

#include "duet.h"

extern const struct duet_part duet_wishes;

/* requests.c. The queue's callback; and what the ring still holds fails with -ENODEV, when the
 * device has been reset and nothing new can come. */
void duet_requests_done(struct virtqueue *vq);
void duet_requests_fail(struct duet *duet);
/* As duet_request(), by the queue in any case. */
int duet_request_queued(struct duet *duet, const struct duet_coop_request *requests,
			struct duet_coop_answer *answers, unsigned int count);

/* wishes.c. The queue's callback; all buffers to the device, when the queue is fresh; and back. */
void duet_events_done(struct virtqueue *vq);
void duet_events_fill(struct duet *duet);
void duet_events_drop(struct duet *duet);

/* selftest.c. Of the channel itself. */
int duet_selftest(struct duet *duet);

#endif
