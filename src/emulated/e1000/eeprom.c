/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The EEPROM: 64 words behind EERD, and bit by bit behind the pins of EECD, where it speaks
 * microwire (8254x manual 5.3 and 13.4.3; the 93C46's data sheet): a start bit, two bits of
 * operation, six of address, sixteen of data.
 */
#include "emulated/e1000/private.h"

#define EECD_SK   0x001U
#define EECD_CS   0x002U
#define EECD_DI   0x004U
#define EECD_DO   0x008U
#define EECD_FWE  0x030U
#define EECD_REQ  0x040U
#define EECD_GNT  0x080U
#define EECD_PRES 0x100U

#define EERD_START 0x01U
#define EERD_DONE  0x10U

#define COMMAND_BITS 8 /* two of operation, six of address */
#define DATA_BITS    16
#define OP_EXTENDED  0
#define OP_WRITE     1
#define OP_READ      2
#define OP_ERASE     3
#define EXT_DISABLE  0 /* in the address's upper two bits */
#define EXT_ENABLE   3

/* Words by number (8254x manual, 5.6). */
#define WORD_INIT1     0x0a
#define WORD_SUBSYSTEM 0x0b
#define WORD_SUBVENDOR 0x0c
#define WORD_DEVICE    0x0d
#define WORD_VENDOR    0x0e
#define WORD_INIT2     0x0f
#define WORD_CHECKSUM  0x3f
#define CHECKSUM       0xbaba

enum phase {
	WAITING, /* for the start bit */
	COMMAND,
	READING,
	WRITING,
	FINISHED /* until it is deselected */
};

void e1000_eeprom_init(struct e1000_eeprom *eeprom, const uint8_t *mac)
{
	uint16_t sum = 0;

	*eeprom = (struct e1000_eeprom){.out = true};
	for (unsigned i = 0; i < 3; i++)
		eeprom->words[i] = load_le16(mac + 2 * i);
	eeprom->words[WORD_INIT1] = 0x4408;
	eeprom->words[WORD_SUBSYSTEM] = 0x001e;
	eeprom->words[WORD_SUBVENDOR] = 0x8086;
	eeprom->words[WORD_DEVICE] = 0x100e;
	eeprom->words[WORD_VENDOR] = 0x8086;
	eeprom->words[WORD_INIT2] = 0x3000; /* both directions of flow control */
	for (unsigned i = 0; i < WORD_CHECKSUM; i++)
		sum = (uint16_t)(sum + eeprom->words[i]);
	eeprom->words[WORD_CHECKSUM] = (uint16_t)(CHECKSUM - sum);
}

bool e1000_eeprom_valid(const struct e1000_eeprom *eeprom)
{
	return eeprom->phase <= FINISHED && eeprom->bits <= DATA_BITS;
}

uint32_t e1000_eerd(const struct e1000_eeprom *eeprom, uint32_t value)
{
	unsigned address = value >> 8 & 0xff;

	if (!(value & EERD_START))
		return value & 0xff00;
	return (uint32_t)eeprom->words[address % E1000_EEPROM_WORDS] << 16 | (value & 0xff00) |
	       EERD_DONE;
}

uint32_t e1000_eecd_read(const struct e1000_eeprom *eeprom)
{
	return eeprom->pins | EECD_PRES | (eeprom->pins & EECD_REQ ? EECD_GNT : 0) |
	       (eeprom->out ? EECD_DO : 0);
}

static void begin(struct e1000_eeprom *eeprom, enum phase phase)
{
	eeprom->phase = phase;
	eeprom->bits = 0;
	eeprom->shift = 0;
}

static void take_command(struct e1000_eeprom *eeprom)
{
	unsigned operation = eeprom->shift >> 6 & 3, extended = eeprom->shift >> 4 & 3;

	eeprom->address = eeprom->shift % E1000_EEPROM_WORDS;
	begin(eeprom, FINISHED);
	switch (operation) {
	case OP_READ:
		begin(eeprom, READING);
		eeprom->shift = eeprom->words[eeprom->address];
		eeprom->out = false; /* a zero comes before the data */
		break;
	case OP_WRITE:
		begin(eeprom, WRITING);
		break;
	case OP_ERASE:
		if (eeprom->writable)
			eeprom->words[eeprom->address] = 0xffff;
		break;
	default: /* writing and erasing all words are not offered */
		if (extended == EXT_ENABLE || extended == EXT_DISABLE)
			eeprom->writable = extended == EXT_ENABLE;
		break;
	}
}

static void give_bit(struct e1000_eeprom *eeprom)
{
	eeprom->out = eeprom->shift >> 15;
	eeprom->shift = (uint16_t)(eeprom->shift << 1);
	if (++eeprom->bits < DATA_BITS)
		return;
	/* As long as the clock goes on, the next word follows. */
	eeprom->address = (eeprom->address + 1) % E1000_EEPROM_WORDS;
	eeprom->shift = eeprom->words[eeprom->address];
	eeprom->bits = 0;
}

static void take_bit(struct e1000_eeprom *eeprom, bool bit)
{
	eeprom->shift = (uint16_t)(eeprom->shift << 1 | bit);
	eeprom->bits++;
	if (eeprom->phase == COMMAND && eeprom->bits == COMMAND_BITS) {
		take_command(eeprom);
	} else if (eeprom->phase == WRITING && eeprom->bits == DATA_BITS) {
		if (eeprom->writable)
			eeprom->words[eeprom->address] = eeprom->shift;
		begin(eeprom, FINISHED);
	}
}

static void clock_edge(struct e1000_eeprom *eeprom, bool bit)
{
	switch (eeprom->phase) {
	case WAITING:
		if (bit)
			begin(eeprom, COMMAND);
		break;
	case COMMAND:
	case WRITING:
		take_bit(eeprom, bit);
		break;
	case READING:
		give_bit(eeprom);
		break;
	default:
		break;
	}
}

void e1000_eecd_write(struct e1000_eeprom *eeprom, uint32_t value)
{
	uint32_t before = eeprom->pins;

	eeprom->pins = value & (EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQ);
	if (!(value & EECD_CS)) {
		/* Not selected. It is never busy: selected again it says so on DO. */
		begin(eeprom, WAITING);
		eeprom->out = true;
	} else if (!(before & EECD_SK) && (value & EECD_SK)) {
		clock_edge(eeprom, value & EECD_DI);
	}
}
