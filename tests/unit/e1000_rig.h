/* SPDX-License-Identifier: Apache-2.0 */
/* The 82540EM on the fake machine with a guest's driver, and the other end of passt's stream in the
 * test's hand. What cannot be fails the test. */
#ifndef DUET_TESTS_E1000_RIG_H
#define DUET_TESTS_E1000_RIG_H

#include "emulated/e1000/private.h"
#include "fake_host.h"

/* Guest addresses of rings and buffers. */
#define CARD_RX_RING 0x10000U
#define CARD_TX_RING 0x20000U
#define CARD_RX_DATA 0x100000U
#define CARD_TX_DATA 0x200000U

#define CARD_SLOT   1
#define CARD_COUNT  32U     /* descriptors of a ring */
#define CARD_STRIDE 0x4000U /* of buffers */
#define EOP_RS      (TXD_EOP | TXD_RS)

struct e1000_rig {
	struct fake_machine machine;
	struct device *device;
	struct net *net; /* the device's */
	int other;
	uint64_t bar, ports;
	unsigned transmit_tail, receive_next;
};

void e1000_rig_init(struct e1000_rig *rig);
void e1000_rig_free(struct e1000_rig *rig);
/* The device alone, realized nowhere. */
void e1000_rig_make(struct e1000_rig *rig);

/* Registers, by their offset. */
uint32_t card_get(struct e1000_rig *rig, unsigned offset);
void card_put(struct e1000_rig *rig, unsigned offset, uint32_t value);
uint16_t card_phy_get(struct e1000_rig *rig, unsigned reg);
void card_phy_put(struct e1000_rig *rig, unsigned reg, uint16_t value);
/* What was posted to the loop before has been done. */
void card_settle(struct e1000_rig *rig);
/* Link up, both rings empty of frames, both ways enabled; @rctl: more bits of E1000_RCTL. */
void card_rings_up(struct e1000_rig *rig, uint32_t rctl);
bool card_await_line(struct e1000_rig *rig, bool level);

/* Any index: the ring goes round. */
uint8_t *card_transmit_descriptor(struct e1000_rig *rig, unsigned index);
/* Puts the next transmit descriptor, which card_go() gives to the card. */
void card_describe(
	struct e1000_rig *rig, uint64_t buffer, uint32_t lower, uint8_t options, uint16_t special);
/* As card_describe(), of a context for frames of card_tcp_frame(). */
void card_context(struct e1000_rig *rig, uint32_t lower, unsigned hdr_len, unsigned mss);
void card_go(struct e1000_rig *rig);
/* Waits for the next receive descriptor; its status. */
uint8_t card_await_receive(struct e1000_rig *rig, uint16_t *length);
/* The buffer of the one awaited last. */
const uint8_t *card_received(const struct e1000_rig *rig);

void network_sends(struct e1000_rig *rig, const uint8_t *frame, uint32_t length);
/* Waits for the next frame; its length. */
uint32_t network_takes(struct e1000_rig *rig, uint8_t *to, size_t room);
/* Nothing has come of all that was given to the card. */
bool network_is_silent(struct e1000_rig *rig);

/* Bytes that are others at each place and for each @seed. */
void card_pattern(uint8_t *bytes, size_t length, unsigned seed);
void card_be16(uint8_t *to, unsigned value);
/* Ethernet, IPv4 and TCP headers of 54 bytes before @payload bytes; checksums as a driver leaves
 * them, @pseudo the length in the pseudo header. */
void card_tcp_frame(uint8_t *frame, uint32_t payload, uint32_t pseudo);

#endif
