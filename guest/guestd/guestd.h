/* SPDX-License-Identifier: Apache-2.0 */
/*
 * duet-guestd answers the host's wishes with what a module cannot see: which pages the guest's
 * programs are made of, and which memory the threads of each vCPU use. One thread; all as root.
 */
#ifndef DUET_GUESTD_H
#define DUET_GUESTD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE 4096

/* Where runs go: to /dev/duet, or as text to standard output. */
struct answer {
	int device; /* -1: print */
	uint32_t function;
	uint32_t number;
};

struct run {
	uint64_t address; /* guest-physical */
	uint64_t pages;
	uint32_t vcpu; /* APIC id; of locality alone */
	uint32_t seen; /* the same */
};

/* answer.c. Buffered; false: the host takes no more of this answer, or no answers. */
bool answer_run(const struct answer *answer, const struct run *run);
/* Sends what is buffered and the end, also behind runs that were refused. */
bool answer_end(const struct answer *answer);

/* proc.c. Each calls @visit with @context for what it finds; false from it ends the walk. */
bool each_process(bool (*visit)(void *context, pid_t pid), void *context);
bool each_thread(pid_t pid, bool (*visit)(void *context, pid_t tid), void *context);

struct mapping {
	uint64_t start, end;
	bool readable, writable, executable;
	bool file;           /* of one, and not of memory or a device by name */
	uint64_t resident;   /* bytes; 0 unless asked for @sizes */
	uint64_t referenced; /* since references were last cleared; the same */
};
/* @sizes: also the last two, which takes the kernel a walk over the page tables. */
bool each_mapping(pid_t pid, bool sizes,
	bool (*visit)(void *context, const struct mapping *mapping), void *context);

/* Of /proc/iomem: regions with exactly this name. */
bool each_region(const char *name, bool (*visit)(void *context, uint64_t start, uint64_t end),
	void *context);

/* pagemap.c. */
#define PAGEMAP_PRESENT    (1ULL << 63)
#define PAGEMAP_SOFT_DIRTY (1ULL << 55)
#define PAGEMAP_FRAME(e)   ((e) & ((1ULL << 55) - 1))
int pagemap_open(pid_t pid);
/* Pages that a survey still looks at, of the process that is at it and of all: who maps far more
 * than there is memory, which costs him nothing, is not looked at to the end. */
struct patience {
	uint64_t process, all;
};
void patience_begin(struct patience *patience, size_t frames);
void patience_next_process(struct patience *patience, size_t frames);
/* Calls @visit with the entry of each page of @mapping; false: the patience is at its end. */
bool each_page(int pagemap, const struct mapping *mapping, struct patience *patience,
	void (*visit)(void *context, uint64_t entry), void *context);
/* The number of frames of 4 KiB of the guest's memory, holes counted; 0 when it cannot be known. */
size_t frames(void);

/* share.c, locality.c: false after a line on standard error. */
bool share(const struct answer *answer);
bool locality(const struct answer *answer);

#endif
