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
int paced(char **args);    /* ADDRESS PORT COUNT PERIOD-US: as large as those, one each period */
int offloads(char **args); /* DEVICE on|off: offloads and interrupt coalescing */
int disk(char **args);     /* DEVICE read|write|sequential DEPTH COUNT BYTES */
/* ADDRESS PORT MS COUNT: TCP connections of so long each, and what their sender believes of the
 * network meanwhile. */
int window(char **args);
int loops(char **args); /* US: how many of await's loops take so long */
/* COUNT LOOPS TIMEOUT-MS wall|effective: a service beside its client. */
int await_service(char **args);
int rings(char **args); /* PCI-ADDRESS K BATCHES poll|interrupt|heed: a virtio-net queue by hand */
int counters(char **args); /* PMU EVENT[+EVENT]...|none thread|CPU ROUNDS NAPS: work under events */
int noise(char **args);    /* CPU SECONDS spin|rest: a neighbour, and what the whole CPU retires */
int fork_heap(char **args); /* private|heap MIB PERCENT: a fork, and writes after it */
int copy(char **args);      /* MIB: copies of pages, as the guest's kernel makes them */
int repeat(char **args); /* FILE TEXT COUNT: writes TEXT so often, each time from its beginning */
int touch(
	char **args); /* CPU MIB: writes to its own memory for ever, each access counted by place */
int switches(
	char **args); /* STEPS NAP-US: two programs wake each other, some naps between or none */
int tell_time(char **args); /* ADDRESS PORT: UDP, answered with CLOCK_MONOTONIC */
int ask_time(char **args);  /* ADDRESS PORT: the teller's clock, and this one's and the TSC then */
int watch_clocks(char **args); /* FILE: until it is there; how far clock and TSC stepped back */
int library(char **args); /* FILE PAGES: made, the same in all guests, and mapped by who stays */
int data(char **args);    /* MIB: of its own, unlike all others', held by who stays */
int burst(char **args);   /* FILE FIRST PAGES WRITES: writes to pages of it, drawn by chance */
/* PID,PID...: on the host, how many pages that they offer to KSM have an equal one. */
int shareable(char **args);
int moving(char **args);  /* FILE PERIOD-MS: a working set that moves as it is told */
int hogs(char **args);    /* COUNT: programs that never rest, left behind; says their ids */
int respond(char **args); /* COUNT PERIOD-US LOOPS: requests that come at fixed times */
int retired(char **args); /* PID SECONDS: instructions of that thread in user space and kernel */
/* FILE MIB RATE DEVICE ADDRESS PORT: until FILE is there, writes to RATE pages of MIB a second, and
 * where DEVICE is not "-" to a disk and a connection, all checked at the end. */
int travel(char **args);
int answered(char **args); /* ADDRESS PORT SECONDS: asks over UDP until somebody answers */
/* ADDRESS PORT FILE MIB PAGES BYTES: answers UDP; for each request it touches so many pages of its
 * own MIB and reads so much of FILE. */
int tenant(char **args);
/* ADDRESS,ADDRESS... PORT COUNT PERIOD-US: requests to tenants at fixed times, COUNT to each. */
int arrivals(char **args);
uint64_t now_ns(void);
/* The next of the numbers below @below that @random leads to, the same in each run. */
uint64_t draw(uint64_t *random, uint64_t below);
/* A socket of @type to ADDRESS PORT, which is not waited for without limit. */
int connected(char **args, int type);
/* ... and at ADDRESS PORT. */
int listening(char **args, int type);
unsigned long number(const char *text);
/* Says what failed, with errno's words, and ends the program. */
_Noreturn void fail(const char *what);

#endif
