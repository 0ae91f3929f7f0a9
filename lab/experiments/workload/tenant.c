/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service with a working set: each request touches pages of it, drawn by chance and checked, and
 * reads on in a file, which its kernel keeps in memory for as long as there is room.
 */
#define _GNU_SOURCE
#include "tenant.h"
#include "pages.h"
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct tenant {
	uint64_t *memory;
	size_t pages, touches;
	uint64_t random;
	int file;
	void *buffer;
	size_t bytes;
};

/* Half of each page is as data that was compressed already: a host that swaps to compressed memory
 * gets no page for nothing. */
static void fill(struct tenant *tenant)
{
	const size_t words = PAGE / sizeof(uint64_t);

	for (size_t page = 0; page < tenant->pages; page++) {
		uint64_t *data = page_at(tenant->memory, page);

		for (size_t word = words / 2; word < words; word++)
			data[word] = draw(&tenant->random, UINT64_MAX) * 0x9e3779b97f4a7c15U;
		page_write(tenant->memory, page);
	}
}

static void open_file(struct tenant *tenant, const char *path)
{
	tenant->file = open(path, O_RDONLY | O_CLOEXEC);
	if (tenant->file < 0)
		fail(path);
	/* No more than a request asks for: else one of some pays for all. */
	errno = posix_fadvise(tenant->file, 0, 0, POSIX_FADV_RANDOM);
	if (errno)
		fail(path);
	tenant->buffer = malloc(tenant->bytes ? tenant->bytes : 1);
	if (!tenant->buffer)
		fail("memory");
}

/* At its end begins anew. */
static void read_on(const struct tenant *tenant)
{
	const ssize_t got = read(tenant->file, tenant->buffer, tenant->bytes);

	if (got < 0 || (got == 0 && tenant->bytes && lseek(tenant->file, 0, SEEK_SET) < 0))
		fail("the file");
}

static void answer(struct tenant *tenant, int udp)
{
	struct tenant_message message;
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);

	if (recvfrom(udp, &message, sizeof(message), 0, (struct sockaddr *)&from, &length) !=
		sizeof(message))
		return;
	message.wrong = (uint32_t)pages_touch(
		tenant->memory, tenant->pages, tenant->touches, &tenant->random);
	read_on(tenant);
	/* Nobody to send it to is no reason to end. */
	sendto(udp, &message, sizeof(message), 0, (const struct sockaddr *)&from, length);
}

int tenant(char **args)
{
	struct tenant state = {.pages = PAGES(number(args[3])),
		.touches = number(args[4]),
		.random = 1,
		.bytes = number(args[5])};
	int udp;

	errno = EINVAL;
	if (!state.pages)
		fail(args[3]);
	state.memory = pages_new(state.pages);
	fill(&state);
	open_file(&state, args[2]);
	udp = listening(args, SOCK_DGRAM);
	puts("{\"serving\": true}");
	fflush(stdout);
	for (;;)
		answer(&state, udp);
}
