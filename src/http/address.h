/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of the loopback interface, as people write them. Any thread. */
#ifndef DUET_HTTP_ADDRESS_H
#define DUET_HTTP_ADDRESS_H

#include "base/error.h"

#include <sys/socket.h>

/* "127.0.0.1:8080", "[::1]:8080", "localhost:0" (a port of the kernel's choice). Others than the
 * loopback interface's are refused: -EINVAL, with @option in the message. Returns the length. */
int http_address_parse(
	const char *text, const char *option, struct sockaddr_storage *address, struct error *err);
/* Host and port of a listening socket as they stand in an URL: "127.0.0.1:8080". */
int http_address_of(int fd, char *text, size_t room, struct error *err);

#endif
