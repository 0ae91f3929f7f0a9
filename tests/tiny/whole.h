/* SPDX-License-Identifier: Apache-2.0 */
/* Whole machines, with all that machine/ makes of a configuration, and a kernel of a few bytes or
 * none. Needs /dev/kvm. One thread: its loop is the machines' control thread. What fails ends the
 * program. */
#ifndef DUET_TESTS_WHOLE_H
#define DUET_TESTS_WHOLE_H

#include "base/log.h"
#include "machine/machine.h"

extern struct loop *whole_loop;

/* False: there is no KVM, and it was said. */
bool whole_open(void);
void whole_close(void);

/* 16 MiB, two vCPUs, that kernel. The caller may add to it before whole_new() takes it. */
void whole_config(struct machine_config *config, const char *kernel);
/* Built, with its kernel or without (@bare). @config is freed. */
struct machine *whole_new(
	struct machine_config *config, const struct machine_owner *owner, bool bare);
/* Runs the loop until @done, called now and then, says so. */
void whole_run_until(bool (*done)(void *opaque), void *opaque);
/* Ends one that was started, with all patience: a machine that does not come to rest fails the
 * test, a slow host does not. */
void whole_end(struct machine *machine);
uint64_t whole_resets(struct machine *machine);

/* Where a guest of whole_kernel() has its code. */
#define WHOLE_KERNEL 0x200000U

/* A file with a vmlinux whose first instructions, in 32-bit protected mode, are @code; at most a
 * page of them. @path: a template of mkstemp(). */
void whole_kernel(char *path, const void *code, size_t length);

/* Such code: waits for an interrupt, again and again. */
extern const uint8_t whole_halting[3];

#endif
