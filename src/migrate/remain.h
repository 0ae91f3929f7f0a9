/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What remains of memory goes after a machine that runs at the target already: what it asks for at
 * once (serve.h), the rest on all streams, and over another line when one is cut. The source's
 * thread.
 */
#ifndef DUET_MIGRATE_REMAIN_H
#define DUET_MIGRATE_REMAIN_H

#include "migrate/serve.h"

/* The machine stands still: says what is to come, and answers to what is asked for from now on. */
int remain_begin(struct serve *serve, struct sweep *sweep, struct error *err);
/* It was given away; @cut: without an answer. SOURCE_MOVED, when all of it is there; SOURCE_TORN;
 * or SOURCE_STAYS: the other side says that it never ran there, and it has to be taken back. */
enum source_end remain_run(struct serve *serve, bool cut, struct error *err);
/* It stays, or has moved. In any case. */
void remain_end(struct serve *serve);

#endif
