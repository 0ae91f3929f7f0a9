/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tree of files holds, without reading the files: names, owners, modes, links' targets, and
 * of each file that is not empty its size, its times and its inode's number. The time of an inode's
 * last change cannot be set by who changes it, so two trees of one fingerprint hold the same, be
 * they two views of the same layers. Nothing is followed out of the tree. Main thread.
 */
#ifndef DUET_OCI_FINGERPRINT_H
#define DUET_OCI_FINGERPRINT_H

#include "base/error.h"
#include "base/sha256.h"

struct fingerprint {
	char text[SHA256_TEXT_SIZE];
	uint64_t bytes; /* of its files, in blocks of 4 KiB */
	uint64_t files; /* and directories, links and so on */
};

int fingerprint_take(const char *path, struct fingerprint *fingerprint, struct error *err);

#endif
