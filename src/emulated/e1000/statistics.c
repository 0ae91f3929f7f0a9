/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics registers (8254x manual, 13.7): they stick at their highest value and are cleared
 * when they are read; lengths are the wire's, with padding and FCS. */
#include "emulated/e1000/private.h"

static void add(struct e1000 *e, unsigned offset, uint32_t number)
{
	uint32_t *value = e1000_reg(e, offset);

	if (__builtin_add_overflow(*value, number, value))
		*value = UINT32_MAX;
}

static void add_pair(struct e1000 *e, unsigned offset, uint64_t number)
{
	uint64_t sum = (uint64_t)e1000_get(e, offset + 4) << 32 | e1000_get(e, offset);

	if (add_overflows(sum, number, &sum))
		sum = UINT64_MAX;
	*e1000_reg(e, offset) = (uint32_t)sum;
	*e1000_reg(e, offset + 4) = (uint32_t)(sum >> 32);
}

/* The register of a frame's size among six, from that for 64 bytes on. */
static unsigned by_size(unsigned first, uint32_t wire)
{
	static const uint16_t most[] = {64, 127, 255, 511, 1023};
	unsigned i = 0;

	while (i < ARRAY_SIZE(most) && wire > most[i])
		i++;
	return first + 4 * i;
}

static bool is_broadcast(const uint8_t *frame)
{
	return (frame[0] & frame[1] & frame[2] & frame[3] & frame[4] & frame[5]) == 0xff;
}

static uint32_t on_the_wire(uint32_t length)
{
	return (length < E1000_FRAME_MIN ? E1000_FRAME_MIN : length) + E1000_FCS;
}

void e1000_count_received(struct e1000 *e, const uint8_t *frame, uint32_t length)
{
	uint32_t wire = on_the_wire(length);

	add(e, E1000_TPR, 1);
	add(e, E1000_GPRC, 1);
	add_pair(e, E1000_TORL, wire);
	add_pair(e, E1000_GORCL, wire);
	add(e, by_size(E1000_PRC64, wire), 1);
	if (is_broadcast(frame))
		add(e, E1000_BPRC, 1);
	else if (frame[0] & 1)
		add(e, E1000_MPRC, 1);
	e->counts.frames_received++;
	e->counts.bytes_received += length;
}

/* @frames of @length bytes in all. */
void e1000_count_sent(struct e1000 *e, const uint8_t *frame, uint32_t length, unsigned frames)
{
	uint32_t each = on_the_wire(length / frames);
	uint64_t wire = (uint64_t)length + (uint64_t)frames * E1000_FCS;

	if (frames == 1)
		wire = each;
	add(e, E1000_TPT, frames);
	add(e, E1000_GPTC, frames);
	add_pair(e, E1000_TOTL, wire);
	add_pair(e, E1000_GOTCL, wire);
	add(e, by_size(E1000_PTC64, each), frames);
	if (is_broadcast(frame))
		add(e, E1000_BPTC, frames);
	else if (frame[0] & 1)
		add(e, E1000_MPTC, frames);
	e->counts.frames_sent += frames;
	e->counts.bytes_sent += length;
}

uint32_t e1000_clear_on_read(struct e1000 *e, unsigned offset)
{
	uint32_t value = e1000_get(e, offset);

	*e1000_reg(e, offset) = 0;
	return value;
}

/* The upper half of 64 bits is read last, and clears both. */
uint32_t e1000_clear_pair_on_read(struct e1000 *e, unsigned offset)
{
	*e1000_reg(e, offset - 4) = 0;
	return e1000_clear_on_read(e, offset);
}
