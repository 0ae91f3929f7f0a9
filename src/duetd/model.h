/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host and its guests as a model, a second a step: what a policy is tried on before it touches a
 * host. Described in docs/duetd-trace.md. One thread.
 */
#ifndef DUET_DUETD_MODEL_H
#define DUET_DUETD_MODEL_H

#include "duetd/policy.h"
#include "duetd/trace.h"

struct model;

struct model_result {
	double guest_pages; /* read in again by guests */
	double host_pages;  /* by the host */
	double worst; /* of any VM: mean share of its working set that there was no room for */
};

/* @trace must outlive it. Null: no memory. */
struct model *model_new(const struct trace *trace);
void model_free(struct model *model);
/* A second goes by. False: the trace has ended. */
bool model_step(struct model *model);
/* What duetd would see now. */
const struct view *model_view(const struct model *model);
void model_apply(struct model *model, const struct plan *plan);
void model_result(const struct model *model, struct model_result *result);

#endif
