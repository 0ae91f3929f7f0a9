/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views made of a seed, and a host that does what a plan says: balloons go where they are told at
 * once, and what guests took stays what it was, as far as they hold it.
 */
#ifndef DUET_TEST_VIEW_SAMPLES_H
#define DUET_TEST_VIEW_SAMPLES_H

#include "duetd/policy.h"

#define MIB_BYTES  (1ULL << 20)
#define SAMPLE_VMS 40

struct sample {
	struct view view;
	struct plan plan;
	struct vm_view vms[SAMPLE_VMS];
	struct vm_plan plans[SAMPLE_VMS];
	uint64_t wants[SAMPLE_VMS]; /* what each would take if it held enough, bytes */
	uint64_t seed;
	bool fixed_available; /* what is available in guests is the test's, not what they do not use
			       */
};

uint64_t sample_number(struct sample *sample, uint64_t low, uint64_t high);
/* @vms guests with the kit, their working sets from a tenth to nine tenths of their memory, on a
 * host that has @percent of the memory that they were given together. */
void sample_make(struct sample *sample, uint64_t seed, unsigned vms, unsigned percent);
/* One decision, done. */
void sample_decide(struct sample *sample, const struct policy *policy);
/* Decisions, each done, until one changes nothing; how many that took, at most @most. */
unsigned sample_settle(struct sample *sample, const struct policy *policy, unsigned most);
/* What guests may take together: all that the host has but for what others use. */
uint64_t sample_physical(const struct sample *sample);
/* In MiB, with the plan done. */
uint64_t sample_allowed(const struct sample *sample, unsigned vm);
/* After vms[] was changed: wants[] and what is available anew. */
void sample_refresh(struct sample *sample);

#endif
