/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page with the host as a picture, for a browser on this host: `duetd dashboard`. A process of
 * its own, so that duetd itself has no network. It asks duetd what the page shows, and tells it
 * nothing.
 *
 * Who can connect is not who may look: the page is behind a secret, which stands in its address,
 * and a request's host is to be the one that it listens at (else a page of another site could have
 * its own name resolved to this address). Main thread.
 */
#ifndef DUET_DUETD_DASHBOARD_H
#define DUET_DUETD_DASHBOARD_H

#include "base/error.h"
#include "base/loop.h"

struct dashboard;

struct dashboard_options {
	const char *address; /* of the loopback interface: "127.0.0.1:8478" */
	const char *socket;  /* duetd's */
};

int dashboard_open(struct dashboard **dashboard, struct loop *loop,
	const struct dashboard_options *options, struct error *err);
/* "http://127.0.0.1:8478/SECRET/" */
const char *dashboard_url(const struct dashboard *dashboard);
/* The loop gives its memory back in its next round. Null is allowed. */
void dashboard_close(struct dashboard *dashboard);

#endif
