/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a VM's answer to duetd: refused with words, or numbers within what they mean. */
#include "duetd/answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_answer: %s\n", what);
	abort();
}

static void check(const struct answer *answer)
{
	const struct vm_view *view = &answer->view;

	must(view->memory && view->memory <= 1ULL << 46, "memory");
	must(view->vcpus && view->vcpus <= VIEW_VCPUS_MAX, "vCPUs");
	must(view->share >= 1 && view->share <= 10000, "share");
	must(view->balloon <= view->memory && view->balloon_target <= view->memory, "balloon");
	must(view->guest_total <= view->memory, "more memory than it was given");
	must(view->guest_free <= view->guest_total && view->guest_available <= view->guest_total,
		"more free than there is");
	must(view->working_set <= view->memory, "working set");
	must(view->offered <= view->memory, "more offered than it has");
	must(view->memory_some <= 10000 && view->memory_full <= 10000, "pressure");
	for (unsigned i = 0; i < VIEW_VCPUS_MAX; i++) {
		const struct vcpu_view *vcpu = &view->vcpu[i];

		must(!vcpu->says || i < view->vcpus, "a vCPU that it has not");
		must(vcpu->runnable <= 1U << 20 && vcpu->burst <= 1000000000, "vCPU");
		must(answer->threads[i] >= 0 && (!answer->threads[i] || i < view->vcpus), "thread");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct answer_counters before = {.swap_in = 1000, .refaults = size};
	char *text = strndup((const char *)data, size);
	struct answer answer;
	struct error err = {0};

	if (!text)
		return 0;
	if (answer_read(&answer, text, &err) == 0) {
		check(&answer);
		answer_rates(&answer, &before, size);
		must(answer.view.swap_in >= 0 && answer.view.refaults >= 0, "a rate below 0");
	} else {
		must(err.text[0] != 0, "refused without a word");
	}
	free(text);
	return 0;
}
