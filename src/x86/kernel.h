/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a Linux kernel: bzImage (Documentation/arch/x86/boot.rst, 64-bit boot protocol) and ELF
 * vmlinux (the PVH entry of the Xen note, else the 64-bit entry), initrd and command line.
 *
 * A bzImage's payload is unpacked on the host, once for each content (cache), and entered directly;
 * its addresses are randomised with the relocation table that follows the ELF image.
 *
 * Files are untrusted: every offset is checked. Main thread, while no vCPU runs.
 */
#ifndef DUET_X86_KERNEL_H
#define DUET_X86_KERNEL_H

#include "base/error.h"
#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

enum kernel_unpack {
	KERNEL_UNPACK_HOST,  /* by duet, with the cache */
	KERNEL_UNPACK_GUEST, /* the kernel's own decompressor */
};

/* The two files, held open: a guest that resets starts from what was there at first, whatever has
 * become of their names. */
struct kernel_source;

/* @initrd may be null. Messages name --kernel or --initrd, the file and the remedy. The paths are
 * copied. */
int kernel_source_open(
	struct kernel_source **source, const char *kernel, const char *initrd, struct error *err);
void kernel_source_close(struct kernel_source *source);

struct kernel_options {
	const char *cmdline; /* complete */
	enum kernel_unpack unpack;
	bool randomise;    /* false when the command line says nokaslr */
	const char *cache; /* directory for unpacked kernels; null: no cache */
	uint64_t rsdp;     /* GPA of the ACPI RSDP */
	uint64_t ram_size; /* bytes, as --memory says */
};

enum kernel_entry_mode {
	KERNEL_ENTRY_LONG,  /* 64-bit, identity-mapped, RSI = zero page */
	KERNEL_ENTRY_PVH32, /* 32-bit protected, EBX = hvm_start_info */
};

struct kernel_entry {
	enum kernel_entry_mode mode;
	uint64_t ip;     /* GPA */
	uint64_t params; /* GPA of zero page or hvm_start_info */
	/* For messages, --log info and the benchmark. */
	const char *format;      /* "bzImage", "vmlinux" */
	const char *compression; /* "lz4", "xz", "zstd", "gzip", "none" */
	bool from_cache, randomised;
	uint64_t virtual_offset; /* by how much the image was moved in virtual addresses */
};

/* Into memory that reads as zeroes. Every failure names --kernel or --initrd or --memory, the file
 * and the remedy. As often as need be. */
int kernel_load(struct memory *memory, const struct kernel_source *source,
	const struct kernel_options *options, struct kernel_entry *entry, struct error *err);

#endif
