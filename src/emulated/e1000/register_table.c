/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register table: what each register keeps of a write, and which have functions of their own.
 * Every access is counted by register. Reached through BAR 0, and by number and value through the
 * two ports of BAR 1 (8254x manual, 4.1.4 and 13.2).
 */
#include "emulated/e1000/private.h"

#include <stdio.h>

struct reg {
	uint16_t offset;
	uint16_t words; /* 0 counts as 1 */
	uint32_t writable;
	const char *name;
	uint32_t (*read)(struct e1000 *e, unsigned offset);
	void (*write)(struct e1000 *e, unsigned offset, uint32_t value);
};

static uint32_t read_status(struct e1000 *e, unsigned offset)
{
	(void)offset;
	return e1000_status(e);
}

static uint32_t read_eecd(struct e1000 *e, unsigned offset)
{
	(void)offset;
	return e1000_eecd_read(&e->eeprom);
}

static uint32_t read_icr(struct e1000 *e, unsigned offset)
{
	(void)offset;
	return e1000_icr_read(e);
}

static uint32_t read_zero(struct e1000 *e, unsigned offset)
{
	(void)e;
	(void)offset;
	return 0;
}

/* The transmit buffer is what the receive buffer leaves of 64 KiB. */
static uint32_t read_pba(struct e1000 *e, unsigned offset)
{
	uint32_t receive = e1000_get(e, offset) & 0x7f;

	return (receive < 64 ? 64 - receive : 0) << 16 | receive;
}

static bool hears_wire(const struct e1000 *e)
{
	return e1000_link_up(e) && !e1000_loopback(e);
}

/* After a link, a loopback or a power-down may have changed: frames have waited. */
static void hear_again(struct e1000 *e, bool heard)
{
	if (!heard && hears_wire(e))
		e1000_post(e, E1000_WORK_RECEIVE);
}

static void write_ctrl(struct e1000 *e, unsigned offset, uint32_t value)
{
	bool was_up = e1000_link_up(e), heard = hears_wire(e);

	if (value & CTRL_RST) {
		e1000_reset(e);
		return;
	}
	*e1000_reg(e, offset) = value & ~CTRL_PHY_RST;
	if (value & CTRL_PHY_RST)
		e1000_phy_reset(e);
	if (was_up != e1000_link_up(e))
		e1000_cause(e, ICR_LSC);
	hear_again(e, heard);
}

static void write_eecd(struct e1000 *e, unsigned offset, uint32_t value)
{
	(void)offset;
	e1000_eecd_write(&e->eeprom, value);
}

static void write_eerd(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = e1000_eerd(&e->eeprom, value);
}

static void write_mdic(struct e1000 *e, unsigned offset, uint32_t value)
{
	bool heard = hears_wire(e);

	(void)offset;
	e1000_mdic_write(e, value);
	hear_again(e, heard);
}

/* Causes that are written as ones are cleared. */
static void write_icr(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) &= ~value;
	e1000_interrupt_update(e);
}

static void write_itr(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0xffff;
	e1000_interrupt_update(e);
}

static void write_ics(struct e1000 *e, unsigned offset, uint32_t value)
{
	(void)offset;
	e1000_cause(e, value);
}

static void write_ims(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) |= value & ICR_ALL;
	e1000_interrupt_update(e);
}

static void write_imc(struct e1000 *e, unsigned offset, uint32_t value)
{
	(void)offset;
	*e1000_reg(e, E1000_IMS) &= ~value;
	e1000_interrupt_update(e);
}

static void write_rctl(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0x06dfb3fe;
	e1000_post(e, E1000_WORK_RECEIVE);
}

static void write_tctl(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0x01fffffa;
	if (value & TCTL_EN)
		e1000_post(e, E1000_WORK_TRANSMIT);
}

static void write_rdt(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0xffff;
	e1000_post(e, E1000_WORK_RECEIVE);
}

static void write_tdt(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0xffff;
	e1000_post(e, E1000_WORK_TRANSMIT);
}

