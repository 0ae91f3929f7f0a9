/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/console.h"

#include "base/cleanup.h"
#include "oci/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

int console_connect(const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		return error_errno(err, ENAMETOOLONG, "--console-socket %s", path);
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, errno, "--console-socket %s", path);
	return steal_fd(&fd);
}

static int send_master(int socket, int master, const char *name)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS}};
	struct iovec part = {(void *)(uintptr_t)name, strlen(name)};
	const struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.room)};

	memcpy(CMSG_DATA(&control.head), &master, sizeof(master));
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int take(int slave, const struct process *process)
{
	const struct winsize size = {.ws_row = (unsigned short)process->rows,
		.ws_col = (unsigned short)process->columns};
	struct termios before;
	int ret = terminal_make_raw(slave, &before);

	if (ret < 0)
		return ret;
	if (process->rows && process->columns && ioctl(slave, TIOCSWINSZ, &size) < 0)
		return -errno;
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return -errno;
	for (int i = 0; i < 3; i++)
		if (dup2(slave, i) < 0)
			return -errno;
	return 0;
}

int console_make(int socket, const struct process *process, struct error *err)
{
	_cleanup_close_ int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave = -1;
	char name[64];
	int ret;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
		ptsname_r(master, name, sizeof(name)) != 0)
		return error_errno(err, errno, "a terminal");
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	ret = slave < 0 ? -errno : take(slave, process) ?: send_master(socket, master, name);
	return ret < 0 ? error_errno(err, -ret, "the terminal") : 0;
}
