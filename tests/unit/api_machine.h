/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that is none, for who asks the API: functions of src/machine, src/snapshot, src/migrate
 * and of the balloon are replaced by the linker (api_machine in the top's meson.build). There is
 * one, on the thread of the API. What a machine does later is asked of it here, and done when it is
 * told.
 */
#ifndef DUET_TESTS_API_MACHINE_H
#define DUET_TESTS_API_MACHINE_H

#include "api/api.h"
#include "machine/machine.h"
#include "migrate/migrate.h"
#include "snapshot/take.h"

extern struct api_machine {
	bool moved; /* its migration is done */
	const struct machine_config *config;
	enum machine_state state;
	bool paused;
	unsigned refreshes, changes, unplugs, resumes;
	struct device *cooperation;
	bool takes_wishes; /* as if the guest had its driver */
	bool no_balloon;
	uint64_t balloon_target;   /* bytes */
	unsigned balloon_interval; /* seconds */
	struct machine_uses seen;
	struct machine_progress progress;
	struct machine_placing under_way;
	int8_t placed[MACHINE_CPUS_MAX];
	unsigned looks;
	struct machine_sharing sharing;
	bool no_sharing;
	int keys; /* what pressing them returns */
	/* Asked for, and not done; null: nothing. */
	struct machine_pause *pause;
	struct machine_hints *hints;
	struct snapshot_take *take;
} fake;

/* Built, and then running, with one balloon of 1 s between its statistics. @config is the caller's.
 */
void api_machine_begin(const struct machine_config *config);
/* As a machine that ends: a pause is answered, and nothing else comes any more. */
void api_machine_end(void);
/* What was asked for comes to an end; nothing happens when nothing was. */
void api_machine_end_pause(int result);
void api_machine_end_hints(int result);
void api_machine_end_take(int result);
struct machine *api_machine(void);
/* Log, metrics and serial output of whose machine it is: whatever is said of them is fine. */
void api_machine_outputs(struct api_options *options);

#endif
