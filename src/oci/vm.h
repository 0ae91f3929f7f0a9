/* SPDX-License-Identifier: Apache-2.0 */
/* The container's machine: an ordinary `duet run` with a configuration of ours, as a child of the
 * keeper's, which it does not outlive. Main thread. */
#ifndef DUET_OCI_VM_H
#define DUET_OCI_VM_H

#include "base/error.h"
#include "oci/bundle.h"
#include "oci/settings.h"

#include <stdbool.h>
#include <sys/types.h>

#define VM_CONFIG "machine.json" /* in the container's folder */
#define VM_API    "api"
#define VM_WORDS  512

struct vm_parts {
	const char *kernel, *initrd, *image, *cache;
	uint64_t memory;
	uint64_t cpus;
	const struct setup *setup; /* its links */
};

/* How much of the host the bundle's machine is to have. */
void vm_size(const struct bundle *bundle, unsigned host_cpus, uint64_t *memory, uint64_t *cpus);
/* What duet run --config takes; malloc()ed, null: no memory. */
char *vm_config(const struct vm_parts *parts);

struct vm {
	pid_t pid;
	int console;          /* what it says, its guest's console too; -1: the end */
	char words[VM_WORDS]; /* the last of it */
};

/* In the folder @dir, whose VM_CONFIG it runs. */
int vm_start(struct vm *machine, const struct settings *settings, int dir, struct error *err);
/* What it has said meanwhile. False: the end. Nothing of it is kept but the last words. */
bool vm_hear(struct vm *machine);
/* Its last line, for an error. */
const char *vm_last_words(struct vm *machine);
/* At once. @status: waitpid's. */
void vm_end(struct vm *machine, int *status);

#endif
