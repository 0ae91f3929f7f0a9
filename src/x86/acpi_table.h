/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables under construction, for the files that write them alone. */
#ifndef DUET_X86_ACPI_TABLE_H
#define DUET_X86_ACPI_TABLE_H

#include "x86/acpi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACPI_HEADER_SIZE 36
#define ACPI_TABLES_MAX  9

/* A copy of [LAYOUT_ACPI, LAYOUT_ACPI_END), as much of it as is used. */
struct acpi_builder {
	uint8_t bytes[12288];
	size_t used;
	size_t table;                     /* where the open table starts */
	uint64_t tables[ACPI_TABLES_MAX]; /* GPAs for the XSDT */
	unsigned count;
	bool full;
};

/* Room of @size zero bytes; the first bytes again, and @full, when there is none. */
uint8_t *acpi_reserve(struct acpi_builder *builder, size_t size);
void acpi_put8(struct acpi_builder *builder, uint8_t value);
void acpi_put16(struct acpi_builder *builder, uint16_t value);
void acpi_put32(struct acpi_builder *builder, uint32_t value);
void acpi_put64(struct acpi_builder *builder, uint64_t value);
void acpi_align(struct acpi_builder *builder, size_t alignment);
/* What makes @length bytes sum up to 0 when it is one of them. */
uint8_t acpi_checksum(const uint8_t *bytes, size_t length);

/* A table begins, with its header; it ends, and its GPA is returned; the same, and the XSDT lists
 * it. */
void acpi_open_table(struct acpi_builder *builder, const char *signature, uint8_t revision);
uint64_t acpi_close_table(struct acpi_builder *builder);
void acpi_list_table(struct acpi_builder *builder);

/* acpi_numa.c: SRAT and SLIT. */
void acpi_build_numa(struct acpi_builder *builder, const struct acpi_config *config);

#endif
