/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 82540EM: what its files share.
 *
 * Threads: registers are read and written on vCPU threads, under the device's lock. Frames move on
 * the I/O loop, which takes the lock for each descriptor's worth of work and leaves it for the back
 * end's system calls. Guest memory is touched only under the lock, so that a driver that has
 * switched a ring off, or reset the device, may take its memory back when the write returned. A
 * page of it may have yet to come, over a line that is cut (post-copy): so the main thread, which
 * has to end the machine then, does not wait for the lock while the device is not at rest.
 */
#ifndef DUET_EMULATED_E1000_PRIVATE_H
#define DUET_EMULATED_E1000_PRIVATE_H

#include "base/bytes.h"
#include "base/checked.h"
#include "base/log.h"
#include "emulated/e1000/e1000.h"
#include "emulated/e1000/registers.h"
#include "pci/pci.h"

#include <pthread.h>

#define E1000_BAR_SIZE      0x20000
#define E1000_IO_SIZE       64
#define E1000_WORDS         (0x6000 / 4) /* of registers that are kept */
#define E1000_REGISTERS_MAX 192          /* entries of the table, arrays count once */
#define E1000_EEPROM_WORDS  64
#define E1000_PHY_REGISTERS 32
#define E1000_RA_ENTRIES    16
#define E1000_DESCRIPTOR    16
#define E1000_FRAME_MIN     60 /* without FCS */
#define E1000_FCS           4
/* What a frame or a segmentation request may hold, and the longest frame of the wire. */
#define E1000_REQUEST_MAX         (NET_FRAME_MAX - NET_HEADER_SIZE - 4)
#define E1000_WIRE_MAX            16384
#define E1000_DESCRIPTORS_A_FRAME 512 /* looked at under the lock before others' turn */

/* Deadlines that the one timer serves. */
enum e1000_deadline {
	E1000_DEADLINE_ITR,
	E1000_DEADLINE_RECEIVE,
	E1000_DEADLINE_TRANSMIT,
	E1000_DEADLINES
};
#define E1000_NEVER UINT64_MAX

enum e1000_work {
	E1000_WORK_RECEIVE = 1,
	E1000_WORK_TRANSMIT = 2,
	E1000_WORK_TIMER = 4
};

/* A microwire memory of 64 words (93C46), on the pins of EECD. */
struct e1000_eeprom {
	uint16_t words[E1000_EEPROM_WORDS];
	uint32_t pins;
	uint8_t phase; /* enum in eeprom.c */
	uint8_t bits;  /* taken or given in this phase */
	uint8_t address;
	uint16_t shift;
	bool out, writable;
};

/* A context descriptor (3.3.6): what to do with the frames that follow. */
struct e1000_context {
	uint8_t ipcss, ipcso, tucss, tucso, hdr_len;
	uint16_t ipcse, tucse, mss;
	uint32_t paylen;
	bool tcp, ip;
};

/* The packet that the transmit descriptors spell; the I/O loop's. */
struct e1000_packet {
	struct e1000_context context; /* the one it was begun under */
	uint32_t length;
	uint32_t sent; /* payload bytes of its segments that are gone */
	uint32_t segments;
	uint16_t tag, vet;
	uint8_t popts, css, cso;
	bool begun, ready, dropped, segmented, insert, tagged, pad, loopback;
};

struct e1000_transmit {
	struct e1000_packet packet;
	struct e1000_context plain, segmentation;
	bool report, report_late, emptied; /* interrupt causes that are due */
	uint32_t generation;
	uint8_t *frame;   /* the packet, E1000_REQUEST_MAX */
	uint8_t *segment; /* one of its segments, likewise */
};

struct e1000_receive {
	uint32_t held;  /* a frame taken from the back end that awaits descriptors; its length */
	bool counted;   /* as one that found none */
	bool checked;   /* the host vouches for its TCP or UDP checksum */
	uint8_t *frame; /* NET_FRAME_MAX, virtio's header in front */
};

