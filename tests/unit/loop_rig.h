/* SPDX-License-Identifier: Apache-2.0 */
/* A test's loop, run for a time or until something has happened. */
#ifndef DUET_TESTS_LOOP_RIG_H
#define DUET_TESTS_LOOP_RIG_H

struct loop;

/* For @ms milliseconds, or until it is stopped; with 0, what is due by now is done. */
void loop_run_for(struct loop *loop, unsigned ms);

/* Until @condition, or for some seconds: what follows asserts it. */
#define loop_run_until(loop, condition)                                                            \
	for (unsigned tries = 0; tries < 1000 && !(condition); tries++)                            \
	loop_run_for(loop, 5)

#endif