/* Whoever moves the head begins a new ring. */
static void write_tdh(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0xffff;
	e->generation++;
}

static void write_rdtr(struct e1000 *e, unsigned offset, uint32_t value)
{
	*e1000_reg(e, offset) = value & 0xffff;
	if (value & RDTR_FPD)
		e1000_flush_delay(e, E1000_DEADLINE_RECEIVE);
}

#define PLAIN(at, what, bits)                                                                      \
	{                                                                                          \
		.offset = (at), .name = (what), .writable = (bits)                                 \
	}
#define ARRAY(at, n, what, bits)                                                                   \
	{                                                                                          \
		.offset = (at), .words = (n), .name = (what), .writable = (bits)                   \
	}
#define SPECIAL(at, what, read_function, write_function)                                           \
	{                                                                                          \
		.offset = (at), .name = (what), .read = (read_function), .write = (write_function) \
	}
#define WRITTEN(at, what, function)                                                                \
	{                                                                                          \
		.offset = (at), .name = (what), .write = (function)                                \
	}
#define COUNT(at, what)                                                                            \
	{                                                                                          \
		.offset = (at), .name = (what), .read = e1000_clear_on_read                        \
	}
#define COUNT_HIGH(at, what)                                                                       \
	{                                                                                          \
		.offset = (at), .name = (what), .read = e1000_clear_pair_on_read                   \
	}
#define ANY UINT32_MAX

