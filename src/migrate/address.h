/* SPDX-License-Identifier: Apache-2.0 */
/* Where the target listens: "tcp:HOST:PORT" ("tcp:[::1]:4000" too) or "unix:PATH". Any thread; all
 * descriptors are non-blocking and closed on exec. */
#ifndef DUET_MIGRATE_ADDRESS_H
#define DUET_MIGRATE_ADDRESS_H

#include "base/error.h"
#include "base/socket_file.h"

#include <stdbool.h>
#include <sys/un.h>

struct address {
	const char *text; /* as it was given; the caller's */
	bool is_unix;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char host[256], port[16];
	struct socket_file file; /* of one that is listened at */
};

/* -EINVAL. @what begins the message: "--incoming". */
int address_parse(struct address *address, const char *text, const char *what, struct error *err);
/* Nobody but this host reads what goes there. */
bool address_is_local(const struct address *address);
/* @stop as in channel.h. */
int address_connect(const struct address *address, int stop, struct error *err);
/* @address stays where it is until address_close(). */
int address_listen(struct address *address, struct error *err);
/* The next connection; waits @patience seconds, 0: as long as it takes. */
int address_accept(int listening, int stop, unsigned patience, struct error *err);
/* Takes the listening socket away, and its file. */
void address_close(struct address *address, int listening);

#endif
