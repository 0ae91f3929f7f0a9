/* SPDX-License-Identifier: Apache-2.0 */
/* Any requests of a guest to a volume's server, whose folder is an empty one in memory: what is
 * outside of it stays as it is. Each request is a length (16 bits) and so many bytes, whose header
 * is made true so that more is tried than its check. */
#include "base/bytes.h"
#include "oci/share.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOP  "/dev/shm/fuzz_oci_share"
#define SIZE 4096

static void check_outside(void)
{
	struct stat info;

	if (stat(TOP "/outside", &info) < 0 || info.st_size != 0 || (info.st_mode & 0777) != 0444)
		abort();
}

static void begin(char *path, size_t room)
{
	const int fd = (mkdir(TOP, 0700), open(TOP "/outside", O_WRONLY | O_CREAT, 0444));

	if (fd >= 0)
		close(fd);
	snprintf(path, room, TOP "/tree.%d", (int)getpid());
	mkdir(path, 0700);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(8) uint8_t request[SIZE], answer[SHARE_ANSWER_MAX];
	struct share_server *server;
	char path[64], command[96];
	size_t length;

	begin(path, sizeof(path));
	server = share_new(open(path, O_PATH | O_CLOEXEC), false);
	while (server && size > 2) {
		length = load_le16(data) % SIZE;
		data += 2;
		size -= 2;
		length = length < size ? length : size;
		memcpy(request, data, length);
		data += length;
		size -= length;
		if (length >= sizeof(struct fuse_in_header)) {
			struct fuse_in_header *head = (void *)request;

			head->len = (uint32_t)length;
			head->opcode %= 64;
			head->nodeid %= 8;
			head->uid = getuid();
			head->gid = getgid();
		}
		if (share_answer(server, request, length, answer) > (int)SHARE_ANSWER_MAX)
			abort();
	}
	share_free(server);
	check_outside();
	snprintf(command, sizeof(command), "rm -rf %s", path);
	return system(command) ? 0 : 0;
}
