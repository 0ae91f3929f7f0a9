/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle's config.json, of the OCI runtime specification 1.x, and what it means for a container
 * in a VM. Whatever a VM cannot give is refused, with the reason, while it is read; what it need
 * not give because the guest's kernel is the container's own (seccomp, labels of AppArmor and
 * SELinux, the host's cgroup rules for devices) is passed over. Nothing here looks at a file.
 * Pure; main thread.
 */
#ifndef DUET_OCI_BUNDLE_H
#define DUET_OCI_BUNDLE_H

#include "base/error.h"
#include "oci/setup.h"

#include <stddef.h>

#define BUNDLE_CONFIG_MAX (16U << 20)

enum hook_kind {
	HOOK_PRESTART,
	HOOK_CREATE_RUNTIME,
	HOOK_POSTSTART,
	HOOK_POSTSTOP,
	HOOK_KINDS,
};

struct hook {
	char *path;
	struct texts args, env;
	uint32_t timeout; /* seconds; 0: none */
};

struct hooks {
	struct hook *items;
	size_t count;
};

/* What the host limits; 0 and null: not said. */
struct resources {
	int64_t cpu_quota;
	uint64_t cpu_period, cpu_shares;
	char *cpus;
};

struct bundle {
	char *version; /* ociVersion */
	char *root;    /* as it stands there, perhaps relative */
	struct setup setup;
	struct hooks hooks[HOOK_KINDS];
	struct texts annotations; /* name, value, name, value ... */
	char *network;            /* the namespace's file; null: one of its own */
	char *cgroup;
	struct resources resources;
	/* Of the annotations org.duet.memory and org.duet.cpus; 0: not said. */
	uint64_t machine_memory, machine_cpus;
};

/* @bundle is zero-initialised, and to be freed whatever this returns. */
int bundle_parse(struct bundle *bundle, const char *text, size_t length, struct error *err);
void bundle_free(struct bundle *bundle);

/* What exec --process has; @process likewise. */
int process_parse(struct process *process, const char *text, size_t length, struct error *err);

#endif
