/* SPDX-License-Identifier: Apache-2.0 */
/* On which of the host's nodes pages are. */
#include "memory/memory.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* #syscalls main: move_pages(0 = 0) */

/* The kernel takes one bit less than it is told of. */
#define NODES_TOLD 65

int memory_prefer(struct memory *memory, gpa_t gpa, uint64_t length, unsigned node)
{
	const uint64_t nodes = 1ULL << node;
	void *host = memory_begin(memory, gpa, length);

	if (!host)
		return -EFAULT;
	return syscall(SYS_mbind, host, length, MPOL_PREFERRED, &nodes, NODES_TOLD, 0) < 0 ? -errno
											   : 0;
}

static void find_hosts(
	const struct memory *memory, const gpa_t *pages, void **hosts, unsigned count)
{
	/* Where there is no memory nothing is mapped at null either, and the kernel says so. */
	for (unsigned i = 0; i < count; i++)
		hosts[i] = memory_begin(memory, pages[i], MEMORY_PAGE);
}

static int move_pages(void **hosts, const int *to, int *status, unsigned count)
{
	if (syscall(SYS_move_pages, 0, (unsigned long)count, hosts, to, status, MPOL_MF_MOVE) < 0)
		return -errno;
	return 0;
}

int memory_nodes(const struct memory *memory, const gpa_t *pages, int *nodes, unsigned count)
{
	void *hosts[MEMORY_PLACE_MAX];

	if (count > MEMORY_PLACE_MAX)
		return -EINVAL;
	find_hosts(memory, pages, hosts, count);
	return move_pages(hosts, NULL, nodes, count);
}

int memory_move(const struct memory *memory, const gpa_t *pages, int *nodes, unsigned count)
{
	void *hosts[MEMORY_PLACE_MAX];
	int status[MEMORY_PLACE_MAX], ret;

	if (count > MEMORY_PLACE_MAX)
		return -EINVAL;
	if (memory->pins)
		return -EBUSY;
	/* Those that the kernel does not come to keep it. */
	for (unsigned i = 0; i < count; i++)
		status[i] = -ECANCELED;
	find_hosts(memory, pages, hosts, count);
	ret = move_pages(hosts, nodes, status, count);
	if (ret == 0)
		memcpy(nodes, status, count * sizeof(*nodes));
	return ret;
}
