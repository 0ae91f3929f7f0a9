/* SPDX-License-Identifier: Apache-2.0 */
/* Tap interfaces for tests, and the host's side of them. */
#ifndef DUET_TESTS_TAP_RIG_H
#define DUET_TESTS_TAP_RIG_H

#include <stdbool.h>

#define TAP_RIG_ETHERTYPE   0x88b5 /* for local experiments */
#define TAP_RIG_PATIENCE_MS 20000

/* Moves this process into a network namespace of its own, so that what it makes goes away with it.
 * False without root. */
bool tap_rig_namespace(void);
/* A persistent tap that is up; @flags as IFF_MULTI_QUEUE. */
bool tap_rig_make(const char *ifname, int flags, int mtu);
/* Waits after a tap was opened: the kernel drops frames until its link is up. False after
 * TAP_RIG_PATIENCE_MS. */
bool tap_rig_await_link(const char *ifname);
/* A raw socket on the host's side, for frames of TAP_RIG_ETHERTYPE. */
int tap_rig_socket(const char *ifname);
/* Whether the interface may give its reader segments (TSO4) as the last TUNSETOFFLOAD said. */
bool tap_rig_segments(const char *ifname);
unsigned tap_rig_index(const char *ifname); /* 0: there is none */

#endif
