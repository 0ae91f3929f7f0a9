/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_samples.h"

#include "base/bytes.h"

#include <assert.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define TEXT_OFFSET 0x1000
#define DATA_OFFSET (TEXT_OFFSET + SAMPLE_TEXT)
#define NOTE_OFFSET (DATA_OFFSET + 0x2000)
#define NOTE_SIZE   24
#define ELF_END     (NOTE_OFFSET + NOTE_SIZE)
#define ROOM        (ELF_END + 64)

static void must(bool fine)
{
	if (!fine)
		abort();
}

static bool in_hole(uint64_t offset)
{
	return offset >= 0x4000 && offset < 0xc000;
}

uint8_t sample_byte(uint64_t offset)
{
	uint8_t value[8] = {0};

	if (offset - SAMPLE_PLACE_64 < 8) {
		store_le64(value, SAMPLE_VALUE_64);
		return value[offset - SAMPLE_PLACE_64];
	}
	if (offset - SAMPLE_PLACE_INVERSE < 4) {
		store_le32(value, SAMPLE_VALUE_INVERSE);
		return value[offset - SAMPLE_PLACE_INVERSE];
	}
	if (offset - SAMPLE_PLACE_32 < 4) {
		store_le32(value, SAMPLE_VALUE_32);
		return value[offset - SAMPLE_PLACE_32];
	}
	if (offset < SAMPLE_TEXT)
		return in_hole(offset) ? 0 : (uint8_t)(offset * 7 + (offset >> 8) + 1);
	if (offset >= SAMPLE_DATA && offset < SAMPLE_DATA + SAMPLE_DATA_BYTES)
		return (uint8_t)(offset * 3 + 1);
	return 0;
}

static void put_program(uint8_t *file, unsigned index, Elf64_Phdr program)
{
	memcpy(file + sizeof(Elf64_Ehdr) + index * sizeof(program), &program, sizeof(program));
}

static void put_headers(uint8_t *file, bool pvh_note)
{
	Elf64_Ehdr header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
				     ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = SAMPLE_BASE + SAMPLE_ENTRY,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3};

	memcpy(file, &header, sizeof(header));
	put_program(file, 0,
		(Elf64_Phdr){.p_type = PT_LOAD,
			.p_offset = TEXT_OFFSET,
			.p_paddr = SAMPLE_BASE,
			.p_filesz = SAMPLE_TEXT,
			.p_memsz = SAMPLE_TEXT});
	put_program(file, 1,
		(Elf64_Phdr){.p_type = PT_LOAD,
			.p_offset = DATA_OFFSET,
			.p_paddr = SAMPLE_BASE + SAMPLE_DATA,
			.p_filesz = SAMPLE_DATA_BYTES,
			.p_memsz = SAMPLE_SIZE - SAMPLE_DATA});
	put_program(file, 2,
		(Elf64_Phdr){.p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_filesz = NOTE_SIZE});
	store_le32(file + NOTE_OFFSET, 4);
	store_le32(file + NOTE_OFFSET + 4, 8);
	store_le32(file + NOTE_OFFSET + 8, pvh_note ? 18 : 5);
	memcpy(file + NOTE_OFFSET + 12, "Xen", 4);
	store_le64(file + NOTE_OFFSET + 16, SAMPLE_BASE + SAMPLE_PVH);
}

static uint32_t virtual_place(uint64_t offset)
{
	return (uint32_t)(0x80000000U + SAMPLE_BASE + offset);
}

static size_t put_table(uint8_t *at, enum sample_table table)
{
	uint32_t words[6];
	size_t count = 0;

	if (table == SAMPLE_NO_TABLE)
		return 0;
	words[count++] = 0;
	words[count++] =
		virtual_place(table == SAMPLE_WILD_TABLE ? SAMPLE_SIZE - 7 : SAMPLE_PLACE_64);
	if (table != SAMPLE_TWO_LISTS) {
		words[count++] = 0;
		words[count++] = virtual_place(SAMPLE_PLACE_INVERSE);
	}
	words[count++] = 0;
	words[count++] = virtual_place(SAMPLE_PLACE_32);
	for (size_t i = 0; i < count; i++)
		store_le32(at + 4 * i, words[i]);
	return 4 * count;
}

struct sample sample_elf(bool pvh_note, enum sample_table table)
{
	struct sample elf = {.data = calloc(1, ROOM)};

