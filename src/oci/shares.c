/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/shares.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "oci/guest.h"
#include "oci/share.h"
#include "oci/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct shares {
	pid_t pids[SETUP_SHARES_MAX];
	uint32_t count;
};

static bool receive_all(int fd, uint8_t *bytes, size_t length)
{
	return !length || recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length;
}

static bool send_all(int fd, const uint8_t *bytes, size_t length)
{
	ssize_t sent;

	while (length) {
		sent = send(fd, bytes, length, MSG_NOSIGNAL);
		if (sent < 0 && errno != EINTR)
			return false;
		bytes += sent > 0 ? sent : 0;
		length -= sent > 0 ? (size_t)sent : 0;
	}
	return true;
}

void share_serve(struct share_server *server, int fd)
{
	uint8_t *request = malloc(SHARE_REQUEST_MAX), *answer = malloc(SHARE_ANSWER_MAX);
	const size_t head = sizeof(struct fuse_in_header);
	uint32_t length;
	int ret = 0;

	while (request && answer && ret >= 0 && receive_all(fd, request, head)) {
		length = load_le32(request);
		if (length < head || length > SHARE_REQUEST_MAX ||
			!receive_all(fd, request + head, length - head))
			break;
		ret = share_answer(server, request, length, answer);
		if (ret > 0 && !send_all(fd, answer, (size_t)ret))
			break;
	}
	free(request);
	free(answer);
}

/* What files' owners need, and nothing by which the host is changed. */
static void drop_privileges(void)
{
	const uint32_t keep = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH |
			      1U << CAP_FOWNER | 1U << CAP_FSETID;
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}, {0}}, has[2];
	struct rlimit files;

	/* A descriptor for each file that the guest has seen. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_capget, &head, has) == 0) {
		data[0].effective = data[0].permitted = has[0].permitted & keep;
		syscall(SYS_capset, &head, data);
	}
	umask(0);
}

static void run(const struct mount *mount_, int listener) __attribute__((noreturn));
static void run(const struct mount *mount_, int listener)
{
	const int root = open(mount_->source, O_PATH | O_CLOEXEC);
	struct share_server *server = root < 0 ? NULL : share_new(root, mount_->flags & MS_RDONLY);
	int fd;

	prctl(PR_SET_NAME, "duet-oci volume");
	/* The container's own input and output are none of ours. */
	syscall(SYS_close_range, 0U, 2U, 0);
	drop_privileges();
	fd = server ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
	if (fd >= 0)
		share_serve(server, fd);
	_exit(0);
}

static int begin(struct shares *shares, const struct mount *mount_, int dir)
{
	_cleanup_close_ int listener = -1;
	char name[32];
	pid_t pid;

	snprintf(name, sizeof(name), GUEST_SOCKET "_%u", mount_->port);
	listener = guest_socket(dir, name, true);
	if (listener < 0)
		return listener;
	pid = spawn_fork();
	if (pid == 0)
		run(mount_, listener);
	if (pid < 0)
		return -errno;
	shares->pids[shares->count++] = pid;
	return 0;
}

int share_servers_begin(
	struct shares **shares, const struct setup *setup, int dir, struct error *err)
{
	int ret = 0;

	*shares = calloc(1, sizeof(**shares));
	if (!*shares)
		return error_set(err, ENOMEM, "there is no memory");
	for (uint32_t i = 0; i < setup->mount_count && ret == 0; i++) {
		if (setup->mounts[i].kind != MOUNT_SHARE || (*shares)->count == SETUP_SHARES_MAX)
			continue;
		ret = begin(*shares, &setup->mounts[i], dir);
		if (ret < 0)
			error_errno(err, -ret, "the volume %s", setup->mounts[i].source);
	}
	return ret;
}

void share_servers_end(struct shares *shares)
{
	for (uint32_t i = 0; shares && i < shares->count; i++) {
		kill(shares->pids[i], SIGKILL);
		waitpid(shares->pids[i], NULL, 0);
	}
	free(shares);
}
