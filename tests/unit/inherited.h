/* SPDX-License-Identifier: Apache-2.0 */
/* Signals as whoever starts a process hands them on to it. */
#ifndef DUET_TESTS_INHERITED_H
#define DUET_TESTS_INHERITED_H

/* Those that ask for the end. */
#define INHERITED_SIGNALS 3
extern const int inherited_signals[INHERITED_SIGNALS];

/* Nothing is blocked, and of inherited_signals those of the bits @ignored are ignored. */
void inherit_signals(unsigned ignored);

#endif
