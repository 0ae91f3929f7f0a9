/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/footprint.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* #syscalls main: fcntl(1 = F_DUPFD_CLOEXEC) lseek fcntl(1 = F_GETFL) newfstatat fstat read */

bool footprint_is_guest(const struct memory *memory, unsigned long start)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(memory, i)); i++) {
		unsigned long host = (unsigned long)region->mapped_at;

		if (start >= host && start - host < region->size)
			return true;
	}
	return false;
}

int footprint_open(void)
{
	return open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
}

/* From its beginning. */
static FILE *read_again(int fd)
{
	_cleanup_close_ int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *maps = copy >= 0 && lseek(copy, 0, SEEK_SET) == 0 ? fdopen(copy, "r") : NULL;

	if (maps)
		steal_fd(&copy);
	return maps;
}

int footprint_read(int fd, const struct memory *memory, struct footprint *footprint)
{
	_cleanup_fclose_ FILE *maps = read_again(fd);
	bool guest = false;
	char line[512];

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, kib;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			guest = footprint_is_guest(memory, start);
		else if (sscanf(line, "Pss: %lu kB", &kib) == 1)
			*(guest ? &footprint->guest_pss : &footprint->outside_pss) += kib * 1024;
		else if (guest)
			continue;
		else if (sscanf(line, "Rss: %lu kB", &kib) == 1)
			footprint->outside_rss += kib * 1024;
	}
	return 0;
}

#define LOOK_PAGES 256

/* From the kernel's map of this process's pages: this one holds what is in the file. */
static bool is_of_file(uint64_t entry)
{
	return (entry >> 63 & 1) && (entry >> 61 & 1);
}

/* Read-only since the program's start: pages that were not relocated then are the file's. Most are
 * tables of the library for TLS. */
static void give_back_relocated(
	const struct dl_phdr_info *object, const ElfW(Phdr) * part, uintptr_t page)
{
	const uintptr_t first = (object->dlpi_addr + part->p_vaddr + page - 1) / page;
	const uintptr_t last = (object->dlpi_addr + part->p_vaddr + part->p_memsz) / page;
	_cleanup_close_ int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entries[LOOK_PAGES];

	for (uintptr_t at = first; map >= 0 && at < last; at += LOOK_PAGES) {
		const size_t count = min_u64(last - at, LOOK_PAGES),
			     size = count * sizeof(*entries);

		if (pread(map, entries, size, (off_t)(at * sizeof(*entries))) != (ssize_t)size)
			return;
		for (size_t i = 0; i < count; i++)
			if (is_of_file(entries[i]))
				madvise((void *)((at + i) * page), page, MADV_DONTNEED);
	}
}

static int give_back_tables(struct dl_phdr_info *object, size_t size, void *opaque)
{
	(void)size;
	for (unsigned i = 0; i < object->dlpi_phnum; i++)
		if (object->dlpi_phdr[i].p_type == PT_GNU_RELRO)
			give_back_relocated(
				object, &object->dlpi_phdr[i], *(const uintptr_t *)opaque);
	return 0;
}

/* Only whole pages that are never written: what they hold is in the file. */
static int give_back(struct dl_phdr_info *object, size_t size, void *opaque)
{
	const uintptr_t page = *(const uintptr_t *)opaque;

	(void)size;
	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &object->dlpi_phdr[i];
		const uintptr_t first = object->dlpi_addr + part->p_vaddr + page - 1;
		const uintptr_t last = object->dlpi_addr + part->p_vaddr + part->p_memsz;

		if (part->p_type == PT_LOAD && !(part->p_flags & PF_W) &&
			last / page > first / page)
			madvise((void *)(first / page * page), (last / page - first / page) * page,
				MADV_DONTNEED);
	}
	return 0;
}

/* Unpackers, loaders and the tables of options are most of the program. */
void footprint_trim(void)
{
	/* Asked first: what is called once pages have gone brings others back. */
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	malloc_trim(0);
	dl_iterate_phdr(give_back_tables, &page);
	dl_iterate_phdr(give_back, &page);
}
