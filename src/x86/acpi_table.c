/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/acpi_table.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "x86/layout.h"

#include <string.h>

uint8_t *acpi_reserve(struct acpi_builder *builder, size_t size)
{
	uint8_t *place = builder->bytes + builder->used;

	if (size > sizeof(builder->bytes) - builder->used) {
		builder->full = true;
		builder->used = 0;
		return builder->bytes;
	}
	builder->used += size;
	return place;
}

void acpi_put8(struct acpi_builder *builder, uint8_t value)
{
	*acpi_reserve(builder, 1) = value;
}

void acpi_put16(struct acpi_builder *builder, uint16_t value)
{
	store_le16(acpi_reserve(builder, 2), value);
}

void acpi_put32(struct acpi_builder *builder, uint32_t value)
{
	store_le32(acpi_reserve(builder, 4), value);
}

void acpi_put64(struct acpi_builder *builder, uint64_t value)
{
	store_le64(acpi_reserve(builder, 8), value);
}

void acpi_align(struct acpi_builder *builder, size_t alignment)
{
	acpi_reserve(builder, align_up(builder->used, alignment) - builder->used);
}

uint8_t acpi_checksum(const uint8_t *bytes, size_t length)
{
	uint8_t sum = 0;

	while (length--)
		sum += *bytes++;
	return (uint8_t)-sum;
}

void acpi_open_table(struct acpi_builder *builder, const char *signature, uint8_t revision)
{
	uint8_t *header;

	acpi_align(builder, 64); /* the FACS needs it, the others do not mind */
	builder->table = builder->used;
	header = acpi_reserve(builder, ACPI_HEADER_SIZE);
	memcpy(header, signature, 4);
	header[8] = revision;
	memcpy(header + 10, "DUET  DUETPC  ", 14);
	store_le32(header + 24, 1);
	memcpy(header + 28, "DUET", 4);
	store_le32(header + 32, 1);
}

uint64_t acpi_close_table(struct acpi_builder *builder)
{
	uint8_t *table = builder->bytes + builder->table;
	size_t length = builder->used - builder->table;

	if (builder->full)
		return 0;
	store_le32(table + 4, (uint32_t)length);
	table[9] = 0;
	table[9] = acpi_checksum(table, length);
	return LAYOUT_ACPI + builder->table;
}

void acpi_list_table(struct acpi_builder *builder)
{
	const uint64_t at = acpi_close_table(builder);

	if (builder->count == ACPI_TABLES_MAX)
		builder->full = true;
	else
		builder->tables[builder->count++] = at;
}
