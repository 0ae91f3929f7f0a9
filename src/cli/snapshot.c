/* SPDX-License-Identifier: Apache-2.0 */
/* duet snapshot: what is done with snapshots while no machine needs to run. */
#include "base/log.h"
#include "cli/commands.h"
#include "snapshot/merge.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
	"Usage: duet snapshot merge BASE CHANGES... NEW\n"
	"       duet snapshot check DIR...\n"
	"merge makes of a snapshot and those with the changes to it, each to the one\n"
	"before, one that can be restored: NEW, a directory that may be one of them. check\n"
	"reads all that snapshots hold and compares it with their checksums.\n"
	"\n"
	"Snapshots are taken by duet ctl SOCK snapshot DIR [--diff], and restored by duet\n"
	"run --restore DIR.\n"
	"\n"
	"Exit status: 0 done; 1 damaged, not of one chain, or not readable; 2 wrong\n"
	"command line.\n"
	"\n"
	"Example: duet snapshot merge monday tuesday wednesday now\n";

static int merge(unsigned count, const char *const *args)
{
	struct error err = {0};

	if (count < 3) {
		log_error("merge: name a snapshot, those with changes to it, and a new directory; "
			  "see duet snapshot --help");
		return 2;
	}
	if (snapshot_merge(args, count - 1, args[count - 1], &err) == 0)
		return 0;
	log_error("%s", err.text);
	return 1;
}

static int check(unsigned count, const char *const *args)
{
	int status = 0;

	if (!count) {
		log_error("check: name a snapshot's directory; see duet snapshot --help");
		return 2;
	}
	for (unsigned i = 0; i < count; i++) {
		struct error err = {0};

		if (snapshot_verify(args[i], &err) == 0) {
			printf("%s: ok\n", args[i]);
			continue;
		}
		log_error("%s", err.text);
		status = 1;
	}
	return status;
}

int command_snapshot(unsigned count, const char *const *args)
{
	const char *name = count ? args[0] : "";

	for (unsigned i = 0; i < count; i++) {
		if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0) {
			fputs(help, stdout);
			return 0;
		}
	}
	if (strcmp(name, "merge") == 0)
		return merge(count - 1, args + 1);
	if (strcmp(name, "check") == 0)
		return check(count - 1, args + 1);
	log_error("snapshot%s%s: it is merge or check; see duet snapshot --help", *name ? " " : "",
		name);
	return 2;
}
