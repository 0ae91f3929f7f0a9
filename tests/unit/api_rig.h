/* SPDX-License-Identifier: Apache-2.0 */
/* The API, asked without HTTP, of a machine that is none (each test has its own). */
#ifndef DUET_TESTS_API_RIG_H
#define DUET_TESTS_API_RIG_H

#include "api/private.h"
#include "api_machine.h"

#define BEFORE "The requested operation is not supported before starting the microVM."
#define JSON   "An error occurred when deserializing the json body of a request: "

struct api_rig {
	struct exchange exchange;
	struct machine_config config;
	struct loop *loop;
	struct api *api;
	struct request asked; /* last */
	unsigned status, answers, starts;
	char *body;
};

/* A test's set-up and tear-down; its state is the struct api_rig. */
int rig_make(void **state);
int rig_drop(void **state);
/* The machine is there from now on. */
void rig_runs(struct api_rig *rig);

/* With an answer that comes now, or that may come later. */
void rig_ask(struct api_rig *rig, const char *method, const char *path, const char *body);
void rig_ask_later(struct api_rig *rig, const char *method, const char *path, const char *body);
void rig_done(struct api_rig *rig, const char *method, const char *path, const char *body);
void rig_gives(struct api_rig *rig, const char *path, const char *expected);
void rig_refused(struct api_rig *rig, const char *method, const char *path, const char *body,
	const char *message);

#endif
