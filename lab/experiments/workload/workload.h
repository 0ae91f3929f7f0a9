/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs that the experiments run in guests and beside them, in one static file:
 * `workload NAME ARGUMENTS`. Each prints one line of JSON and marks the part that counts.
 */
#ifndef LAB_WORKLOAD_H
#define LAB_WORKLOAD_H

#include "mark.h"

#include <stddef.h>
#include <stdint.h>

#define MARK_START 20
#define MARK_END   21
#define MARK_STEP  22 /* a round trip, a batch or some requests begin */

int serve(char **args);    /* ADDRESS PORT: echoes UDP, swallows TCP */
int request(char **args);  /* ADDRESS PORT COUNT WARMUP: UDP round trips of 64 bytes */
int stream(char **args);   /* ADDRESS PORT BYTES: one TCP transfer */
int flood(char **args);    /* ADDRESS PORT SECONDS: a noisy neighbour's UDP packets */
int offloads(char **args); /* DEVICE on|off: offloads and interrupt coalescing */
int disk(char **args);     /* DEVICE read|write|sequential DEPTH COUNT BYTES */
/* COUNT WORK-US TIMEOUT-MS wall|effective: a service beside its client. */
int await_service(char **args);
int rings(char **args); /* PCI-ADDRESS K BATCHES poll|interrupt|heed: a virtio-net queue by hand */
int counters(char **args); /* PMU EVENT[+EVENT]...|none thread|CPU ROUNDS NAPS: work under events */
int noise(char **args);    /* CPU SECONDS spin|rest: a neighbour, and what the whole CPU retires */
int fork_heap(char **args); /* private|heap MIB PERCENT: a fork, and writes after it */
int copy(char **args);      /* MIB: copies of pages, as the guest's kernel makes them */
int repeat(char **args); /* FILE TEXT COUNT: writes TEXT so often, each time from its beginning */
int switches(
	char **args);    /* STEPS NAP-US: two programs wake each other, some naps between or none */
int window(char **args); /* FILE PERIOD-MS: a working set that moves as it is told */
int hogs(char **args);   /* COUNT: programs that never rest, left behind */
int respond(char **args); /* COUNT PERIOD-US LOOPS: requests that come at fixed times */
int retired(char **args); /* PID SECONDS: instructions of that thread in user space and kernel */
uint64_t now_ns(void);
unsigned long number(const char *text);
/* Says what failed, with errno's words, and ends the program. */
_Noreturn void fail(const char *what);

#endif
