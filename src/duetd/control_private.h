/* SPDX-License-Identifier: Apache-2.0 */
/* What the files share that answer on duetd's own socket. Main thread. */
#ifndef DUET_DUETD_CONTROL_PRIVATE_H
#define DUET_DUETD_CONTROL_PRIVATE_H

#include "duetd/control.h"

#include <jansson.h>

/* @json is taken over; null is no memory. */
void control_answer(struct exchange *exchange, unsigned status, json_t *json);
/* {"fault_message": @why} */
void control_refuse(struct exchange *exchange, unsigned status, const char *why);

/* control_decisions.c */
void control_get_decisions(
	struct manager *manager, const struct request *request, struct exchange *exchange);

/* control_units.c: what answers later, when a program has ended. */
void control_get_machines(
	struct manager *manager, const struct request *request, struct exchange *exchange);
void control_put_machine(
	struct manager *manager, const struct request *request, struct exchange *exchange);

#endif