	must(elf.data);
	put_headers(elf.data, pvh_note);
	for (uint64_t i = 0; i < SAMPLE_TEXT; i++)
		elf.data[TEXT_OFFSET + i] = sample_byte(i);
	for (uint64_t i = 0; i < SAMPLE_DATA_BYTES; i++)
		elf.data[DATA_OFFSET + i] = sample_byte(SAMPLE_DATA + i);
	elf.size = ELF_END + put_table(elf.data + ELF_END, table);
	return elf;
}

static size_t pack_gzip(const struct sample *plain, uint8_t *out, size_t room)
{
	z_stream stream = {.next_in = plain->data,
		.avail_in = (uInt)plain->size,
		.next_out = out,
		.avail_out = (uInt)room};

	must(deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	must(deflate(&stream, Z_FINISH) == Z_STREAM_END);
	deflateEnd(&stream);
	return stream.total_out;
}

static size_t pack_xz(const struct sample *plain, uint8_t *out, size_t room)
{
	lzma_options_lzma options;
	lzma_filter filters[] = {
		{LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
	size_t done = 0;

	must(!lzma_lzma_preset(&options, 6));
	must(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, plain->data, plain->size,
		     out, &done, room) == LZMA_OK);
	return done;
}

static size_t pack_lz4(const struct sample *plain, uint8_t *out, size_t room)
{
	/* Two blocks, so that there is a border. */
	size_t first = plain->size / 2, at = 8, done;

	store_le32(out, 0x184c2102);
	done = (size_t)LZ4_compress_default(
		(char *)plain->data, (char *)out + at, (int)first, (int)(room - at));
	store_le32(out + 4, (uint32_t)done);
	at += done;
	done = (size_t)LZ4_compress_default((char *)plain->data + first, (char *)out + at + 4,
		(int)(plain->size - first), (int)(room - at - 4));
	store_le32(out + at, (uint32_t)done);
	return at + 4 + done;
}

struct sample sample_pack(const struct sample *plain, const char *format)
{
	size_t room = plain->size * 2 + 1024;
	struct sample packed = {.data = malloc(room)};

	must(packed.data);
	if (!strcmp(format, "gzip")) {
		packed.size = pack_gzip(plain, packed.data, room);
		return packed; /* its own trailer holds the size */
	}
	if (!strcmp(format, "xz"))
		packed.size = pack_xz(plain, packed.data, room);
	else if (!strcmp(format, "lz4"))
		packed.size = pack_lz4(plain, packed.data, room);
	else
		packed.size = ZSTD_compress(packed.data, room, plain->data, plain->size, 19);
	store_le32(packed.data + packed.size, (uint32_t)plain->size);
	packed.size += 4;
	return packed;
}

struct sample sample_bzimage(const struct sample *payload)
{
	const size_t code = 1024, offset = 0x300;
	size_t code_size = (offset + payload->size + 15) / 16 * 16;
	struct sample image = {.data = calloc(1, code + code_size), .size = code + code_size};
	uint8_t *head = image.data;

	must(head);
	head[0x1f1] = 1; /* setup_sects */
	store_le32(head + 0x1f4, (uint32_t)(code_size / 16));
	store_le16(head + 0x1fe, 0xaa55);
	head[0x200] = 0xeb;
	head[0x201] = 0x6a;
	memcpy(head + 0x202, "HdrS", 4);
	store_le16(head + 0x206, 0x20f);
	head[0x211] = 1;
	store_le32(head + 0x22c, 0x7fffffff);
	store_le32(head + 0x230, 0x200000);
	head[0x234] = 1;
	store_le16(head + 0x236, 1);
	store_le32(head + 0x238, 2047);
	store_le32(head + 0x248, offset);
	store_le32(head + 0x24c, (uint32_t)payload->size);
	store_le64(head + 0x258, SAMPLE_BASE);
	store_le32(head + 0x260, SAMPLE_NEEDED);
	memset(head + code, 0x90, offset);
	memcpy(head + code + offset, payload->data, payload->size);
	return image;
}

struct sample sample_kernel(const char *format, enum sample_table table)
{
	struct sample elf = sample_elf(true, table);
	struct sample packed = sample_pack(&elf, format);
	struct sample image = sample_bzimage(&packed);

	free(elf.data);
	free(packed.data);
	return image;
}
