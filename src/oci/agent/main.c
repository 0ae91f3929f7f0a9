/* SPDX-License-Identifier: Apache-2.0 */
/* duet-agent, the first process of a container's VM: it makes the container as the host says, and
 * does what it is asked until the container's process has ended. Then the VM is over. */
#include "oci/agent/box.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int connect_to_host(struct error *err)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = AGENT_CALLS_PORT};
	const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&host, sizeof(host)) == 0)
		return fd;
	return error_errno(err, errno, "the line to the host");
}

static int listen_to_host(struct error *err)
{
	const struct sockaddr_vm own = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_PORT};
	const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&own, sizeof(own)) == 0 &&
		listen(fd, SOMAXCONN) == 0)
		return fd;
	return error_errno(err, errno, "a line for the host");
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int serve(struct error *err)
{
	struct box box = {.init_fd = -1, .line = -1};
	int ret, listener, control;

	block_signals();
	ret = box_boot(err);
	if (ret < 0)
		return ret;
	/* Who is told that the agent is there may ask at once. */
	listener = listen_to_host(err);
	control = listener < 0 ? listener : connect_to_host(err);
	if (control < 0)
		return control;
	ret = server_run(&box_ops, &box, control, listener);
	return ret < 0 ? error_errno(err, -ret, "the lines to the host") : 0;
}

int main(void)
{
	struct error err = {0};

	/* On the VM's console, of which the host keeps the last words. */
	if (serve(&err) < 0)
		fprintf(stderr, "duet-agent: %s\n", err.text);
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
