/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces of demand (docs/duetd-trace.md): a host, and VMs whose working sets change over time. Any
 * thread, each its own trace.
 */
#ifndef DUET_DUETD_TRACE_H
#define DUET_DUETD_TRACE_H

#include "base/error.h"
#include "duetd/view.h"

#include <stdio.h>

#define TRACE_VMS_MAX     100000
#define TRACE_SECONDS_MAX 86400

struct trace_point {
	double second, mib;
};

struct trace_vm {
	char name[VIEW_NAME_MAX];
	double memory_mib;
	double touches; /* pages of its working set that it comes back to in a second */
	double reads;   /* pages of files a second, each read once */
	double claims;  /* MiB that it says its working set has, whatever it is; 0: it tells the
			   truth */
	uint32_t share;
	unsigned vcpus;
	bool hints, balloon;
	struct trace_point *points; /* later ones after earlier ones, at least one */
	unsigned count;
};

struct trace {
	double memory_mib; /* of the host, for guests */
	unsigned seconds;
	struct trace_vm *vms;
	unsigned count, room;
};

/* @name: of @file, for words. -EINVAL: "x.jsonl:3: ..." says what is wrong. Freed by trace_free()
 * in any case. */
int trace_read(struct trace *trace, FILE *file, const char *name, struct error *err);
void trace_free(struct trace *trace);
/* Between two points along a line; before the first and after the last as there. */
double trace_working_set(const struct trace_vm *vm, double second);

/* Writes a trace of @vms VMs whose memory is 1.5 times the host's; the same @seed, the same trace.
 */
void trace_make(FILE *file, unsigned vms, uint64_t seed);

#endif