/* In order of offset. */
static const struct reg table[] = {
	WRITTEN(E1000_CTRL, "CTRL", write_ctrl),
	SPECIAL(E1000_STATUS, "STATUS", read_status, NULL),
	SPECIAL(E1000_EECD, "EECD", read_eecd, write_eecd),
	WRITTEN(E1000_EERD, "EERD", write_eerd),
	PLAIN(0x0018, "CTRL_EXT", ANY),
	PLAIN(0x001c, "FLA", 0),
	WRITTEN(E1000_MDIC, "MDIC", write_mdic),
	PLAIN(0x0028, "FCAL", ANY),
	PLAIN(0x002c, "FCAH", 0xffff),
	PLAIN(E1000_FCT, "FCT", 0xffff),
	PLAIN(E1000_VET, "VET", 0xffff),
	SPECIAL(E1000_ICR, "ICR", read_icr, write_icr),
	WRITTEN(E1000_ITR, "ITR", write_itr),
	SPECIAL(E1000_ICS, "ICS", read_zero, write_ics),
	WRITTEN(E1000_IMS, "IMS", write_ims),
	SPECIAL(E1000_IMC, "IMC", read_zero, write_imc),
	WRITTEN(E1000_RCTL, "RCTL", write_rctl),
	PLAIN(0x0170, "FCTTV", 0xffff),
	PLAIN(0x0178, "TXCW", 0xc000ffff),
	PLAIN(0x0180, "RXCW", 0),
	WRITTEN(E1000_TCTL, "TCTL", write_tctl),
	PLAIN(0x0410, "TIPG", 0x3fffffff),
	PLAIN(0x0448, "TBT", ANY),
	PLAIN(0x0458, "AIT", 0xffff),
	PLAIN(0x0e00, "LEDCTL", ANY),
	{.offset = E1000_PBA, .name = "PBA", .writable = 0x7f, .read = read_pba},
	PLAIN(0x2160, "FCRTL", 0x8000fff8),
	PLAIN(0x2168, "FCRTH", 0x8000fff8),
	PLAIN(0x2410, "RDFH", 0x1fff),
	PLAIN(0x2418, "RDFT", 0x1fff),
	PLAIN(0x2420, "RDFHS", 0x1fff),
	PLAIN(0x2428, "RDFTS", 0x1fff),
	PLAIN(0x2430, "RDFPC", 0x1fff),
	PLAIN(E1000_RDBAL, "RDBAL", 0xfffffff0),
	PLAIN(E1000_RDBAH, "RDBAH", ANY),
	PLAIN(E1000_RDLEN, "RDLEN", 0x000fff80),
	PLAIN(E1000_RDH, "RDH", 0xffff),
	WRITTEN(E1000_RDT, "RDT", write_rdt),
	WRITTEN(E1000_RDTR, "RDTR", write_rdtr),
	PLAIN(0x2828, "RXDCTL", 0x013f3f3f),
	PLAIN(E1000_RADV, "RADV", 0xffff),
	PLAIN(0x2c00, "RSRPD", 0xfff),
	PLAIN(0x3000, "TXDMAC", 1),
	PLAIN(0x3410, "TDFH", 0x1fff),
	PLAIN(0x3418, "TDFT", 0x1fff),
	PLAIN(0x3420, "TDFHS", 0x1fff),
	PLAIN(0x3428, "TDFTS", 0x1fff),
	PLAIN(0x3430, "TDFPC", 0x1fff),
	PLAIN(E1000_TDBAL, "TDBAL", 0xfffffff0),
	PLAIN(E1000_TDBAH, "TDBAH", ANY),
	PLAIN(E1000_TDLEN, "TDLEN", 0x000fff80),
	WRITTEN(E1000_TDH, "TDH", write_tdh),
	WRITTEN(E1000_TDT, "TDT", write_tdt),
	PLAIN(E1000_TIDV, "TIDV", 0xffff),
	PLAIN(0x3828, "TXDCTL", 0xff3f3f3f),
	PLAIN(E1000_TADV, "TADV", 0xffff),
	PLAIN(0x3830, "TSPMT", ANY),
	COUNT(0x4000, "CRCERRS"),
	COUNT(0x4004, "ALGNERRC"),
	COUNT(0x4008, "SYMERRS"),
	COUNT(0x400c, "RXERRC"),
	COUNT(E1000_MPC, "MPC"),
	COUNT(0x4014, "SCC"),
	COUNT(0x4018, "ECOL"),
	COUNT(0x401c, "MCC"),
	COUNT(0x4020, "LATECOL"),
	COUNT(0x4028, "COLC"),
	COUNT(0x4030, "DC"),
	COUNT(0x4034, "TNCRS"),
	COUNT(0x4038, "SEC"),
	COUNT(0x403c, "CEXTERR"),
	COUNT(0x4040, "RLEC"),
	COUNT(0x4048, "XONRXC"),
	COUNT(0x404c, "XONTXC"),
	COUNT(0x4050, "XOFFRXC"),
	COUNT(0x4054, "XOFFTXC"),
	COUNT(0x4058, "FCRUC"),
	COUNT(E1000_PRC64, "PRC64"),
	COUNT(0x4060, "PRC127"),
	COUNT(0x4064, "PRC255"),
	COUNT(0x4068, "PRC511"),
	COUNT(0x406c, "PRC1023"),
	COUNT(0x4070, "PRC1522"),
	COUNT(E1000_GPRC, "GPRC"),
	COUNT(E1000_BPRC, "BPRC"),
	COUNT(E1000_MPRC, "MPRC"),
	COUNT(E1000_GPTC, "GPTC"),
	PLAIN(E1000_GORCL, "GORCL", 0),
	COUNT_HIGH(0x408c, "GORCH"),
	PLAIN(E1000_GOTCL, "GOTCL", 0),
	COUNT_HIGH(0x4094, "GOTCH"),
	COUNT(E1000_RNBC, "RNBC"),
	COUNT(0x40a4, "RUC"),
	COUNT(0x40a8, "RFC"),
	COUNT(E1000_ROC, "ROC"),
	COUNT(0x40b0, "RJC"),
	COUNT(0x40b4, "MGTPRC"),
	COUNT(0x40b8, "MGTPDC"),
	COUNT(0x40bc, "MGTPTC"),
	PLAIN(E1000_TORL, "TORL", 0),
	COUNT_HIGH(0x40c4, "TORH"),
	PLAIN(E1000_TOTL, "TOTL", 0),
	COUNT_HIGH(0x40cc, "TOTH"),
	COUNT(E1000_TPR, "TPR"),
	COUNT(E1000_TPT, "TPT"),
	COUNT(E1000_PTC64, "PTC64"),
	COUNT(0x40dc, "PTC127"),
	COUNT(0x40e0, "PTC255"),
	COUNT(0x40e4, "PTC511"),
	COUNT(0x40e8, "PTC1023"),
	COUNT(0x40ec, "PTC1522"),
	COUNT(E1000_MPTC, "MPTC"),
	COUNT(E1000_BPTC, "BPTC"),
	COUNT(E1000_TSCTC, "TSCTC"),
	COUNT(E1000_TSCTFC, "TSCTFC"),
	PLAIN(E1000_RXCSUM, "RXCSUM", 0x7ff),
	ARRAY(E1000_MTA, 128, "MTA", ANY),
	ARRAY(E1000_RA, 32, "RA", ANY),
	ARRAY(E1000_VFTA, 128, "VFTA", ANY),
	/* Waking up is not offered: these keep what they are told. */
	PLAIN(0x5800, "WUC", 0xf),
	PLAIN(0x5808, "WUFC", 0x000f80ff),
	PLAIN(0x5810, "WUS", 0),
	PLAIN(0x5820, "MANC", ANY),
	PLAIN(0x5838, "IPAV", 0x0001000f),
	ARRAY(0x5840, 8, "IP4AT", ANY),
	ARRAY(0x5880, 4, "IP6AT", ANY),
	PLAIN(0x5900, "WUPL", 0),
	ARRAY(0x5a00, 32, "WUPM", 0),
	ARRAY(0x5f00, 8, "FFLT", 0x7ff),
};
_Static_assert(ARRAY_SIZE(table) < E1000_REGISTERS_MAX, "counters for all and the unknown");
#define UNKNOWN ARRAY_SIZE(table) /* counted there */