struct e1000_counts {
	uint64_t frames_received, bytes_received, frames_sent, bytes_sent;
	uint64_t dropped, filtered, interrupts, dma_errors;
};

struct e1000 {
	struct pci_function function; /* first */
	struct net *net;
	uint8_t mac[6];
	char memory_name[48], io_name[48]; /* of the BARs' ranges */
	struct memory *memory;
	struct loop *io;
	pthread_mutex_t lock;
	/* Of the main thread's wishes, inside the other or alone. */
	pthread_mutex_t wish_lock;
	bool wanted;     /* by the machine: it is not to rest */
	unsigned asking; /* the machine waits for device_at_rest(); 0: it does not */
	bool following;  /* @life is posted */
	/* @lock's from here on. */
	bool running;  /* frames move */
	bool attached; /* the back end is on the loop */
	bool gone;     /* the back end is */
	bool master;   /* the command register lets the device reach memory */
	struct log_guest_limit guest_log;

	uint32_t regs[E1000_WORDS];
	uint64_t reads[E1000_REGISTERS_MAX], writes[E1000_REGISTERS_MAX]; /* of the table */
	uint32_t io_address;
	struct e1000_eeprom eeprom;
	uint16_t phy[E1000_PHY_REGISTERS];
	bool phy_lost;       /* the link was down since PHY_STATUS was read */
	uint32_t generation; /* counts what makes frames in progress void */
	struct e1000_counts counts;

	bool asserted;         /* the interrupt line */
	uint64_t next_allowed; /* interrupt, by ITR; ns of CLOCK_MONOTONIC */
	uint64_t deadlines[E1000_DEADLINES];
	uint64_t receive_last, transmit_last; /* where RADV and TADV end the waiting */

	struct loop_task life; /* to and from rest */
	struct loop_task work;
	unsigned work_bits; /* enum e1000_work */
	bool posted;

	/* The I/O loop's from here on, but for timer_at. */
	bool transmit_first; /* in this turn of @work */
	struct loop_timer timer;
	uint64_t timer_at; /* under the lock; E1000_NEVER: not set */
	struct e1000_transmit transmit;
	struct e1000_receive receive;
};

static inline uint32_t *e1000_reg(struct e1000 *e, unsigned offset)
{
	return &e->regs[offset / 4];
}

static inline uint32_t e1000_get(const struct e1000 *e, unsigned offset)
{
	return e->regs[offset / 4];
}

/* A ring's registers, for receive and transmit alike: from RDBAL or TDBAL on. */
struct e1000_ring {
	gpa_t base;
	uint32_t count, head, tail; /* count 0: nothing that could be worked on */
};
struct e1000_ring e1000_ring(const struct e1000 *e, unsigned base);
static inline uint32_t e1000_ring_filled(const struct e1000_ring *ring)
{
	return ring->head <= ring->tail ? ring->tail - ring->head
					: ring->count - ring->head + ring->tail;
}

/* All functions below want the lock held, but where they say otherwise. */

/* receive.c: writes the status byte of a descriptor of either ring, after all that was
 * written before. False: it is not memory. */
bool e1000_set_status(struct e1000 *e, gpa_t descriptor, uint8_t status);

/* e1000.c. Reset as by CTRL.RST. */
void e1000_reset(struct e1000 *e);
/* Frames go round inside the device. */
bool e1000_loopback(const struct e1000 *e);
/* Follows the command register. */
void e1000_follow_config(struct e1000 *e);
/* The I/O loop does @work soon. */
void e1000_post(struct e1000 *e, unsigned work);
/* Counts and tells, within limits, that a descriptor or buffer is not memory. */
void e1000_dma_error(struct e1000 *e, const char *what);

