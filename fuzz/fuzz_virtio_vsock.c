/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that lies about its streams; programs of the host connect, listen, read, write and go
 * when the input says so. */
#include "device_fuzz.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "virtio/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	RECEIVE,
	TRANSMIT,
	EVENT,
};

enum { /* of fds: the host's programs */
	LISTENER,
	ACCEPTED,
	CONNECTED,
};

#define CID          3
#define HEADER       44
#define HOST_PORT    52
#define FIRST_PORT   (1U << 30)
#define OP_REQUEST   1
#define OP_RESPONSE  2
#define OP_RST       3
#define PATIENCE_NS  1000000
#define ROOM_AT      (FUZZ_DATA + 0x4000)
#define PACKETS      64 /* that an honest driver takes before the one that it awaits */
#define TYPE_STREAM  1
#define BUFFER_ALLOC 65536

static char directory[] = "/tmp/duet-fuzz-vsock-XXXXXX";

/* Also at the end: the directory is the process's own. */
static void clean(void)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/v_%u", directory, HOST_PORT);
	unlink(path);
	snprintf(path, sizeof(path), "%s/v", directory);
	unlink(path);
	rmdir(directory);
}

static int socket_at(struct sockaddr_un *address, const char *name)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", directory, name);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int create(struct device_fuzz *fuzz, struct error *err)
{
	struct virtio_vsock_options options = {.cid = CID, .patience = PATIENCE_NS, .packed = true};
	struct sockaddr_un address;
	char path[96];

	device_fuzz_must(mkdtemp(directory) != NULL, "mkdtemp");
	atexit(clean);
	fuzz->fds[LISTENER] = socket_at(&address, "v_52");
	fuzz->fds[ACCEPTED] = fuzz->fds[CONNECTED] = -1;
	device_fuzz_must(bind(fuzz->fds[LISTENER], (const void *)&address, sizeof(address)) == 0 &&
				 listen(fuzz->fds[LISTENER], 64) == 0,
		"listen");
	snprintf(path, sizeof(path), "%s/v", directory);
	device_fuzz_must(vsock_host_open(&options.host, path, err) == 0, "vsock_host_open");
	return virtio_vsock_new(&fuzz->device, "vsock0", &options, err);
}

static void put_header(
	uint8_t *at, uint32_t guest_port, uint32_t host_port, uint32_t length, uint16_t op)
{
	memset(at, 0, HEADER);
	store_le64(at, CID);
	store_le64(at + 8, 2);
	store_le32(at + 16, guest_port);
	store_le32(at + 20, host_port);
	store_le32(at + 24, length);
	store_le16(at + 28, TYPE_STREAM);
	store_le16(at + 30, op);
	store_le32(at + 36, BUFFER_ALLOC);
}

