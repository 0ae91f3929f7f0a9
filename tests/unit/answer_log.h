/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the API was asked and answered, for tests/unit/answers.py, which holds it against
 * docs/openapi.json: a line of JSON for each, in a file named after this program in the folder
 * $DUET_ANSWERS; nothing without that. One thread at a time.
 */
#ifndef DUET_TESTS_ANSWER_LOG_H
#define DUET_TESTS_ANSWER_LOG_H

#include "http/exchange.h"

#include <jansson.h>

/* @type and @body as struct exchange has them; null: none. */
void answer_log(const struct request *request, unsigned status, const char *type, const char *body);
/* Any other line; it is freed. */
void answer_log_line(json_t *line);

#endif
