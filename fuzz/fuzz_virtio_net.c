/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of passt's stream, with frames of any length, plays the network. */
#include "device_fuzz.h"

#include "backend/net_private.h"
#include "virtio/devices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define STREAM_ROOM 65536 /* bytes; a socket holds three times as many */

enum {
	RECEIVE,
	TRANSMIT,
	CONTROL
};

static int create(struct device_fuzz *fuzz, struct error *err)
{
	struct virtio_net_options options = {
		.mac = {2, 0, 0, 0, 0, 1}, .mtu = 9000, .packed = true, .offloads = true};
	int pair[2], ret;

	device_fuzz_must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socket");
	fuzz->fds[0] = pair[1];
	ret = passt_open_stream(&options.net, pair[0], err);
	return ret < 0 ? ret : virtio_net_new(&fuzz->device, "net0", &options, err);
}

/* virtio's header: mostly one that asks for nothing. Also a command's class and number. */
static void head(struct device_fuzz *fuzz, struct input *input, uint8_t *at)
{
	uint8_t kind = (uint8_t)input_number(input, 1);

	memset(at, 0, 12);
	if (kind & 0xf0) {
		at[0] = kind & 7;
		at[1] = (uint8_t)input_number(input, 1) & 7;
	}
}

static void read_everything(struct device_fuzz *fuzz)
{
	uint8_t bytes[65536];

	while (recv(fuzz->fds[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void send_frame(struct device_fuzz *fuzz, uint32_t length)
{
	static const uint8_t zeroes[65536];
	uint32_t prefix = htonl(length);
	struct iovec pieces[] = {{&prefix, sizeof(prefix)}, {(void *)zeroes, length}};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
	ssize_t sent = sendmsg(fuzz->fds[0], &message, MSG_DONTWAIT);

	/* The stream must stay whole, and nobody would read while this thread waits. */
	device_fuzz_must(sent == (ssize_t)length + 4, "the network is cut off");
}

/* What the device has not read yet leaves room for two frames: that of honest() is the second. */
static bool has_room(const struct device_fuzz *fuzz)
{
	int unread = 0;

	return ioctl(fuzz->fds[0], SIOCOUTQ, &unread) == 0 && unread < STREAM_ROOM;
}

static void outside(struct device_fuzz *fuzz, struct input *input)
{
	uint8_t what = (uint8_t)input_number(input, 1);

	if (what & 1)
		read_everything(fuzz);
	else if (has_room(fuzz))
		send_frame(fuzz, (uint32_t)input_number(input, what & 2 ? 1 : 2));
}

/* Frames of before come first; each takes a buffer of 64 KiB. */
static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer command[] = {{FUZZ_DATA, 3, false}, {FUZZ_DATA + 16, 1, true}};
	const struct ring_buffer frame = {FUZZ_DATA, 12 + 60, false};
	const struct ring_buffer room = {FUZZ_DATA, 66000, true};
	uint32_t written = 0;

	read_everything(fuzz);
	memset(fuzz->machine.ram + FUZZ_DATA, 0, 128);
	if (!device_fuzz_request(fuzz, CONTROL, command, 2, &written) || written != 1)
		return false;
	if (!device_fuzz_request(fuzz, TRANSMIT, &frame, 1, &written))
		return false;
	send_frame(fuzz, 33);
	while (written != 12 + 33)
		if (!device_fuzz_request(fuzz, RECEIVE, &room, 1, &written))
			return false;
	return true;
}

static const struct device_fuzz_target target = {
	.queues = 3,
	.create = create,
	.features = 0xffffff,
	.head = head,
	.outside = outside,
	.honest = honest,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct device_fuzz fuzz;

	device_fuzz_one(&fuzz, &target, data, size);
	return 0;
}
