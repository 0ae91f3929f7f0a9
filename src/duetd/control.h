/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What duetd answers on its own socket, for duetctl and Prometheus (docs/duetd.md lists it). Main
 * thread.
 */
#ifndef DUET_DUETD_CONTROL_H
#define DUET_DUETD_CONTROL_H

#include "duetd/manager.h"
#include "http/exchange.h"

/* @manager: a struct manager; answers at once. */
void control_handle(void *manager, const struct request *request, struct exchange *exchange);
/* All metrics in Prometheus' text format, to be freed; null: no memory. */
char *control_metrics(const struct manager *manager);

#endif
