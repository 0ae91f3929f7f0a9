/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/elf_image.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define NOTE_XEN_PHYS32_ENTRY 18 /* Xen's public/elfnote.h */

static int corrupt(struct error *err, const char *what)
{
	return error_set(err, EINVAL,
		"not a usable ELF kernel: %s; the file is truncated or corrupt, get it again",
		what);
}

static int check_header(const Elf64_Ehdr *header, struct error *err)
{
	if (header->e_ident[EI_CLASS] == ELFCLASS32)
		return error_set(
			err, ENOEXEC, "a 32-bit kernel; duet boots 64-bit (x86-64) kernels only");
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
		header->e_machine != EM_X86_64)
		return error_set(err, ENOEXEC,
			"an ELF file for another machine (e_machine %u); duet boots x86-64 kernels",
			header->e_machine);
	if (header->e_type != ET_EXEC)
		return error_set(err, ENOEXEC,
			"an ELF file of type %u, not an executable kernel; give a vmlinux or a "
			"bzImage",
			header->e_type);
	return 0;
}

static int add_segment(
	struct elf_image *image, const Elf64_Phdr *header, size_t size, struct error *err)
{
	struct elf_segment segment = {.offset = header->p_offset,
		.file_size = header->p_filesz,
		.address = header->p_paddr,
		.memory_size = header->p_memsz};

	if (segment.memory_size == 0)
		return 0;
	if (!range_within(segment.offset, segment.file_size, size))
		return corrupt(err, "a segment reaches beyond the end of the file");
	if (segment.file_size > segment.memory_size ||
		!range_within(segment.address, segment.memory_size, ELF_MAX_ADDRESS))
		return corrupt(err, "a segment's size or address is impossible");
	if (image->count && segment.address < image->high)
		return corrupt(err, "its segments overlap or are not in order");
	if (image->count == ELF_MAX_SEGMENTS)
		return corrupt(err, "it has too many segments");
	if (image->count == 0)
		image->low = segment.address;
	image->segments[image->count++] = segment;
	image->high = segment.address + segment.memory_size;
	return 0;
}

static void extend(struct elf_image *image, uint64_t offset, uint64_t length, size_t size)
{
	if (range_within(offset, length, size) && offset + length > image->end)
		image->end = offset + length;
}

/* The entry from the descriptor at @at of @length bytes, which lies within the file. */
static uint64_t note_entry(const uint8_t *at, uint32_t length)
{
	return length >= 8 ? load_le64(at) : length >= 4 ? load_le32(at) : 0;
}

/* Notes are [name size, descriptor size, type, name, descriptor], padded to four bytes. A broken
 * note ends the search: it only means that there is no PVH entry. */
static void find_pvh_entry(
	struct elf_image *image, const uint8_t *file, size_t size, const Elf64_Phdr *header)
{
	uint64_t at = header->p_offset, left = header->p_filesz;

	if (!range_within(at, left, size))
		return;
	while (left >= 12) {
		uint64_t name = align_up(load_le32(file + at), 4);
		uint32_t length = load_le32(file + at + 4);
		uint32_t type = load_le32(file + at + 8);

		if (12 + name + align_up(length, 4) > left)
			return;
		if (type == NOTE_XEN_PHYS32_ENTRY && name == 4 && !memcmp(file + at + 12, "Xen", 4))
			image->pvh_entry = note_entry(file + at + 12 + name, length);
		left -= 12 + name + align_up(length, 4);
		at += 12 + name + align_up(length, 4);
	}
}

static int parse_program_headers(struct elf_image *image, const uint8_t *file, size_t size,
	const Elf64_Ehdr *header, struct error *err)
{
	uint64_t bytes = (uint64_t)header->e_phnum * sizeof(Elf64_Phdr);

	if (header->e_phentsize != sizeof(Elf64_Phdr) ||
		!range_within(header->e_phoff, bytes, size))
		return corrupt(err, "its program headers lie outside the file");
	image->end = header->e_phoff + bytes;
	for (unsigned i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr program;
		int ret = 0;

		memcpy(&program, file + header->e_phoff + i * sizeof(program), sizeof(program));
		if (program.p_type == PT_LOAD)
			ret = add_segment(image, &program, size, err);
		else if (program.p_type == PT_NOTE)
			find_pvh_entry(image, file, size, &program);
		if (ret < 0)
			return ret;
		extend(image, program.p_offset, program.p_filesz, size);
	}
	return 0;
}

/* Sections are not loaded; they tell where the ELF part of the file ends. */
static void extend_by_sections(
	struct elf_image *image, const uint8_t *file, size_t size, const Elf64_Ehdr *header)
{
	uint64_t bytes = (uint64_t)header->e_shnum * sizeof(Elf64_Shdr);

	if (header->e_shentsize != sizeof(Elf64_Shdr) ||
		!range_within(header->e_shoff, bytes, size))
		return;
	extend(image, header->e_shoff, bytes, size);
	for (unsigned i = 0; i < header->e_shnum; i++) {
		Elf64_Shdr section;

		memcpy(&section, file + header->e_shoff + i * sizeof(section), sizeof(section));
		if (section.sh_type != SHT_NOBITS)
			extend(image, section.sh_offset, section.sh_size, size);
	}
}

/* Kernels other than Linux give a virtual address, for loaders that set up paging for them: such a
 * one is entered by its note, or not at all. */
static int choose_entry(struct elf_image *image, uint64_t entry, struct error *err)
{
	if (image->pvh_entry < image->low || image->pvh_entry >= image->high)
		image->pvh_entry = 0;
	image->entry = entry;
	if (entry >= image->low && entry < image->high)
		return 0;
	image->entry = ELF_NO_ENTRY;
	if (image->pvh_entry)
		return 0;
	return error_set(err, ENOEXEC,
		"its entry 0x%llx lies outside its segments, and it has no PVH note; duet boots "
		"vmlinux files with a physical entry or a PVH note (CONFIG_PVH)",
		(unsigned long long)entry);
}

int elf_image_parse(struct elf_image *image, const uint8_t *file, size_t size, struct error *err)
{
	Elf64_Ehdr header;
	int ret;

	memset(image, 0, sizeof(*image));
	if (size < sizeof(header) || memcmp(file, ELFMAG, SELFMAG))
		return corrupt(err, "there is no ELF header");
	memcpy(&header, file, sizeof(header));
	ret = check_header(&header, err);
	if (ret == 0)
		ret = parse_program_headers(image, file, size, &header, err);
	if (ret < 0)
		return ret;
	if (image->count == 0)
		return corrupt(err, "nothing in it is to be loaded");
	ret = choose_entry(image, header.e_entry, err);
	extend_by_sections(image, file, size, &header);
	return ret;
}
