/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/agent/share.h"

#include "base/cleanup.h"
#include "oci/agent/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/vm_sockets.h>

#define MESSAGE_MAX ((128U << 10) + 4096)
#define ABOVE       512 /* all descriptors of the agent when it makes a container */

static int connect_to_port(uint32_t port)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int code;

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&host, sizeof(host)) == 0)
		return fd;
	code = errno;
	if (fd >= 0)
		close(fd);
	return -code;
}

static int send_all(int fd, const uint8_t *bytes, size_t length)
{
	ssize_t sent;

	while (length) {
		sent = send(fd, bytes, length, MSG_NOSIGNAL);
		if (sent < 0 && errno != EINTR)
			return -errno;
		bytes += sent > 0 ? sent : 0;
		length -= sent > 0 ? (size_t)sent : 0;
	}
	return 0;
}

/* Until the file system is unmounted everywhere. Before it is mounted there is nothing to read,
 * which would be an error. */
static void copy_requests(int fuse, int mounted, int line)
{
	static uint8_t message[MESSAGE_MAX];
	ssize_t got = read(mounted, message, sizeof(uint64_t));

	while (got > 0) {
		got = read(fuse, message, sizeof(message));
		/* Whose request it was has been killed meanwhile. */
		if (got < 0 && (errno == ENOENT || errno == EINTR || errno == EAGAIN))
			got = 1;
		else if (got > 0 && send_all(line, message, (size_t)got) < 0)
			got = 0;
	}
	shutdown(line, SHUT_WR);
}

static bool receive_all(int fd, uint8_t *bytes, size_t length)
{
	return !length || recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length;
}

static void copy_answers(int fuse, int line)
{
	static uint8_t message[MESSAGE_MAX];
	struct fuse_out_header head;

	while (receive_all(line, (uint8_t *)&head, sizeof(head)) && head.len >= sizeof(head) &&
		head.len <= sizeof(message)) {
		memcpy(message, &head, sizeof(head));
		if (!receive_all(line, message + sizeof(head), head.len - sizeof(head)))
			return;
		/* An answer that the kernel does not take is its request's end, not ours. */
		if (write(fuse, message, head.len) < 0 && errno == ENODEV)
			return;
	}
}

/* Nothing else of the agent's stays open here: as long as anybody has another share's descriptor,
 * its end would not be one. */
static void run_copiers(const struct mount *mount_, int connection)
{
	const int fuse = fcntl(mount_->fuse, F_DUPFD_CLOEXEC, ABOVE),
		  mounted = fcntl(mount_->mounted, F_DUPFD_CLOEXEC, ABOVE),
		  line = fcntl(connection, F_DUPFD_CLOEXEC, ABOVE);
	const pid_t own = getpid();
	pid_t pid;

	syscall(SYS_close_range, 3U, ABOVE - 1U, 0U);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == own)
			copy_requests(fuse, mounted, line);
	} else if (pid > 0) {
		copy_answers(fuse, line);
	}
	_exit(0);
}

static int open_one(struct mount *mount_)
{
	_cleanup_close_ int line = connect_to_port(mount_->port);
	pid_t pid;

	if (line < 0)
		return line;
	mount_->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	mount_->mounted = eventfd(0, EFD_CLOEXEC);
	if (mount_->fuse < 0 || mount_->mounted < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run_copiers(mount_, line);
	return pid < 0 ? -errno : 0;
}

int shares_open(struct setup *setup, struct error *err)
{
	int ret;

	for (uint32_t i = 0; i < setup->mount_count; i++) {
		if (setup->mounts[i].kind != MOUNT_SHARE)
			continue;
		ret = open_one(&setup->mounts[i]);
		if (ret < 0)
			return error_errno(
				err, -ret, "the volume at %s", setup->mounts[i].destination);
	}
	return 0;
}

void shares_close(struct setup *setup)
{
	for (uint32_t i = 0; i < setup->mount_count; i++) {
		if (setup->mounts[i].fuse > 0)
			close(setup->mounts[i].fuse);
		if (setup->mounts[i].mounted > 0)
			close(setup->mounts[i].mounted);
	}
}

int share_mount(const struct mount *mount_, const char *at)
{
	char data[128];
	int ret;

	snprintf(data, sizeof(data),
		"fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other,default_permissions",
		mount_->fuse, mount_->is_file ? S_IFREG : S_IFDIR);
	ret = mount_at(
		"share", at, "fuse", mount_->flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC), data);
	return ret == 0 && eventfd_write(mount_->mounted, 1) < 0 ? -errno : ret;
}
