/* SPDX-License-Identifier: Apache-2.0 */
/* What VMs are told of the host's nodes: when to say what they use, and where it is to come. */
#include "base/clock.h"
#include "duetd/fleet_private.h"

#include <stdio.h>
#include <string.h>

/* A map costs its guest a second of more page faults. */
#define MAP_NS (60 * SECOND_NS)
/* A VM looks anew where memory is each 10 s: what is still elsewhere after so long is told again.
 */
#define PLACE_NS (30 * SECOND_NS)

static bool is_over(uint64_t since, uint64_t span, uint64_t now)
{
	return !since || now - since >= span;
}

/* Its nodes as they are told become the member's; false: they were already. */
static bool take_nodes(struct member *member, const struct vm_plan *plan)
{
	const unsigned vcpus = member->answer.view.vcpus;
	int8_t nodes[VIEW_VCPUS_MAX] = {0};
	bool same;

	for (unsigned i = 0; i < vcpus && i < VIEW_VCPUS_MAX; i++)
		nodes[i] = plan->vcpu[i].node;
	same = memcmp(nodes, member->nodes, sizeof(nodes)) == 0;
	memcpy(member->nodes, nodes, sizeof(nodes));
	return !same;
}

void fleet_place(struct member *member, const struct vm_plan *plan)
{
	const uint64_t now = clock_ns();

	/* Without hints there is nobody to draw a map. */
	if (plan->wants_map && member->answer.view.says_hints &&
		is_over(member->wished_at, MAP_NS, now)) {
		member->wished_at = now;
		member->due[ASK_MAP] = true;
	}
	if (!plan->set_numa || !plan->memory_follows) {
		member->due[ASK_PLACE] = false;
		return;
	}
	if (!take_nodes(member, plan) && !is_over(member->placed_at, PLACE_NS, now))
		return;
	member->placed_at = now;
	member->due[ASK_PLACE] = true;
}

void fleet_place_text(const struct member *member, char *text, size_t room)
{
	const unsigned vcpus = member->answer.view.vcpus;
	size_t used = (size_t)snprintf(text, room, "{\"nodes\": [");

	for (unsigned i = 0; i < vcpus && i < VIEW_VCPUS_MAX && used < room; i++)
		used += (size_t)snprintf(
			text + used, room - used, "%s%d", i ? ", " : "", member->nodes[i]);
	if (used < room)
		snprintf(text + used, room - used, "]}");
}
