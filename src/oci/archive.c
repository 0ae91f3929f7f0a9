/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static void add(struct archive *archive, const void *bytes, size_t length)
{
	if (!archive->failed && fwrite(bytes, 1, length, archive->file) != length)
		archive->failed = errno ? errno : EIO;
}

/* To the next multiple of four, where the next thing begins. */
static void pad(struct archive *archive, size_t length)
{
	add(archive, "\0\0\0", -length % 4);
}

static void add_member(struct archive *archive, const char *path, unsigned mode, const void *bytes,
	size_t length, unsigned device)
{
	char head[111];

	if (length > UINT32_MAX) {
		archive->failed = EFBIG;
		return;
	}
	snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		++archive->count, mode, 0, 0, 1, 0, (unsigned)length, 0, 0, device >> 8,
		device & 255, (unsigned)strlen(path) + 1, 0);
	add(archive, head, 110);
	add(archive, path, strlen(path) + 1);
	pad(archive, 110 + strlen(path) + 1);
	add(archive, bytes, length);
	pad(archive, length);
}

void archive_directory(struct archive *archive, const char *path)
{
	add_member(archive, path, S_IFDIR | 0755, "", 0, 0);
}

void archive_file(
	struct archive *archive, const char *path, unsigned mode, const void *bytes, size_t length)
{
	add_member(archive, path, S_IFREG | mode, bytes, length, 0);
}

void archive_character_device(
	struct archive *archive, const char *path, unsigned major, unsigned minor)
{
	add_member(archive, path, S_IFCHR | 0600, "", 0, major << 8 | minor);
}

int archive_end(struct archive *archive)
{
	add_member(archive, "TRAILER!!!", 0, "", 0, 0);
	if (fflush(archive->file) != 0 && !archive->failed)
		archive->failed = errno;
	return -archive->failed;
}
