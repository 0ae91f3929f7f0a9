/* SPDX-License-Identifier: Apache-2.0 */
/* The API, asked without HTTP, of a machine that is none. */
#ifndef DUET_TESTS_API_RIG_H
#define DUET_TESTS_API_RIG_H

#include "api/private.h"

#define BEFORE "The requested operation is not supported before starting the microVM."
#define JSON   "An error occurred when deserializing the json body of a request: "

struct api_rig {
	struct exchange exchange;
	struct machine_config config;
	struct loop *loop;
	struct api *api;
	unsigned status, answers, starts;
	char *body;
};

/* The machine, whose functions are the linker's --wrap (tests/unit/meson.build); each test's own.
 */
extern struct api_rig_machine {
	const struct api_rig *of;
	enum machine_state state;
	bool paused;
	unsigned refreshes, changes;
	struct device *cooperation;
	bool no_balloon;
	uint64_t balloon_target; /* bytes */
	struct machine_uses seen;
	struct machine_placing under_way;
	int8_t placed[MACHINE_CPUS_MAX];
	unsigned looks;
	struct machine_sharing sharing;
	bool no_sharing;
	int keys; /* what machine_press_ctrl_alt_del() says */
} fake;

/* A test's set-up and tear-down; its state is the struct api_rig. */
int rig_make(void **state);
int rig_drop(void **state);
/* The machine is there from now on. */
void rig_runs(struct api_rig *rig);

void rig_ask(struct api_rig *rig, const char *method, const char *path, const char *body);
void rig_done(struct api_rig *rig, const char *method, const char *path, const char *body);
void rig_gives(struct api_rig *rig, const char *path, const char *expected);
void rig_refused(struct api_rig *rig, const char *method, const char *path, const char *body,
	const char *message);

#endif
