/* SPDX-License-Identifier: Apache-2.0 */
/* The file format bzImage: setup header and the packed payload
 * (Documentation/arch/x86/boot.rst). Pure functions, any thread. */
#ifndef DUET_X86_BZIMAGE_H
#define DUET_X86_BZIMAGE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The setup header lies at the same offsets in the file and in the zero page. */
#define SETUP_HEADER      0x1f1
#define SETUP_HEADER_END  0x290 /* where the next field of the zero page begins */
#define BZIMAGE_HEAD_SIZE 0x290 /* bytes of the file that bzimage_parse() needs */

struct bzimage {
	uint8_t setup[SETUP_HEADER_END - SETUP_HEADER]; /* the header, zero-padded */
	uint64_t code, code_size;                       /* protected-mode part, in the file */
	/* Within that part, in the file; no bytes: a program that is not packed (memtest86+). */
	uint64_t payload, payload_size;
	uint64_t pref_address;
	uint64_t init_size; /* bytes needed from the load address until the kernel runs by itself */
	uint64_t initrd_max;  /* highest address of the initrd's last byte */
	uint64_t alignment;   /* power of two, at least 2 MiB */
	uint64_t cmdline_max; /* characters */
	bool relocatable;
};

/* Whether the first @size bytes look like a bzImage at all. */
bool bzimage_probe(const uint8_t *head, size_t size);

/* @head: the first bytes of the file, at least BZIMAGE_HEAD_SIZE or all; @file_size: all of it. */
int bzimage_parse(struct bzimage *image, const uint8_t *head, size_t head_size, uint64_t file_size,
	struct error *err);

#endif
