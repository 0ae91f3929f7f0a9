/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of a namespace that an engine made, as the guest's: each of its cards gets a tap
 * beside it, and what comes in at one of the two goes out at the other (tc's redirection), so that
 * the guest is behind the engine's card with that card's address. Functions work in the namespace
 * that the process is in. Main thread.
 */
#ifndef DUET_OCI_NET_H
#define DUET_OCI_NET_H

#include "base/error.h"
#include "oci/setup.h"

/* "duet0": the tap of link @number. */
#define NET_TAP "duet%u"

/* Makes this process one of the namespace @path; null: of a new one. */
int net_enter(const char *path, struct error *err);
/* The cards with their addresses and routes, into @setup, and a tap for each; all or none. -EBUSY:
 * another machine has them. */
int net_join(struct setup *setup, struct error *err);
/* After that: the taps go, and what joins them. */
void net_part(void);

#endif
