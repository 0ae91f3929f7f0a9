/* SPDX-License-Identifier: Apache-2.0 */
/* One request of the API and its answer, whoever carries them (http/server.h; a test). Main thread.
 */
#ifndef DUET_HTTP_EXCHANGE_H
#define DUET_HTTP_EXCHANGE_H

#include <stddef.h>

/* Lives until the call that it is handed to returns. */
struct request {
	const char *method; /* "GET" */
	const char *path;   /* "/machine-config": as it came, without a query */
	const char *host;   /* whom the client believes to ask; null: it did not say */
	const char *body;   /* null-terminated; empty when there is none */
	size_t length;
};

/* Lives until it was answered, exactly once: at once, or later from the loop. A client that is gone
 * by then is no matter of the one who answers. */
struct exchange {
	/* @type: of the body, a constant; @body: taken over, to be freed by free(); null: none. */
	void (*answer)(struct exchange *exchange, unsigned status, const char *type, char *body);
};

#define EXCHANGE_JSON "application/json"
#define EXCHANGE_TEXT "text/plain; version=0.0.4" /* Prometheus' exposition format */

#endif
