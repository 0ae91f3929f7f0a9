/* SPDX-License-Identifier: Apache-2.0 */
/* A page of the guest's that has yet to come: whoever writes to it waits. For a --wrap around what
 * writes. */
#ifndef DUET_TESTS_LATE_PAGE_H
#define DUET_TESTS_LATE_PAGE_H

/* The next write waits. */
void late_page_begin(void);
/* Returns when one does. The process ends should the test wait for it longer than it may. */
void late_page_await(void);
/* It is there; so are all others. */
void late_page_come(void);
/* By the wrapper, before it writes. */
void late_page_write(void);

#endif
