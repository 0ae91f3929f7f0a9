/* SPDX-License-Identifier: Apache-2.0 */
#include "http/address.h"
#include "base/numbers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int take_v4(const char *host, uint16_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;

	v4->sin_family = AF_INET;
	v4->sin_port = htons(port);
	if (inet_pton(AF_INET, host, &v4->sin_addr) != 1 ||
		ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
		return -EINVAL;
	return sizeof(*v4);
}

static int take_v6(const char *host, uint16_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1 || !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
		return -EINVAL;
	return sizeof(*v6);
}

/* "[::1]" without its brackets. */
static bool is_bracketed(char *host)
{
	const size_t length = strlen(host);

	if (length < 2 || host[0] != '[' || host[length - 1] != ']')
		return false;
	memmove(host, host + 1, length - 2);
	host[length - 2] = 0;
	return true;
}

int http_address_parse(
	const char *text, const char *option, struct sockaddr_storage *address, struct error *err)
{
	const char *colon = strrchr(text, ':');
	char host[64] = "";
	uint64_t port = 0;
	int ret = -EINVAL;

	*address = (struct sockaddr_storage){0};
	if (colon && (size_t)(colon - text) < sizeof(host)) {
		memcpy(host, text, (size_t)(colon - text));
		if (parse_number(colon + 1, 0, UINT16_MAX, &port) == 0)
			ret = is_bracketed(host)
				      ? take_v6(host, (uint16_t)port, address)
				      : take_v4(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host,
						(uint16_t)port, address);
	}
	if (ret > 0)
		return ret;
	return error_set(err, EINVAL,
		"%s %s: only an address of this host's loopback interface and a port, as "
		"127.0.0.1:8478 or [::1]:8478; from elsewhere come by ssh -L",
		option, text);
}

int http_address_of(int fd, char *text, size_t room, struct error *err)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address;
	socklen_t length = sizeof(address);
	char host[INET6_ADDRSTRLEN];

	memset(&address, 0, sizeof(address));
	if (getsockname(fd, &address.any, &length) < 0)
		return error_errno(err, errno, "the address");
	if (address.any.sa_family == AF_INET6 &&
		inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof(host)))
		snprintf(text, room, "[%s]:%u", host, ntohs(address.v6.sin6_port));
	else if (inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof(host)))
		snprintf(text, room, "%s:%u", host, ntohs(address.v4.sin_port));
	else
		return error_errno(err, errno, "the address");
	return 0;
}
