/* SPDX-License-Identifier: Apache-2.0 */
/* On which of the host's nodes pages are. */
#include "memory/memory.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

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
