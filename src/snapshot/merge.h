/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot and those with the changes to it, put together or looked through. Blocks. */
#ifndef DUET_SNAPSHOT_MERGE_H
#define DUET_SNAPSHOT_MERGE_H

#include "snapshot/target.h"

#define SNAPSHOT_CHAIN_MAX 64

/* The first of @directories has all of memory, each further one the changes to the one before;
 * @to becomes what restores the last, and may be followed by the changes to that. Every checksum
 * is looked at. */
int snapshot_merge(
	const char *const *directories, unsigned count, const char *to, struct error *err);
/* Reads all that it holds, and looks at every checksum. */
int snapshot_verify(const char *directory, struct error *err);

#endif
