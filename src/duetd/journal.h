/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was changed on the host and what it was before, in a file that outlives the process: a line
 * is on disk before the change is made. Main thread.
 */
#ifndef DUET_DUETD_JOURNAL_H
#define DUET_DUETD_JOURNAL_H

#include "base/error.h"

#include <stdint.h>

struct journal;

/* How to put one thing back. */
struct undo {
	enum {
		UNDO_FILE,
		UNDO_SLICE,
		UNDO_AFFINITY,
		UNDO_MOVE,
		UNDO_RMDIR
	} kind;
	const char *where; /* file, thread ("PID:STARTTIME"), process likewise, directory */
	const char *value; /* what it was; for UNDO_RMDIR null */
};

/* Makes the file with mode 0600. One that is there is read: see journal_undo(). -EWOULDBLOCK:
 * another duetd holds it. A line that makes no sense is passed over with a warning. */
int journal_open(struct journal **journal, const char *path, struct error *err);
/* Written through before it returns. Nothing for a thing that is noted already: what it was at
 * first is what it goes back to. */
int journal_note(struct journal *journal, const struct undo *undo, struct error *err);
/* @put_back for each, the last first; then it is empty. */
void journal_undo(struct journal *journal, void (*put_back)(void *opaque, const struct undo *undo),
	void *opaque);
/* Those that concern @where alone, without putting them back: its process has ended. */
void journal_forget(struct journal *journal, const char *where);
void journal_close(struct journal *journal);

#endif
