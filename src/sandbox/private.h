/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef DUET_SANDBOX_PRIVATE_H
#define DUET_SANDBOX_PRIVATE_H

#include "base/thread.h"
#include "sandbox/sandbox.h"

#include <stdint.h>

/* filter.c */
/* The kernel has what filters need. */
bool filter_is_there(void);
/* On the calling thread, which has no new privileges. 0 or -errno. */
int filter_load(enum thread_kind kind);
/* Never null. */
const char *filter_call_name(int number);

/* violation.c */
/* A call that a filter refuses ends the process, with a line on who called what. */
int violation_watch(void);
/* Of the calling thread; before its filter is loaded. */
void violation_of(enum thread_kind kind);

/* landlock.c */
/* The ABI's version; 0: there is none. */
int landlock_version(void);
/* From this version on abstract sockets are scoped. */
#define LANDLOCK_TCP    4
#define LANDLOCK_SCOPES 6
int landlock_enter(int version, const struct sandbox_options *options, struct error *err);

/* privileges.c */
/* No network but what is open. 0 or -errno. */
int privileges_leave_network(void);
/* As @options say; capabilities stay until privileges_drop(). */
int privileges_become(const struct sandbox_options *options);
/* None of the owner's but those that @options and the main thread need. */
int privileges_drop(const struct sandbox_options *options);
/* What the main thread alone needs. */
int privileges_drop_main(void);

#endif