static unsigned words(const struct reg *reg)
{
	return reg->words ? reg->words : 1;
}

/* Index of the register at @offset, or UNKNOWN. */
static unsigned find(unsigned offset)
{
	unsigned low = 0, high = ARRAY_SIZE(table);

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (offset < table[middle].offset)
			high = middle;
		else if (offset >= table[middle].offset + 4 * words(&table[middle]))
			low = middle + 1;
		else
			return middle;
	}
	return UNKNOWN;
}

static uint32_t read_register(struct e1000 *e, unsigned offset)
{
	unsigned index;
	uint32_t value = 0;

	/* CTRL is there twice. */
	offset = offset == 4 ? E1000_CTRL : offset;
	index = find(offset);
	pthread_mutex_lock(&e->lock);
	e->reads[index]++;
	if (index < UNKNOWN)
		value = table[index].read ? table[index].read(e, offset) : e1000_get(e, offset);
	e1000_timer_request(e);
	pthread_mutex_unlock(&e->lock);
	return value;
}

/* Of an address only 18 bits of the upper half are kept. */
static uint32_t mask_of(const struct reg *reg, unsigned offset)
{
	return reg->offset == E1000_RA && (offset & 4) ? 0x8003ffff : reg->writable;
}

static void write_register(struct e1000 *e, unsigned offset, uint32_t value)
{
	unsigned index;

	offset = offset == 4 ? E1000_CTRL : offset;
	index = find(offset);
	pthread_mutex_lock(&e->lock);
	e->writes[index]++;
	if (index < UNKNOWN && table[index].write)
		table[index].write(e, offset, value);
	else if (index < UNKNOWN && table[index].writable)
		*e1000_reg(e, offset) = value & mask_of(&table[index], offset);
	e1000_timer_request(e);
	pthread_mutex_unlock(&e->lock);
}

