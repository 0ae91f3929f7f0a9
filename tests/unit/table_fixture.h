/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for the tables that firmware leaves behind (ACPI, MP, SMBIOS), and their checksum. */
#ifndef DUET_TESTS_TABLE_FIXTURE_H
#define DUET_TESTS_TABLE_FIXTURE_H

#include "memory/memory.h"

#define TABLE_RAM (1ULL << 20)

static inline int table_set_up(void **state)
{
	static struct memory memory;

	memory_init(&memory);
	*state = &memory;
	return memory_add(&memory, GPA(0), TABLE_RAM, MEMORY_ANONYMOUS, "low", NULL);
}

static inline int table_tear_down(void **state)
{
	memory_free(*state);
	return 0;
}

static inline uint8_t table_sum(const uint8_t *bytes, size_t length)
{
	uint8_t total = 0;

	while (length--)
		total += *bytes++;
	return total;
}

#endif
