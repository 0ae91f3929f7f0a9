/* SPDX-License-Identifier: Apache-2.0 */
/* One request of a running machine's API and its answer, for the verbs of duet ctl that ask more
 * than once. */
#ifndef DUET_CLI_CTL_ASK_H
#define DUET_CLI_CTL_ASK_H

#include "base/error.h"
#include "http/client.h"

#include <jansson.h>

/* Why it was refused: of @body, the answer's JSON or null, else of its text, which may have several
 * lines. As long as both. */
const char *ctl_why(const json_t *body, const struct http_answer *answer);

/* @body may be null. @answer may be null where none is wanted; else *@answer is JSON and the
 * caller's. -EPROTO: refused, in the machine's words; others: nobody answers. */
int ctl_ask(const char *socket, const char *method, const char *path, const char *body,
	json_t **answer, struct error *err);

#endif
