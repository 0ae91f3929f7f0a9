/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/smbios.h"

#include "base/bytes.h"
#include "x86/layout.h"

#include <errno.h>
#include <string.h>

#define ENTRY_SIZE 24 /* of the 64-bit entry point */
#define TABLE      (LAYOUT_SMBIOS + 32)
#define TABLE_MAX  1024

/* Structures, chapter 7: type and length of the formatted area. */
enum {
	TYPE_BIOS = 0,
	TYPE_SYSTEM = 1,
	TYPE_CHASSIS = 3,
	TYPE_BOOT = 32,
	TYPE_END = 127,
	SIZE_BIOS = 24,
	SIZE_SYSTEM = 27,
	SIZE_CHASSIS = 22,
	SIZE_BOOT = 11,
	SIZE_END = 4,
};

#define BIOS_NO_CHARACTERISTICS (1U << 3)
#define BIOS_VIRTUAL_MACHINE    (1U << 4) /* extension byte 2 */
#define BIOS_SEGMENT            0xf000
#define WAKE_POWER_SWITCH       6
#define CHASSIS_OTHER           1
#define STATE_SAFE              3
#define SECURITY_NONE           3

struct table {
	uint8_t bytes[TABLE_MAX];
	size_t used;
	uint16_t handle;
	uint8_t strings; /* of the open structure */
};

_Static_assert(LAYOUT_SMBIOS_END - TABLE >= TABLE_MAX, "the table has its place");
_Static_assert(SIZE_BIOS + SIZE_SYSTEM + SIZE_CHASSIS + SIZE_BOOT + SIZE_END + 5 * 2 +
			       5 * (SMBIOS_TEXT_MAX + 1) + 64 <=
		       TABLE_MAX,
	"five names of a configuration, and duet's own");

/* The formatted area of @size zero bytes; its strings follow. */
static uint8_t *begin(struct table *table, uint8_t type, uint8_t size)
{
	uint8_t *structure = table->bytes + table->used;

	table->used += size;
	table->strings = 0;
	structure[0] = type;
	structure[1] = size;
	store_le16(structure + 2, table->handle++);
	return structure;
}

/* Its number within the structure; none for no text. */
static uint8_t put(struct table *table, const char *text)
{
	if (!text || !*text)
		return 0;
	strcpy((char *)table->bytes + table->used, text);
	table->used += strlen(text) + 1;
	return ++table->strings;
}

/* An empty string ends them; without any there are two zeroes all the same. */
static void end(struct table *table)
{
	table->used += table->strings ? 1 : 2;
}

static void put_bios(struct table *table)
{
	uint8_t *bios = begin(table, TYPE_BIOS, SIZE_BIOS);

	bios[4] = put(table, "duet");
	bios[5] = put(table, "1");
	store_le16(bios + 6, BIOS_SEGMENT);
	bios[8] = put(table, "01/01/2026");
	store_le64(bios + 10, BIOS_NO_CHARACTERISTICS);
	bios[19] = BIOS_VIRTUAL_MACHINE;
	memset(bios + 20, 0xff, 4); /* releases: none */
	end(table);
}

/* A UUID's first three fields are little-endian here. */
static void put_uuid(uint8_t *to, const uint8_t uuid[16])
{
	static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

	for (unsigned i = 0; i < sizeof(order); i++)
		to[i] = uuid[order[i]];
}

static void put_system(struct table *table, const struct smbios_config *config)
{
	uint8_t *system = begin(table, TYPE_SYSTEM, SIZE_SYSTEM);

	system[4] = put(table, config->manufacturer);
	system[5] = put(table, config->product);
	system[7] = put(table, config->serial);
	put_uuid(system + 8, config->uuid);
	system[24] = WAKE_POWER_SWITCH;
	end(table);
}

static void put_chassis(struct table *table, const struct smbios_config *config)
{
	uint8_t *chassis = begin(table, TYPE_CHASSIS, SIZE_CHASSIS);

	chassis[4] = put(table, config->manufacturer);
	chassis[5] = CHASSIS_OTHER;
	chassis[7] = put(table, config->serial);
	memset(chassis + 9, STATE_SAFE, 3); /* boot-up, power supply, thermal */
	chassis[12] = SECURITY_NONE;
	end(table);
}

static void build(struct table *table, const struct smbios_config *config)
{
	put_bios(table);
	put_system(table, config);
	put_chassis(table, config);
	begin(table, TYPE_BOOT, SIZE_BOOT); /* no errors */
	end(table);
	begin(table, TYPE_END, SIZE_END);
	end(table);
}

static void build_entry(uint8_t entry[ENTRY_SIZE], size_t length)
{
	uint8_t sum = 0;

	memcpy(entry, "_SM3_", 5);
	entry[6] = ENTRY_SIZE;
	entry[7] = 3; /* version 3.0 */
	entry[10] = 1;
	store_le32(entry + 12, (uint32_t)length);
	store_le64(entry + 16, TABLE);
	for (unsigned i = 0; i < ENTRY_SIZE; i++)
		sum = (uint8_t)(sum + entry[i]);
	entry[5] = (uint8_t)-sum;
}

int smbios_write(struct memory *memory, const struct smbios_config *config, struct error *err)
{
	struct table table = {.used = 0};
	uint8_t entry[ENTRY_SIZE] = {0};
	int ret;

	build(&table, config);
	build_entry(entry, table.used);
	ret = memory_write(memory, GPA(TABLE), table.bytes, table.used);
	if (ret == 0)
		ret = memory_write(memory, GPA(LAYOUT_SMBIOS), entry, sizeof(entry));
	return ret < 0 ? error_set(err, ENOMEM,
				 "--memory: no RAM where the SMBIOS table goes; give more")
		       : 0;
}
