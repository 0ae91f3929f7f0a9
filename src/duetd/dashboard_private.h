/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DUET_DUETD_DASHBOARD_PRIVATE_H
#define DUET_DUETD_DASHBOARD_PRIVATE_H

#include "duetd/dashboard.h"
#include "http/exchange.h"

#define DASHBOARD_SECRET 32 /* characters */

/* page/embed.py makes them of page/dashboard.html. */
extern const char dashboard_page[];
extern const char dashboard_policy[];

/* dashboard_ask.c: questions to duetd, each answered in its time. */
struct asking;

struct asking *asking_new(struct loop *loop, const char *socket);
/* Those under way are answered that it ends. Null is allowed. */
void asking_free(struct asking *asking);
/* @path: a constant, "/vms". */
void asking_pass(struct asking *asking, const char *path, struct exchange *exchange);
/* {"fault_message": ...} */
void asking_refuse(struct exchange *exchange, unsigned status, const char *why);

#endif
