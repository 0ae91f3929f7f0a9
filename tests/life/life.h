/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of the tests: a machine's life in the hands of a test. `life run OPTION...` is `duet
 * run` but that a line typed behind Ctrl-A is a command, answered by a line "life: ..." on the
 * console:
 *
 *   pause N     pause and resume N times, with some time to run in between
 *   hold MS     pause, stay so for MS milliseconds, resume
 *   reset       press the reset button
 *   move        to a machine in another process, which goes on
 *   log         log writes to memory from now on, and remember it; again: compare, stop logging
 *   balloon MIB set the balloon's target
 *   hint        take all free memory from the guest; says how many bytes
 *   measure     descriptors and memory of the process that has the machine
 *
 * A supervisor (supervisor.c) keeps standard input and the process id that the test knows; the
 * machine is in a worker process (worker.c), which on a move starts another, sends it everything
 * through a pipe (transfer.c) and ends.
 */
#ifndef DUET_TESTS_LIFE_H
#define DUET_TESTS_LIFE_H

#include "machine/machine.h"

#define ESCAPE      '\x01'
#define EXIT_MOVED  99
#define CONTROL_FD  3 /* of a worker: commands, one a line */
#define INCOMING_FD 4 /* of one that takes over: the pipe */

/* worker.c: the machine of @count options @args, or that which comes by INCOMING_FD when
 * @incoming. The exit status. */
int worker_run(unsigned count, const char *const *args, bool incoming);

/* transfer.c. send: paused. receive: everything that comes until the pipe's other end is closed,
 * then the configuration; apply: memory and state, to the machine built of it. */
struct transfer {
	uint8_t *bytes;
	size_t length, at;
};
int transfer_send(struct machine *machine, int fd, struct error *err);
int transfer_receive(
	struct transfer *transfer, int fd, struct machine_config *config, struct error *err);
int transfer_apply(struct transfer *transfer, struct machine *machine, struct error *err);

/* log.c: starts or ends to log; then says how many pages were changed, and how many of them are not
 * in the log. Paused. */
struct log_result {
	bool ended;
	unsigned long changed, unlogged;
};
int log_toggle(struct machine *machine, struct log_result *result, struct error *err);

/* measure.c: of this process; memory in bytes, without the guest's. */
unsigned measure_descriptors(void);
unsigned long measure_memory(const struct memory *memory);

#endif
