/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running machine to another process, over streams. docs/migration-protocol.md has what they
 * carry, docs/architecture.md the picture. This is the source as the owner of a machine sees it;
 * the target is migrate/target.h.
 *
 * Threads: all functions are for the thread of the owner's loop, and none waits for the other side
 * but migration_free(). A thread "duet-migrate" has the protocol; what it wants of the machine it
 * posts to the loop.
 */
#ifndef DUET_MIGRATE_MIGRATE_H
#define DUET_MIGRATE_MIGRATE_H

#include "base/loop.h"
#include "migrate/address.h"
#include "migrate/mtls.h"
#include "migrate/source.h"

struct machine;
struct migration;

#define MIGRATION_DOWNTIME_MS  300
#define MIGRATION_DOWNTIME_MAX 600000
#define MIGRATION_WAIT_S       300
#define MIGRATION_WAIT_MAX     WIRE_WAIT_MAX
#define MIGRATION_STREAMS_MAX  WIRE_STREAMS_MAX

struct migration_options {
	const char *to;        /* address.h */
	unsigned downtime_ms;  /* that the guest may stand still; 0: MIGRATION_DOWNTIME_MS */
	unsigned streams;      /* connections; 0: one */
	bool force;            /* stands still for as long as it takes, rather than give up */
	bool plain;            /* to another host without TLS */
	bool compress;         /* pages, with zstd */
	bool post_copy;        /* rather than give up it runs there without all of its memory */
	unsigned wait_s;       /* for another line when one is cut then; 0: MIGRATION_WAIT_S */
	struct mtls_files tls; /* all null: none */
};

enum migration_state {
	MIGRATION_RUNNING,
	MIGRATION_DONE,      /* the machine runs there, and ends here in a moment */
	MIGRATION_FAILED,    /* it goes on here */
	MIGRATION_CANCELLED, /* likewise */
	MIGRATION_LOST,      /* it was given away, and nobody says whether it runs there; or it ran
				there without all of its memory, and the line was cut for too long */
};

struct migration_status {
	enum migration_state state;
	const struct source_progress *progress;
	const char *why; /* "": nothing went wrong */
};

/*
 * Begins; the options' texts are copied. Refused: -EBUSY: a device that cannot move, or writes are
 * logged for something else; -EINVAL: the machine does not run, or a wrong option. To be freed.
 * When it has come to an end the machine runs, or stands still for good and ends by itself as
 * machine_moved().
 */
int migration_begin(struct migration **migration, struct machine *machine, struct loop *loop,
	const struct migration_options *options, struct error *err);
/* Whether migration_begin() would take the options: what it says of them, and nothing begins. */
int migration_check(const struct migration_options *options, struct error *err);
/* -EALREADY: it has ended, or the machine is given away; -EXDEV: and runs there, and the rest of
 * its memory goes after it. */
int migration_cancel(struct migration *migration);
struct migration_status migration_status(const struct migration *migration);
/* Ended, or its machine has; waits for the thread. Null is allowed. */
void migration_free(struct migration *migration);

/* Whether @address may be used so: what goes to another host is sealed, or said to be plain. */
int migration_check_address(const struct address *address, const struct mtls_files *tls, bool plain,
	const char *what, struct error *err);

#endif
