/* SPDX-License-Identifier: Apache-2.0 */
/* A migration of a real machine: its thread (leave.c) and what it wants of the machine (wishes.c).
 */
#ifndef DUET_MIGRATE_PRIVATE_H
#define DUET_MIGRATE_PRIVATE_H

#include "machine/machine.h"
#include "migrate/migrate.h"

#include <pthread.h>

enum wish {
	WISH_CONFIG,
	WISH_LOG,
	WISH_THROTTLE,
	WISH_STOP,
	WISH_TAKE_BACK,
	WISH_FOLLOW,
	WISH_LET_GO, /* the thread has ended: the machine goes on, or ends */
};

struct migration {
	struct machine *machine;
	struct loop *loop;
	struct address address;
	char *to;
	struct mtls *tls;
	struct channel *channels;
	int stop; /* eventfd of all channels */
	struct source source;
	struct source_progress progress;
	pthread_t thread;
	bool started;
	enum migration_state state;
	struct error err;    /* why it ended; the loop's from WISH_LET_GO on */
	enum source_end end; /* likewise */

	/* Between the two threads. */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct loop_task task;
	enum wish wish;
	uint8_t percent[MACHINE_CPUS_MAX]; /* of WISH_THROTTLE */
	char *config;                      /* of WISH_CONFIG, as it was sent; the loop's */
	struct state_writer *writer;       /* of WISH_STOP */
	bool has_answer, leaving;
	int answer;
	struct error answer_err;
	bool cancelled, committed;

	/* The loop's. */
	struct machine_pause pause;
	struct loop_timer timer; /* until the next try, or the end */
	unsigned tries;
	bool logging, held;
};

/* On the thread: returns when it was done. */
int migration_ask(struct migration *migration, enum wish wish, struct error *err);
/* On the loop. */
void migration_prepare(struct migration *migration);

#endif