/* register_table.c: the register table, and the bus's accesses (which take the lock). */
extern const struct bus_ops e1000_memory_ops, e1000_io_ops;
void e1000_registers_init(struct e1000 *e);
void e1000_registers_stats(const struct e1000 *e, struct stats_sink *sink);
void e1000_registers_save(const struct e1000 *e, struct state_writer *writer);
void e1000_registers_restore(struct e1000 *e, struct state_reader *reader);

/* interrupt.c */
void e1000_cause(struct e1000 *e, uint32_t causes);
/* After ICR, IMS or ITR changed. */
void e1000_interrupt_update(struct e1000 *e);
uint32_t e1000_icr_read(struct e1000 *e);
void e1000_received(struct e1000 *e);
void e1000_transmitted(struct e1000 *e, bool late);
/* FPD: what RDTR or TIDV delays comes now. */
void e1000_flush_delay(struct e1000 *e, enum e1000_deadline deadline);
void e1000_interrupt_reset(struct e1000 *e);
/* timer.c. arm and stop: on the I/O loop. request: any thread. */
void e1000_timer_init(struct e1000 *e);
void e1000_timer_arm(struct e1000 *e);
void e1000_timer_request(struct e1000 *e);
void e1000_timer_stop(struct e1000 *e);

/* eeprom.c */
void e1000_eeprom_init(struct e1000_eeprom *eeprom, const uint8_t *mac);
uint32_t e1000_eecd_read(const struct e1000_eeprom *eeprom);
void e1000_eecd_write(struct e1000_eeprom *eeprom, uint32_t value);
/* Whether restored fields are such as the functions here leave. */
bool e1000_eeprom_valid(const struct e1000_eeprom *eeprom);
uint32_t e1000_eerd(const struct e1000_eeprom *eeprom, uint32_t value);

/* phy.c */
void e1000_phy_reset(struct e1000 *e);
void e1000_mdic_write(struct e1000 *e, uint32_t value);
uint32_t e1000_status(const struct e1000 *e);
bool e1000_link_up(const struct e1000 *e);

/* filter.c. 1: for the guest; 2: by the inexact filter; 0: not. */
int e1000_filter(const struct e1000 *e, const uint8_t *frame);
bool e1000_filter_vlan(const struct e1000 *e, uint16_t tag);

/* receive.c. receive: on the I/O loop, takes the lock. deliver: @frame has room for
 * E1000_FRAME_MIN and FCS; false: there are too few descriptors now. */
void e1000_receive(struct e1000 *e);
bool e1000_deliver(struct e1000 *e, uint8_t *frame, uint32_t length, bool checked);

/* transmit.c: on the I/O loop, takes the lock. */
void e1000_transmit(struct e1000 *e);
/* offload.c: on the I/O loop, without the lock. -EAGAIN: the back end will tell when
 * it takes the rest; -EINPROGRESS: the rest of it after others' turn. */
int e1000_send(struct e1000 *e, struct e1000_packet *packet);

/* checksum.c: pure functions. */
uint32_t e1000_sum(const uint8_t *bytes, size_t length);
uint16_t e1000_fold(uint64_t sum);
/* Puts the checksum of [@start, @end) to @at, as far as they lie in the frame. */
void e1000_insert_checksum(
	uint8_t *frame, uint32_t length, uint32_t start, uint32_t at, uint32_t end);
struct e1000_verdict {
	uint8_t status, errors; /* of the receive descriptor */
};
struct e1000_verdict e1000_verify(
	const uint8_t *frame, uint32_t length, uint32_t rxcsum, bool checked);

/* statistics.c */
void e1000_count_received(struct e1000 *e, const uint8_t *frame, uint32_t length);
void e1000_count_sent(struct e1000 *e, const uint8_t *frame, uint32_t length, unsigned frames);
uint32_t e1000_clear_on_read(struct e1000 *e, unsigned offset);
uint32_t e1000_clear_pair_on_read(struct e1000 *e, unsigned offset);

/* save.c */
void e1000_save(struct device *device, struct state_writer *writer);
int e1000_restore(struct device *device, struct state_reader *reader, struct error *err);

#endif
