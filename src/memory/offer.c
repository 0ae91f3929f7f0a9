/* SPDX-License-Identifier: Apache-2.0 */
/* Offering to KSM, and what the kernel tells of it in proc(5). */
#include "memory/offer.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* #syscalls main: fcntl(1 = F_DUPFD_CLOEXEC) lseek fcntl(1 = F_GETFL) newfstatat fstat read pread64
 * #syscalls main: close */

int memory_may_offer(const struct memory *memory, struct error *err)
{
	if (memory->pins)
		return error_set(err, EBUSY,
			"sharing: passed-through devices hold the guest's memory where it is; run "
			"it without --device vfio");
	for (unsigned i = 0; i < memory->count; i++)
		if (memory->regions[i].kind != MEMORY_ANONYMOUS)
			return error_set(err, ENOTSUP,
				"sharing: the guest's memory is a file's or another process's too, "
				"which KSM does not merge");
	return 0;
}

static int refused(int code, bool offered, struct error *err)
{
	if (code == ENOMEM || code == EAGAIN)
		return error_set(err, ENOSPC,
			"sharing: the host gives this process no more mappings; raise "
			"vm.max_map_count");
	if (code == EINVAL)
		return error_set(
			err, EINVAL, "sharing: the host's kernel has no KSM; it needs CONFIG_KSM");
	return error_errno(err, code, "sharing: guest memory %s",
		offered ? "cannot be offered" : "cannot be taken back");
}

int memory_offer(struct memory *memory, gpa_t gpa, uint64_t length, bool offered, struct error *err)
{
	void *host = memory_begin(memory, gpa, length);
	int ret = offered ? memory_may_offer(memory, err) : 0;

	if (ret < 0)
		return ret;
	if (!host || gpa.value % MEMORY_PAGE || length % MEMORY_PAGE)
		return error_set(err, EFAULT,
			"sharing: 0x%" PRIx64 ", 0x%" PRIx64 " bytes: no pages of the guest",
			gpa.value, length);
	if (madvise(host, length, offered ? MADV_MERGEABLE : MADV_UNMERGEABLE) < 0)
		return refused(errno, offered, err);
	return 0;
}

/* ---- what is in it ---- */

/* Of a mapping, as /proc/self/smaps tells it line by line. */
struct mapping {
	uint64_t gpa, length; /* bytes; 0: none of the guest's */
	uint64_t resident;
};

static int by_place(const void *key, const void *member)
{
	const uint64_t *gpa = key;
	const struct memory_part *part = member;

	if (*gpa < part->gpa)
		return -1;
	return *gpa - part->gpa < part->length ? 0 : 1;
}

/* "7f0000000000-7f0000200000 rw-p ..." */
static bool read_mapping(const struct memory *memory, const char *line, struct mapping *mapping)
{
	uint64_t start, end;
	gpa_t gpa;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) != 2)
		return false;
	*mapping = (struct mapping){0};
	if (end > start && memory_locate(memory, (void *)(uintptr_t)start, &gpa))
		*mapping = (struct mapping){.gpa = gpa.value, .length = end - start};
	return true;
}

/* A mapping begins and ends where a part does, as each was offered by itself. */
static void add(
	const struct mapping *mapping, uint64_t merged, struct memory_part *parts, unsigned count)
{
	struct memory_part *part = bsearch(&mapping->gpa, parts, count, sizeof(*parts), by_place);

	if (!mapping->length || !part)
		return;
	part->resident += mapping->resident;
	part->merged += merged;
}

void memory_proc_open(struct memory_proc *proc)
{
	proc->maps = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	proc->merging = open("/proc/self/ksm_merging_pages", O_RDONLY | O_CLOEXEC);
	proc->opened = true;
}

void memory_proc_close(struct memory_proc *proc)
{
	if (proc->opened && proc->maps >= 0)
		close(proc->maps);
	if (proc->opened && proc->merging >= 0)
		close(proc->merging);
	*proc = (struct memory_proc){0};
}

/* From its beginning, with a buffer that is new: what it held would be told again. */
static FILE *read_again(int fd)
{
	_cleanup_close_ int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *file = copy >= 0 && lseek(copy, 0, SEEK_SET) == 0 ? fdopen(copy, "r") : NULL;

	if (file)
		steal_fd(&copy);
	return file;
}

/* Whether the kernel tells what is merged. */
static bool read_parts(
	FILE *maps, const struct memory *memory, struct memory_part *parts, unsigned count)
{
	_cleanup_free_ char *line = NULL;
	struct mapping mapping = {0};
	bool tells = false;
	size_t room = 0;
	uint64_t kib;

	while (getline(&line, &room, maps) > 0) {
		if (read_mapping(memory, line, &mapping))
			continue;
		if (sscanf(line, "Rss: %" SCNu64 " kB", &kib) == 1)
			mapping.resident = kib * 1024;
		if (sscanf(line, "KSM: %" SCNu64 " kB", &kib) != 1)
			continue;
		tells = true;
		add(&mapping, kib * 1024, parts, count);
	}
	return tells;
}

int memory_look_into(const struct memory_proc *proc, const struct memory *memory,
	struct memory_part *parts, unsigned count)
{
	_cleanup_fclose_ FILE *maps = proc->opened ? read_again(proc->maps) : NULL;

	for (unsigned i = 0; i < count; i++)
		parts[i].resident = parts[i].merged = 0;
	return maps && read_parts(maps, memory, parts, count) ? 0 : -ENOTSUP;
}

int memory_merged(const struct memory_proc *proc, uint64_t *pages)
{
	char text[24] = "";

	if (!proc->opened || pread(proc->merging, text, sizeof(text) - 1, 0) <= 0)
		return -ENOTSUP;
	*pages = strtoull(text, NULL, 10);
	return 0;
}
