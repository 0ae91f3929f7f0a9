/* SPDX-License-Identifier: Apache-2.0 */
/* The PHY (a Marvell 88E1011) behind MDIC, and the link: up as long as the back end is there and
 * the driver asks for it. Autonegotiation ends at once, with 1000 Mb/s and full duplex. */
#include "emulated/e1000/private.h"

#define MDIC_OP_WRITE 0x04000000U
#define MDIC_OP_READ  0x08000000U
#define MDIC_READY    0x10000000U
#define MDIC_INT      0x20000000U
#define MDIC_ERROR    0x40000000U

#define BMCR_RESET      0x8000
#define BMCR_LOOPBACK   0x4000
#define BMCR_SPEED_LSB  0x2000
#define BMCR_AN_ENABLE  0x1000
#define BMCR_POWER_DOWN 0x0800
#define BMCR_ISOLATE    0x0400
#define BMCR_AN_RESTART 0x0200
#define BMCR_DUPLEX     0x0100
#define BMCR_SPEED_MSB  0x0040
#define BMSR_ABILITIES  0x7949
#define BMSR_AN_DONE    0x0020
#define BMSR_LINK       0x0004
#define M88_1G_FULL_UP  0xac00 /* 1000 Mb/s, full duplex, resolved, link */

void e1000_phy_reset(struct e1000 *e)
{
	memset(e->phy, 0, sizeof(e->phy));
	e->phy[PHY_CTRL] = BMCR_AN_ENABLE | BMCR_DUPLEX | BMCR_SPEED_MSB;
	e->phy[PHY_ID1] = 0x0141;
	e->phy[PHY_ID2] = 0x0c20;
	e->phy[PHY_ANAR] = 0x0de1;
	e->phy[PHY_NEXT_PAGE] = 0x2001;
	e->phy[PHY_1000T_CTRL] = 0x0e00;
	e->phy[PHY_EXT_STATUS] = 0x3000;
	e->phy[PHY_M88_CTRL] = 0x0360;
	e->phy[PHY_M88_EXT] = 0x0d60;
	e->phy_lost = false;
}

static bool wire_up(const struct e1000 *e)
{
	return !e->gone && !(e->phy[PHY_CTRL] & (BMCR_POWER_DOWN | BMCR_ISOLATE));
}

bool e1000_loopback(const struct e1000 *e)
{
	return (e1000_get(e, E1000_RCTL) & RCTL_LBM) || (e->phy[PHY_CTRL] & BMCR_LOOPBACK);
}

bool e1000_link_up(const struct e1000 *e)
{
	return wire_up(e) && (e1000_get(e, E1000_CTRL) & CTRL_SLU);
}

uint32_t e1000_status(const struct e1000 *e)
{
	uint32_t ctrl = e1000_get(e, E1000_CTRL);
	uint32_t status = STATUS_MTXCKOK | STATUS_ASDV_1G;

	if (e1000_link_up(e))
		status |= STATUS_LU;
	status |= ctrl & CTRL_FRCSPD ? (ctrl & CTRL_SPD) >> 2 : STATUS_SPEED_1G;
	status |= ctrl & CTRL_FRCDPX ? ctrl & CTRL_FD : STATUS_FD;
	return status;
}

static uint16_t phy_status(struct e1000 *e)
{
	uint16_t status = BMSR_ABILITIES;

	if (wire_up(e) && (e->phy[PHY_CTRL] & BMCR_AN_ENABLE))
		status |= BMSR_AN_DONE;
	/* A lost link is seen at least once (802.3, 22.2.4.2.13). */
	if (wire_up(e) && !e->phy_lost)
		status |= BMSR_LINK;
	e->phy_lost = false;
	return status;
}

static uint16_t phy_read(struct e1000 *e, unsigned reg)
{
	bool partner = wire_up(e) && (e->phy[PHY_CTRL] & BMCR_AN_ENABLE);

	switch (reg) {
	case PHY_STATUS:
		return phy_status(e);
	case PHY_LPA:
		return partner ? 0x45e1 : 0;
	case PHY_ANER:
		return partner ? 0x0001 : 0;
	case PHY_1000T_STAT:
		return partner ? 0x7c00 : 0;
	case PHY_M88_STATUS:
		return wire_up(e) ? M88_1G_FULL_UP : 0;
	default:
		return e->phy[reg];
	}
}

static void control_write(struct e1000 *e, uint16_t value)
{
	bool was_up = wire_up(e);

	/* A software reset keeps what was written with it. */
	e->phy[PHY_CTRL] = value & ~(BMCR_RESET | BMCR_AN_RESTART);
	if (was_up && !wire_up(e))
		e->phy_lost = true;
	if (was_up != wire_up(e) ||
		((value & BMCR_AN_RESTART) && (value & BMCR_AN_ENABLE) && wire_up(e)))
		e1000_cause(e, ICR_LSC);
}

static void phy_write(struct e1000 *e, unsigned reg, uint16_t value)
{
	switch (reg) {
	case PHY_CTRL:
		control_write(e, value);
		break;
	case PHY_STATUS:
	case PHY_ID1:
	case PHY_ID2:
	case PHY_LPA:
	case PHY_ANER:
	case PHY_1000T_STAT:
	case PHY_EXT_STATUS:
	case PHY_M88_STATUS:
		break;
	default:
		e->phy[reg] = value;
		break;
	}
}

void e1000_mdic_write(struct e1000 *e, uint32_t value)
{
	unsigned reg = value >> 16 & 31, address = value >> 21 & 31;
	uint32_t answer = (value & ~(MDIC_READY | MDIC_ERROR)) | MDIC_READY;

	if (address != PHY_ADDRESS)
		answer |= MDIC_ERROR;
	else if (value & MDIC_OP_READ)
		answer = (answer & ~0xffffU) | phy_read(e, reg);
	else if (value & MDIC_OP_WRITE)
		phy_write(e, reg, (uint16_t)value);
	*e1000_reg(e, E1000_MDIC) = answer;
	if (value & MDIC_INT)
		e1000_cause(e, ICR_MDAC);
}
