/* SPDX-License-Identifier: Apache-2.0 */
/* What the doctor found out about this host. */
#ifndef DUET_CLI_DOCTOR_H
#define DUET_CLI_DOCTOR_H

#include "kvm/kvm.h"

#include <stdbool.h>

#define DOCTOR_MECHANISMS 16
#define DOCTOR_FEATURES   5

struct doctor_finding {
	const char *name; /* "M1", "lab" */
	const char *title;
	bool usable;
	char why[256];      /* what the host lacks and what to do; empty when all is well */
	const char *so_far; /* what duet has of it; null: all, empty: nothing yet */
};

struct doctor {
	bool kvm_usable; /* /dev/kvm opens and answers */
	struct kvm_host host;
	struct kvm_probe probe;
	const char *backend; /* "hardware", "software", "none" */
	char kvm_why[512];
	struct doctor_finding lab;
	double lab_tsc_ratio; /* of the lab host's TSC to the machine's; 0: not in the lab */
	struct doctor_finding features[DOCTOR_FEATURES]; /* that only some hosts have */
	struct doctor_finding mechanisms[DOCTOR_MECHANISMS];
};

/* Tries everything; a second at most. */
void doctor_examine(struct doctor *doctor);

/* mechanisms.c: fills doctor->mechanisms and doctor->features from what is already known about KVM.
 */
void doctor_mechanisms(struct doctor *doctor);
void doctor_features(struct doctor *doctor);
/* Whether duet has any of it. */
bool doctor_built(const struct doctor_finding *finding);

#endif
