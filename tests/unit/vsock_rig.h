/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock on the fake machine: a guest's driver, and programs of the host on real unix
 * sockets. What cannot be fails the test. */
#ifndef DUET_TESTS_VSOCK_RIG_H
#define DUET_TESTS_VSOCK_RIG_H

#include "device_rig.h"

#define GUEST_CID     77
#define GUEST_PORT    1000
#define GUEST_BUFFERS 32 /* that wait for packets */
#define HOST_PORT     52
#define HOST_ALLOC    (128U << 10) /* what the device says of its buffers */

#define PACKET_HEADER 44
#define PACKET_BUFFER 4096
#define PACKET_SENT   (DEVICE_RIG_DATA + 0x100000) /* where the driver has what it sends */

enum {
	QUEUE_RECEIVE,
	QUEUE_TRANSMIT,
	QUEUE_EVENT,
};

/* Of packets (5.10.6). */
enum {
	OP_REQUEST = 1,
	OP_RESPONSE,
	OP_RST,
	OP_SHUTDOWN,
	OP_RW,
	OP_CREDIT_UPDATE,
	OP_CREDIT_REQUEST,
};

struct vsock_rig {
	struct device_rig rig;
	char directory[64], path[96];
	uint32_t alloc; /* what the driver says of its buffers */
	uint32_t forwarded;
};

struct vsock_packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, length;
	uint16_t type, op;
	uint32_t flags, alloc, forwarded;
	uint8_t data[PACKET_BUFFER];
};

/* The device started, without a driver. */
void vsock_rig_new(struct vsock_rig *rig);
/* And with one that has GUEST_BUFFERS buffers there. */
void vsock_rig_init(struct vsock_rig *rig);
void vsock_rig_free(struct vsock_rig *rig);
/* One of the device's statistics; waits until it is @value. */
uint64_t vsock_counted(struct vsock_rig *rig, const char *name);
void vsock_await_count(struct vsock_rig *rig, const char *name, uint64_t value);

/* The driver resets the device and begins, with so many buffers there. */
void guest_up(struct vsock_rig *rig, uint64_t features, unsigned buffers);
/* One buffer, which comes back as number @index. */
void guest_offers(struct vsock_rig *rig, unsigned index);
/* To GUEST_CID's host, from the guest; no flags, no data. */
struct vsock_packet guest_packet(
	struct vsock_rig *rig, uint32_t guest_port, uint32_t host_port, uint16_t op);
void guest_puts_header(uint8_t *at, const struct vsock_packet *packet);
/* @bytes of data really there; all else as it stands. */
void guest_sends(struct vsock_rig *rig, const struct vsock_packet *packet, uint32_t bytes);
void guest_says(struct vsock_rig *rig, uint32_t guest_port, uint32_t host_port, uint16_t op,
	uint32_t flags);
/* @length bytes of @byte. */
void guest_says_data(struct vsock_rig *rig, uint32_t guest_port, uint32_t host_port, uint8_t byte,
	uint32_t length);
/* The next packet to the guest; its buffer is offered again. */
void guest_hears(struct vsock_rig *rig, struct vsock_packet *packet);
/* As guest_hears(), and it is this one. */
void guest_expects(
	struct vsock_rig *rig, struct vsock_packet *packet, uint16_t op, uint32_t guest_port);
/* After a moment, in which something could have come. */
bool guest_hears_nothing(struct vsock_rig *rig);

/* A socket for the guest's connections to HOST_PORT. */
int host_listens(struct vsock_rig *rig);
/* A connection to the device's socket, which says nothing yet, or @line. */
int host_reaches(struct vsock_rig *rig);
int host_connects(struct vsock_rig *rig, const char *line);
/* Reads all of @length bytes, each of which is @byte. */
void host_expects_bytes(int fd, uint8_t byte, size_t length);
void host_expects_end(int fd);

/* The guest's port @guest_port to HOST_PORT; the host's end. */
int guest_connects(struct vsock_rig *rig, int listening, uint32_t guest_port);
/* The host's end of a connection to the guest's port GUEST_PORT. */
int host_connected(struct vsock_rig *rig, uint32_t *host_port);

#endif
