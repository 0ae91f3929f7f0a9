/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each VM offers to the host's KSM, and how fast that is to look. Hinted: those whose guests
 * can name pages offer these, the others nothing. What is offered is looked at once in PASS_S;
 * KSM merges a page that it has found unchanged in a second look, so that everything is shared
 * after two or three. By powers of two: a finer rate would be written anew with each answer.
 */
#include "duetd/policies/private.h"

#define PASS_S        30
#define SLEEP_MS      100 /* between two batches of pages */
#define BATCHES       (PASS_S * 1000 / SLEEP_MS)
#define PAGES_LEAST   32
#define PAGES_MOST    2048 /* in a batch: some 20,000 pages a second, a few hundredths of a CPU */
#define BYTES_OF_PAGE 4096

static unsigned pages_for(uint64_t offered)
{
	const uint64_t wanted = offered / BYTES_OF_PAGE / BATCHES;
	unsigned pages = PAGES_LEAST;

	while (pages < wanted && pages < PAGES_MOST)
		pages *= 2;
	return pages;
}

static bool may_share(const struct view *view, const struct vm_view *vm, struct vm_plan *to)
{
	if (!view->host.ksm)
		to->sharing_why = REASON_NO_KSM;
	else if (!vm->can_share)
		to->sharing_why = REASON_CANNOT_SHARE;
	else if (vm->passthrough)
		to->sharing_why = REASON_NOT_MERGED;
	else
		return true;
	return false;
}

static void decide_hinted(const struct view *view, struct plan *plan)
{
	uint64_t offered = 0;

	for (unsigned i = 0; i < view->count; i++) {
		const struct vm_view *vm = &view->vms[i];
		struct vm_plan *to = &plan->vms[i];

		if (!may_share(view, vm, to))
			continue;
		to->set_sharing = vm->says_hints;
		to->sharing = SHARING_HINTED;
		to->sharing_why = vm->says_hints ? REASON_NAMED : REASON_NAMES_NONE;
		plan->ksm.runs = plan->ksm.runs || to->set_sharing;
		/* None offers more than it has; the sum of all is within PAGES_MOST soon enough. */
		offered += (uint64_t)within((double)vm->offered, (double)(1ULL << 46));
	}
	plan->ksm.pages = pages_for(offered);
	plan->ksm.sleep_ms = SLEEP_MS;
}

static void decide_blind(const struct view *view, struct plan *plan)
{
	for (unsigned i = 0; i < view->count; i++) {
		struct vm_plan *to = &plan->vms[i];

		if (!may_share(view, &view->vms[i], to))
			continue;
		to->set_sharing = plan->ksm.runs = true;
		to->sharing = SHARING_BLIND;
		to->sharing_why = REASON_ALL_OFFERED;
	}
}

const struct policy sharing_hinted = {.name = "hinted",
	.mechanism = MECHANISM_SHARING,
	.help = "KSM looks at the pages that guests name, and at no others",
	.decide = decide_hinted};
const struct policy sharing_blind = {.name = "blind",
	.mechanism = MECHANISM_SHARING,
	.help = "KSM looks at all memory of all guests, at the kernel's own rate",
	.decide = decide_blind};
