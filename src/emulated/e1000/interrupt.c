/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts (8254x manual, 3.2.7, 3.4.3 and 13.4.17 to 13.4.21). Causes gather in ICR; those that
 * IMS lets through assert the line, at most once in ITR * 256 ns; reading ICR clears them. Receive
 * and transmit causes may be put off by the delay registers, in units of 1.024 us: a packet timer
 * that each packet starts anew, and an absolute one that the first of them starts.
 */
#include "emulated/e1000/private.h"

#include "base/clock.h"

#define ITR_UNIT_NS   256
#define DELAY_UNIT_NS 1024

void e1000_interrupt_update(struct e1000 *e)
{
	uint32_t itr = e1000_get(e, E1000_ITR) & 0xffff;
	uint64_t now;

	e->deadlines[E1000_DEADLINE_ITR] = E1000_NEVER;
	if (!(e1000_get(e, E1000_ICR) & e1000_get(e, E1000_IMS))) {
		e->asserted = false;
		pci_set_intx(&e->function, false);
		return;
	}
	if (e->asserted)
		return;
	now = clock_ns();
	if (itr && now < e->next_allowed) {
		/* The interval may have been made shorter since it began. */
		e->next_allowed = min_u64(e->next_allowed, now + (uint64_t)itr * ITR_UNIT_NS);
		e->deadlines[E1000_DEADLINE_ITR] = e->next_allowed;
		return;
	}
	e->next_allowed = now + (uint64_t)itr * ITR_UNIT_NS;
	e->asserted = true;
	e->counts.interrupts++;
	pci_set_intx(&e->function, true);
}

void e1000_cause(struct e1000 *e, uint32_t causes)
{
	*e1000_reg(e, E1000_ICR) |= causes & ICR_ALL;
	e1000_interrupt_update(e);
}

uint32_t e1000_icr_read(struct e1000 *e)
{
	uint32_t causes = e1000_clear_on_read(e, E1000_ICR);

	e1000_interrupt_update(e);
	return causes;
}

/* A packet came or went: its cause comes after @delay, and not after what @last says. */
static void put_off(struct e1000 *e, enum e1000_deadline which, uint32_t delay, uint32_t absolute,
	uint64_t *last)
{
	uint64_t now = clock_ns();

	if (e->deadlines[which] == E1000_NEVER)
		*last = absolute ? now + (uint64_t)absolute * DELAY_UNIT_NS : E1000_NEVER;
	e->deadlines[which] = min_u64(now + (uint64_t)delay * DELAY_UNIT_NS, *last);
}

void e1000_received(struct e1000 *e)
{
	uint32_t delay = e1000_get(e, E1000_RDTR) & 0xffff;

	if (delay) {
		put_off(e, E1000_DEADLINE_RECEIVE, delay, e1000_get(e, E1000_RADV),
			&e->receive_last);
		return;
	}
	e->deadlines[E1000_DEADLINE_RECEIVE] = E1000_NEVER;
	e1000_cause(e, ICR_RXT0);
}

void e1000_transmitted(struct e1000 *e, bool late)
{
	uint32_t delay = e1000_get(e, E1000_TIDV) & 0xffff;

	if (late && delay) {
		put_off(e, E1000_DEADLINE_TRANSMIT, delay, e1000_get(e, E1000_TADV),
			&e->transmit_last);
		return;
	}
	e->deadlines[E1000_DEADLINE_TRANSMIT] = E1000_NEVER;
	e1000_cause(e, ICR_TXDW);
}

void e1000_flush_delay(struct e1000 *e, enum e1000_deadline deadline)
{
	if (e->deadlines[deadline] == E1000_NEVER)
		return;
	e->deadlines[deadline] = E1000_NEVER;
	e1000_cause(e, deadline == E1000_DEADLINE_RECEIVE ? ICR_RXT0 : ICR_TXDW);
}

void e1000_interrupt_reset(struct e1000 *e)
{
	for (unsigned i = 0; i < E1000_DEADLINES; i++)
		e->deadlines[i] = E1000_NEVER;
	e->next_allowed = 0;
	e1000_interrupt_update(e);
}
