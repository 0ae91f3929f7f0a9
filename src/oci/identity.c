/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "oci/container.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELDS_TO_BEGAN 19 /* from behind the state on; proc(5) */

/* Its state ('Z') and when it began. */
static int read_stat(pid_t pid, char *state, uint64_t *began)
{
	char path[32], text[1024];
	_cleanup_close_ int fd = -1;
	ssize_t length;
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (length <= 0)
		return -ESRCH;
	text[length] = 0;
	/* The name in brackets may hold anything. */
	at = strrchr(text, ')');
	if (!at || at[1] != ' ')
		return -ESRCH;
	at += 2;
	*state = *at;
	for (unsigned i = 0; at && i < FIELDS_TO_BEGAN; i++) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	return at && sscanf(at, "%lu", began) == 1 ? 0 : -ESRCH;
}

int identity_of(pid_t pid, struct identity *identity)
{
	char state;

	identity->pid = pid;
	return read_stat(pid, &state, &identity->began);
}

bool identity_is_alive(const struct identity *identity)
{
	uint64_t began;
	char state;

	return identity->pid > 0 && read_stat(identity->pid, &state, &began) == 0 &&
	       began == identity->began && state != 'Z' && state != 'X';
}

int identity_signal(const struct identity *identity, int signal)
{
	_cleanup_close_ int fd = -1;

	if (identity->pid <= 0)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, identity->pid, 0);
	/* Only now is it sure that the descriptor is that process's. */
	if (fd < 0 || !identity_is_alive(identity))
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) < 0 ? -errno : 0;
}
