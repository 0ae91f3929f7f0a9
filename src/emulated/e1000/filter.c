/* SPDX-License-Identifier: Apache-2.0 */
/* Which frames are for the guest (8254x manual, 3.2.1 and 9.3): exact addresses, the multicast
 * hash table, the VLAN table. */
#include "emulated/e1000/private.h"

static bool exact(const struct e1000 *e, const uint8_t *address)
{
	for (unsigned i = 0; i < E1000_RA_ENTRIES; i++) {
		uint32_t low = e->regs[E1000_RA / 4 + 2 * i];
		uint32_t high = e->regs[E1000_RA / 4 + 2 * i + 1];

		/* AS 0: an entry for destination addresses. */
		if ((high & RAH_AV) && !(high >> 16 & 3) && low == load_le32(address) &&
			(high & 0xffff) == load_le16(address + 4))
			return true;
	}
	return false;
}

static bool hashed(const struct e1000 *e, const uint8_t *address)
{
	static const uint8_t shifts[] = {4, 3, 2, 0};
	unsigned hash =
		(unsigned)load_le16(address + 4) >> shifts[RCTL_MO(e1000_get(e, E1000_RCTL))] &
		0xfff;

	return e->regs[E1000_MTA / 4 + hash / 32] >> hash % 32 & 1;
}

int e1000_filter(const struct e1000 *e, const uint8_t *frame)
{
	static const uint8_t broadcast[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint32_t rctl = e1000_get(e, E1000_RCTL);

	if (memcmp(frame, broadcast, sizeof(broadcast)) == 0 && (rctl & RCTL_BAM))
		return 1;
	if (exact(e, frame))
		return 1;
	if (!(frame[0] & 1))
		return rctl & RCTL_UPE ? 1 : 0;
	if (rctl & RCTL_MPE)
		return 1;
	return hashed(e, frame) ? 2 : 0;
}

bool e1000_filter_vlan(const struct e1000 *e, uint16_t tag)
{
	uint32_t rctl = e1000_get(e, E1000_RCTL);
	unsigned id = tag & 0xfff;

	if (!(rctl & RCTL_VFE))
		return true;
	if ((rctl & RCTL_CFIEN) && (tag >> 12 & 1) != !!(rctl & RCTL_CFI))
		return false;
	return e->regs[E1000_VFTA / 4 + id / 32] >> id % 32 & 1;
}
