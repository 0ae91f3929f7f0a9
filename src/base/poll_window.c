/* SPDX-License-Identifier: Apache-2.0 */
#include "base/poll_window.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void earn(struct poll_window *window, uint64_t credit)
{
	window->credit = smaller(window->credit + credit, 2 * window->length_max);
}

void poll_window_init(struct poll_window *window, uint64_t call, uint64_t now)
{
	uint64_t most = smaller(call, POLL_WINDOW_MOST) * POLL_WINDOW_CALLS;

	if (most < POLL_WINDOW_LEAST)
		most = POLL_WINDOW_LEAST;
	most = smaller(most, POLL_WINDOW_MOST);
	*window = (struct poll_window){.length_max = most, .credit = 2 * most, .counted = now};
}

void poll_window_found(struct poll_window *window, uint64_t now)
{
	if (!window->idle)
		return;
	window->idle = false;
	earn(window, now - window->idle_since);
}

bool poll_window_open(struct poll_window *window, uint64_t now)
{
	uint64_t polled;

	if (!window->idle) {
		window->idle = true;
		window->idle_since = window->yielded = now;
	}
	polled = now - window->idle_since;
	return polled < smaller(window->length, window->credit);
}

bool poll_window_yields(struct poll_window *window, uint64_t now)
{
	if (now - window->yielded < POLL_YIELD_PERIOD)
		return false;
	window->yielded = now;
	return true;
}

void poll_window_slept(struct poll_window *window, uint64_t from, uint64_t now)
{
	uint64_t wasted = from - window->idle_since;

	window->idle = false;
	window->credit -= smaller(wasted, window->credit);
	earn(window, (now - window->counted) / POLL_CREDIT_PART);
	window->counted = now;
	if (now - window->idle_since > window->length_max) {
		window->length = window->length / 2 < POLL_WINDOW_FIRST ? 0 : window->length / 2;
		return;
	}
	/* Polling on would have found it. Grows faster than it shrinks: what polling in vain may
	 * cost is the credit's business. */
	earn(window, now - window->idle_since);
	if (window->length == 0)
		window->length = POLL_WINDOW_FIRST;
	else
		window->length = smaller(4 * window->length, window->length_max);
}