/* Registers are 32 bits wide and are to be accessed so (13.2); a part of one can be read. */
static uint64_t memory_read_access(void *opaque, uint64_t offset, unsigned size)
{
	uint64_t value = read_register(opaque, (unsigned)offset & ~3U);

	if (size == 8)
		return value | (uint64_t)read_register(opaque, ((unsigned)offset & ~3U) + 4) << 32;
	value >>= 8 * (offset & 3);
	return value & (UINT64_MAX >> (64 - 8 * size));
}

static void memory_write_access(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	if (size < 4 || (offset & 3))
		return;
	write_register(opaque, (unsigned)offset, (uint32_t)value);
	if (size == 8)
		write_register(opaque, (unsigned)offset + 4, (uint32_t)(value >> 32));
}

const struct bus_ops e1000_memory_ops = {.read = memory_read_access, .write = memory_write_access};

static uint64_t io_read_access(void *opaque, uint64_t offset, unsigned size)
{
	struct e1000 *e = opaque;
	uint32_t address;

	pthread_mutex_lock(&e->lock);
	address = e->io_address;
	pthread_mutex_unlock(&e->lock);
	if (offset == 0 && size == 4)
		return address;
	if (offset == 4 && size == 4 && address < E1000_BAR_SIZE)
		return read_register(e, address & ~3U);
	return 0;
}

static void io_write_access(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct e1000 *e = opaque;
	uint32_t address;

	if (size != 4)
		return;
	pthread_mutex_lock(&e->lock);
	if (offset == 0)
		e->io_address = (uint32_t)value;
	address = e->io_address;
	pthread_mutex_unlock(&e->lock);
	if (offset == 4 && address < E1000_BAR_SIZE)
		write_register(e, address & ~3U, (uint32_t)value);
}

const struct bus_ops e1000_io_ops = {.read = io_read_access, .write = io_write_access};

/* As after a reset: all zero but for these. */
void e1000_registers_init(struct e1000 *e)
{
	memset(e->regs, 0, sizeof(e->regs));
	*e1000_reg(e, E1000_CTRL) = CTRL_FD | CTRL_SPD_1G;
	*e1000_reg(e, E1000_VET) = 0x8100;
	*e1000_reg(e, E1000_PBA) = 48;
	*e1000_reg(e, 0x0e00) = 0x07068302; /* LEDCTL */
	*e1000_reg(e, E1000_RA) = e->eeprom.words[0] | (uint32_t)e->eeprom.words[1] << 16;
	*e1000_reg(e, E1000_RA + 4) = e->eeprom.words[2] | RAH_AV;
}

static void count_accesses(
	struct stats_sink *sink, const char *name, const char *kind, uint64_t number)
{
	char text[32];

	if (!number)
		return;
	snprintf(text, sizeof(text), "%s %s", name, kind);
	sink->count(sink, "registers", text, number);
}

void e1000_registers_stats(const struct e1000 *e, struct stats_sink *sink)
{
	for (unsigned i = 0; i <= UNKNOWN; i++) {
		const char *name = i < UNKNOWN ? table[i].name : "unknown";

		count_accesses(sink, name, "read", e->reads[i]);
		count_accesses(sink, name, "write", e->writes[i]);
	}
}

void e1000_registers_save(const struct e1000 *e, struct state_writer *writer)
{
	for (unsigned i = 0; i < UNKNOWN; i++)
		for (unsigned word = 0; word < words(&table[i]); word++)
			state_put_u32(writer, e1000_get(e, table[i].offset + 4 * word));
}

/* Any value is one that a guest could have brought about, or is checked at its use. */
void e1000_registers_restore(struct e1000 *e, struct state_reader *reader)
{
	for (unsigned i = 0; i < UNKNOWN; i++)
		for (unsigned word = 0; word < words(&table[i]); word++)
			*e1000_reg(e, table[i].offset + 4 * word) = state_get_u32(reader);
	*e1000_reg(e, E1000_ICR) &= ICR_ALL;
	*e1000_reg(e, E1000_IMS) &= ICR_ALL;
}
