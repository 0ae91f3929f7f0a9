/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a volume: FUSE's messages, as the guest's kernel has sent them, answered from
 * a folder or a file of the host's. The guest is not trusted. What it names are numbers that were
 * given to it, and single names in folders: each is opened by itself, and no link is followed, so
 * that there is no way out of the tree. It makes no devices, and opens none. Files are made as the
 * guest's user; who may do what the guest's kernel decides, as it does on a disk.
 *
 * One thread, a server each.
 */
#ifndef DUET_OCI_SHARE_H
#define DUET_OCI_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARE_DATA_MAX    (128U << 10)
#define SHARE_REQUEST_MAX (SHARE_DATA_MAX + 4096)
#define SHARE_ANSWER_MAX  (SHARE_DATA_MAX + 256)

struct share_server;

/* @root: a descriptor of the folder or file (O_PATH), which becomes the server's. Null: no memory.
 */
struct share_server *share_new(int root, bool readonly);
void share_free(struct share_server *server);
/* One whole message, whose header says @length; both buffers are aligned to 8 bytes. The length of
 * the answer in @answer, 0: it has none; -EBADMSG: it is no message. */
int share_answer(struct share_server *server, const uint8_t *request, size_t length,
	uint8_t answer[SHARE_ANSWER_MAX]);

#endif
