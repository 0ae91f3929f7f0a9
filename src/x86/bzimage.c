/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/bzimage.h"

#include "base/bytes.h"
#include "base/checked.h"

#include <errno.h>
#include <string.h>

#define SECTOR 512

/* Offsets of fields in the file, by their names in boot.rst. */
enum {
	SETUP_SECTS = 0x1f1,
	SYSSIZE = 0x1f4,
	BOOT_FLAG = 0x1fe,
	JUMP_LENGTH = 0x201,
	HEADER = 0x202,
	VERSION = 0x206,
	INITRD_ADDR_MAX = 0x22c,
	KERNEL_ALIGNMENT = 0x230,
	RELOCATABLE_KERNEL = 0x234,
	XLOADFLAGS = 0x236,
	CMDLINE_SIZE = 0x238,
	PAYLOAD_OFFSET = 0x248,
	PAYLOAD_LENGTH = 0x24c,
	PREF_ADDRESS = 0x258,
	INIT_SIZE = 0x260,
};

#define MAGIC         0x53726448U /* "HdrS" */
#define BOOT_MAGIC    0xaa55
#define XLF_KERNEL_64 1
#define MIN_ALIGNMENT 0x200000U /* MIN_KERNEL_ALIGN of x86-64 */
#define MAX_ALIGNMENT 0x40000000U

bool bzimage_probe(const uint8_t *head, size_t size)
{
	return size >= VERSION + 2 && load_le16(head + BOOT_FLAG) == BOOT_MAGIC &&
	       load_le32(head + HEADER) == MAGIC;
}

static int check_protocol(const uint8_t *head, struct error *err)
{
	unsigned version = load_le16(head + VERSION);

	if (version < 0x20c)
		return error_set(err, ENOEXEC,
			"boot protocol %u.%02u; duet needs 2.12 or newer (Linux 3.8)", version >> 8,
			version & 0xff);
	if (!(load_le16(head + XLOADFLAGS) & XLF_KERNEL_64))
		return error_set(
			err, ENOEXEC, "a 32-bit kernel; duet boots 64-bit (x86-64) kernels only");
	return 0;
}

static int locate_parts(
	struct bzimage *image, const uint8_t *head, uint64_t file_size, struct error *err)
{
	/* 0 means 4, for kernels of the floppy's time. */
	unsigned sectors = head[SETUP_SECTS] ? head[SETUP_SECTS] : 4;
	uint64_t offset = load_le32(head + PAYLOAD_OFFSET);

	image->code = (uint64_t)(sectors + 1) * SECTOR;
	image->code_size = (uint64_t)load_le32(head + SYSSIZE) * 16;
	image->payload = image->code + offset;
	image->payload_size = load_le32(head + PAYLOAD_LENGTH);
	if (!range_within(offset, image->payload_size, image->code_size) ||
		!range_within(image->payload, image->payload_size, file_size))
		return error_set(err, EINVAL,
			"truncated: it is %llu bytes long, its header speaks of %llu; get the file "
			"again",
			(unsigned long long)file_size,
			(unsigned long long)(image->code + image->code_size));
	/* A signature or padding may be missing behind the payload. */
	image->code_size = min_u64(image->code_size, file_size - image->code);
	return 0;
}

static void read_fields(struct bzimage *image, const uint8_t *head)
{
	/* The header ends where the jump over it leads to. */
	size_t end = min_u64(HEADER + head[JUMP_LENGTH], SETUP_HEADER_END);

	memcpy(image->setup, head + SETUP_HEADER, end - SETUP_HEADER);
	image->pref_address = load_le64(head + PREF_ADDRESS);
	image->init_size = load_le32(head + INIT_SIZE);
	image->initrd_max = load_le32(head + INITRD_ADDR_MAX);
	image->cmdline_max = load_le32(head + CMDLINE_SIZE);
	image->relocatable = head[RELOCATABLE_KERNEL] != 0;
	image->alignment = load_le32(head + KERNEL_ALIGNMENT);
	if (!is_power_of_two(image->alignment))
		image->alignment = MIN_ALIGNMENT;
}

/* By its own measure: memtest86+ asks for 1 MiB and pages, Linux for 2 MiB at least. */
static int check_address(struct bzimage *image, struct error *err)
{
	if (image->alignment > MAX_ALIGNMENT || image->pref_address % image->alignment)
		return error_set(err, EINVAL,
			"its header asks for an impossible address; the file is corrupt, get it "
			"again");
	if (image->alignment < MIN_ALIGNMENT)
		image->alignment = MIN_ALIGNMENT;
	return 0;
}

int bzimage_parse(struct bzimage *image, const uint8_t *head, size_t head_size, uint64_t file_size,
	struct error *err)
{
	int ret;

	memset(image, 0, sizeof(*image));
	if (head_size < BZIMAGE_HEAD_SIZE)
		return error_set(err, EINVAL,
			"truncated: its header alone needs %u bytes; get the file again",
			BZIMAGE_HEAD_SIZE);
	ret = check_protocol(head, err);
	if (ret == 0)
		ret = locate_parts(image, head, file_size, err);
	if (ret < 0)
		return ret;
	read_fields(image, head);
	return check_address(image, err);
}
