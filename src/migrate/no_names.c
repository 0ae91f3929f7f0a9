/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's library can look up names and load plug-ins, and with it a statically linked duet would
 * get the C library's parts for that, which want shared libraries of the very same version. Neither
 * is ever asked for: addresses are numbers (address.c), and there are no plug-ins. Linked in static
 * programs alone.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>

int getaddrinfo(const char *restrict node, const char *restrict service,
	const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
	return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *found)
{
}

const char *gai_strerror(int code)
{
	return "names are not looked up";
}

int getnameinfo(const struct sockaddr *restrict address, socklen_t size, char *restrict host,
	socklen_t host_size, char *restrict service, socklen_t service_size, int flags)
{
	return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name)
{
	return NULL;
}

void *dlopen(const char *file, int mode)
{
	return NULL;
}

int dlclose(void *handle)
{
	return -1;
}

void *dlsym(void *restrict handle, const char *restrict name)
{
	return NULL;
}

char *dlerror(void)
{
	static char text[] = "there are no plug-ins";

	return text;
}

int dladdr(const void *address, Dl_info *info)
{
	return 0;
}
