/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pace.h"

void pace_measure(struct pace *pace, uint64_t now)
{
	uint64_t gap = (now - pace->since) / pace->items;
	/* A quarter of them: a few at once are a chance that comes to everybody. */
	bool together = pace->together >= (pace->items + 3) / 4;

	if (pace->gap && gap / PACE_GROWTH > pace->gap)
		gap = pace->gap * PACE_GROWTH;
	/* The first window has no beginning. */
	if (pace->since)
		pace->gap = gap ? gap : 1;
	pace->wait = together && pace->since ? pace->gap * PACE_WAIT / 8 : 0;
	pace->since = now;
	pace->items = pace->together = 0;
}
