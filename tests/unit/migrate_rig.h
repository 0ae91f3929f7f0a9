/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of a migration in one process: machines that are memory alone, and a line between them
 * that can be cut or made to lie at any byte. */
#ifndef DUET_TESTS_MIGRATE_RIG_H
#define DUET_TESTS_MIGRATE_RIG_H

#include "migrate/mtls.h"
#include "migrate/source.h"
#include "migrate/target.h"

#include <pthread.h>

struct state_writer;

/* What the machines' functions are, in the order in which a migration without trouble calls them.
 */
enum rig_step {
	RIG_NOTHING,
	RIG_CONFIG,
	RIG_BUILD,
	RIG_LOG,
	RIG_TAKE,
	RIG_STOP,
	RIG_RESTORE,
	RIG_RELEASE,
	RIG_COMMIT,
	RIG_RUN,
	RIG_STEPS,
};

enum rig_fault {
	RIG_WHOLE,
	RIG_CUT,       /* the line is down from byte @at on */
	RIG_CUT_ONCE,  /* likewise, until another line is made */
	RIG_ALTER,     /* byte @at comes with a bit changed */
	RIG_NO_MEMORY, /* allocation @at gets none */
	RIG_NO_CALL,   /* system call @at comes back with an error */
};

struct rig {
	/* To be set. */
	uint64_t low, high; /* bytes of memory below and above a hole; @high may be 0 */
	unsigned streams;
	_Atomic int fails; /* enum rig_step: this function fails the first time */
	_Atomic int fault; /* enum rig_fault: of the source, or the target */
	_Atomic bool of_target;
	_Atomic uint64_t at;
	bool tells;            /* its log knows that vCPU 1 of two writes all of them */
	unsigned writes;       /* pages written between two rounds, until it is slow enough */
	bool writes_meanwhile; /* a thread writes without a pause until it is stopped */
	uint64_t limit;        /* nanoseconds of downtime; 0: a second */
	bool force, compress;
	unsigned wait; /* seconds; 0: no post-copy */
	/* Post-copy: called as soon as it runs there, on the source's thread, before what nobody
	 * has asked for is sent; and, on the target's, while its state is restored. May be null. */
	void (*follows)(struct rig *rig);
	void (*restores)(struct rig *rig);
	/* On the source's thread: it is about to be given away, a connection about to be made. On
	 * the target's: it is about to run. May be null. */
	void (*commits)(struct rig *rig);
	void (*connects)(struct rig *rig);
	void (*runs)(struct rig *rig);
	/* Post-copy: that many messages of @lost are sent, and the next one is not, though it seems
	 * so: the line was cut. 0: none. */
	enum wire_kind lost;
	_Atomic int before_lost;
	/* Where the source connects, if it is not to the target; may be null. */
	const struct address *_Atomic elsewhere;
	/* This function of the target's is not done before the source has come to its end, whose
	 * patience is over as soon as it is called. RIG_NOTHING: none. */
	enum rig_step silent;
	const struct mtls *tls_here, *tls_there; /* null: plain */

	/* What came of it. */
	struct memory there, here;
	struct source_progress progress;
	enum source_end end;
	int result; /* of the target */
	struct error source_err, target_err;
	_Atomic bool runs_here, runs_there, disks_here, disks_there, committed;
	_Atomic unsigned followed;  /* times */
	_Atomic unsigned connected; /* likewise, a connection was made */
	_Atomic bool ended;         /* memory is there, or will not be: @arrival_result */
	_Atomic bool arrived;       /* after that: nobody is waited for */
	int arrival_result;
	struct error arrival_err;
	unsigned throttle, spared, takes; /* spared: the share of vCPU 0 */
	uint64_t written;                 /* by vCPU 1 */
	uint64_t said[2];                 /* bytes, by the source and by the target */
	_Atomic uint64_t allocated[2];    /* times, likewise, by all threads of theirs */
	_Atomic uint64_t called[2];       /* the system, likewise */

	/* Private. */
	struct source source;
	struct channel channels[WIRE_STREAMS_MAX + 1];
	struct arrival *arrival;
	struct address address;
	char path[64], text[80];
	int listening, stop;
	int gone; /* eventfd: the source's, as @stop is the target's */
	pthread_t writer, target;
	bool writing, has_target;
	_Atomic bool enough, is_silent, is_to_cut, source_ended;
};

/* Whether memory may come late on this host (memory/late.h). */
bool rig_has_late(void);
/* Memory with something in it; -EXXX of the host's is a failed assertion. */
void rig_open(struct rig *rig);
/* The target alone, for who speaks to it himself; and its end. */
void rig_begin_target(struct rig *rig);
void rig_end_target(struct rig *rig);
/* A whole migration. */
void rig_migrate(struct rig *rig);
/* What the machine that leaves saves. To be freed. */
void rig_write_state(struct state_writer *writer);
/* All streams, as they are now. */
void rig_cut(struct rig *rig);
/* Likewise, from a hook on the target's thread: by the source's, which the channels are. */
void rig_let_cut(struct rig *rig);
/* The target is no more. */
void rig_kill_target(struct rig *rig);
bool rig_same_memory(const struct rig *rig);
/* Both sides' memory, as by a reset. */
void rig_clear_memory(struct rig *rig);
/* After post-copy: exactly one machine is left, the target's with all of its memory, or the
 * source's with a reason. */
void rig_assert_moved(const struct rig *rig);
void rig_assert_stays(const struct rig *rig);
void rig_close(struct rig *rig);

#endif
