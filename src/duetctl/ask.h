/* SPDX-License-Identifier: Apache-2.0 */
/* One question to duetd, waited for. Any thread. */
#ifndef DUET_DUETCTL_ASK_H
#define DUET_DUETCTL_ASK_H

#include "base/error.h"

#include <jansson.h>

/* Null: @err says why, or what duetd said against it. An answer without a body is null's JSON. */
json_t *ask(const char *socket, const char *method, const char *path, const char *body,
	struct error *err);

#endif