/* Few ports, so that packets meet; more than the 16 bytes of room, which lie in free memory. */
static void head(struct device_fuzz *fuzz, struct input *input, uint8_t *at)
{
	uint8_t what = (uint8_t)input_number(input, 1), ports = (uint8_t)input_number(input, 1);
	uint32_t host = ports & 8 ? FIRST_PORT + (ports >> 4) : HOST_PORT;

	(void)fuzz;
	put_header(at, ports & 7, host, (uint32_t)input_number(input, 2), what & 7);
	store_le32(at + 32, what >> 3 & 3);
	if (what & 0x20)
		store_le32(at + 36, (uint32_t)input_number(input, 4));
	if (what & 0x40)
		store_le32(at + 40, (uint32_t)input_number(input, 4));
	if (what & 0x80)
		input_bytes(input, at + (input_number(input, 1) % 40), 4);
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void take(struct device_fuzz *fuzz)
{
	int fd = accept4(fuzz->fds[LISTENER], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	drop(&fuzz->fds[ACCEPTED]);
	fuzz->fds[ACCEPTED] = fd;
}

static void connect_as(struct device_fuzz *fuzz, uint8_t port)
{
	struct sockaddr_un address;
	int fd = socket_at(&address, "v");
	char line[32];
	int length = snprintf(line, sizeof(line), "CONNECT %u\n", port & 7);

	drop(&fuzz->fds[CONNECTED]);
	fuzz->fds[CONNECTED] = fd;
	if (connect(fd, (const void *)&address, sizeof(address)) == 0)
		send(fd, line, (size_t)(port & 0x80 ? length / 2 : length), MSG_NOSIGNAL);
}

static void read_everything(int fd)
{
	uint8_t bytes[65536];

	while (fd >= 0 && recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void outside(struct device_fuzz *fuzz, struct input *input)
{
	static const uint8_t bytes[65536];
	uint8_t what = (uint8_t)input_number(input, 1);
	int *fd = &fuzz->fds[what & 8 ? ACCEPTED : CONNECTED];

	switch (what & 7) {
	case 0:
	case 1:
		take(fuzz);
		break;
	case 2:
		connect_as(fuzz, what >> 3);
		break;
	case 3:
		read_everything(*fd);
		break;
	case 4:
		if (*fd >= 0)
			send(*fd, bytes, input_number(input, 2), MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 5:
		if (*fd >= 0)
			shutdown(*fd, what >> 4 & 1 ? SHUT_WR : SHUT_RD);
		break;
	default:
		drop(fd);
		break;
	}
}

/* Takes packets until there is one from @host_port of @op, and its data; its length, or -1. */
static int hear(struct device_fuzz *fuzz, uint16_t op)
{
	const struct ring_buffer room = {ROOM_AT, 4096, true};
	const uint8_t *at = fuzz->machine.ram + ROOM_AT;
	uint32_t written;

	for (unsigned i = 0; i < PACKETS; i++) {
		if (!device_fuzz_request(fuzz, RECEIVE, &room, 1, &written))
			return -1;
		device_fuzz_must(written >= HEADER && load_le32(at + 24) == written - HEADER,
			"a packet is not as long as it says");
		if (load_le16(at + 30) == op && load_le32(at + 16) == HOST_PORT)
			return (int)(written - HEADER);
	}
	return -1;
}

/* The device was reset: of the guests before nothing is left but who waits to be accepted. */
static bool honest(struct device_fuzz *fuzz)
{
	const struct ring_buffer packet = {FUZZ_DATA, HEADER + 2, false};
	uint8_t *at = fuzz->machine.ram + FUZZ_DATA;
	uint8_t byte = 0;
	uint32_t written;

	drop(&fuzz->fds[ACCEPTED]);
	drop(&fuzz->fds[CONNECTED]);
	do {
		drop(&fuzz->fds[ACCEPTED]);
		take(fuzz);
	} while (fuzz->fds[ACCEPTED] >= 0);
	put_header(at, 9, HOST_PORT, 0, OP_REQUEST);
	if (!device_fuzz_request(fuzz, TRANSMIT, &packet, 1, &written) ||
		hear(fuzz, OP_RESPONSE) != 0)
		return false;
	take(fuzz);
	put_header(at, 9, HOST_PORT, 2, 5);
	at[HEADER] = 'o';
	if (!device_fuzz_request(fuzz, TRANSMIT, &packet, 1, &written))
		return false;
	device_fuzz_must(recv(fuzz->fds[ACCEPTED], &byte, 1, MSG_DONTWAIT) == 1 && byte == 'o',
		"the host does not get what the guest sent");
	send(fuzz->fds[ACCEPTED], "abc", 3, MSG_NOSIGNAL);
	if (hear(fuzz, 5) != 3)
		return false;
	put_header(at, 9, HOST_PORT, 0, OP_RST);
	return device_fuzz_request(fuzz, TRANSMIT, &packet, 1, &written);
}

static const struct device_fuzz_target target = {
	.queues = 3,
	.create = create,
	.features = 1,
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
