/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/kernel_file.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "x86/kernel_cache.h"
#include "x86/unpack.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* #syscalls main: newfstatat fstat pread64 getrandom */

/* A whole file, mapped. Pages of a file that shrinks meanwhile would raise SIGBUS: sizes are those
 * of the moment of opening, and the file is mapped only on the way to the cache. */
struct mapping {
	uint8_t *data;
	size_t size;
};

static void cleanup_mapping(struct mapping *mapping)
{
	if (mapping->data)
		munmap(mapping->data, mapping->size);
}

/* Files people give by mistake; anything else is "data". */
static const char *describe(const uint8_t *head, size_t size)
{
	static const struct {
		const char *magic, *what;
	} known[] = {
		{"\x1f\x8b", "gzip-compressed data"},
		{"\xfd"
		 "7zXZ",
			"xz-compressed data"},
		{"\x28\xb5\x2f\xfd", "zstd-compressed data"},
		{"070701", "a cpio archive (an initramfs?)"},
		{"!<arch>", "an ar archive or Debian package"},
		{"MZ", "an EFI program"},
		{"#!", "a script"},
		{"QFI\xfb", "a qcow2 disk image"},
	};

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t length = strlen(known[i].magic);

		if (size >= length && !memcmp(head, known[i].magic, length))
			return known[i].what;
	}
	return "data";
}

static int identify(struct kernel_file *file, struct error *err)
{
	if (file->head_size == 0)
		return error_set(err, EINVAL, "the file is empty; give a bzImage or vmlinux");
	file->is_bzimage = bzimage_probe(file->head, file->head_size);
	if (file->is_bzimage)
		return bzimage_parse(&file->bzimage, file->head, file->head_size,
			(uint64_t)file->status.st_size, err);
	if (file->head_size >= SELFMAG && !memcmp(file->head, ELFMAG, SELFMAG))
		return 0;
	return error_set(err, ENOEXEC,
		"not a Linux kernel but %s; give a bzImage (vmlinuz) or an ELF vmlinux",
		describe(file->head, file->head_size));
}

int kernel_file_open(struct kernel_file *file, const char *path, struct error *err)
{
	ssize_t got;

	memset(file, 0, sizeof(*file));
	/* Not to block on a FIFO. */
	file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (file->fd < 0)
		return error_errno(err, errno,
			"cannot be opened; name a bzImage or vmlinux that you may read");
	if (fstat(file->fd, &file->status) < 0)
		return error_errno(err, errno, "cannot look at it");
	if (S_ISDIR(file->status.st_mode))
		return error_set(err, EISDIR, "a directory; give a bzImage or vmlinux file");
	if (!S_ISREG(file->status.st_mode))
		return error_set(err, EINVAL, "not a regular file; give a bzImage or vmlinux file");
	got = pread(file->fd, file->head, sizeof(file->head), 0);
	if (got < 0)
		return error_errno(err, errno, "cannot read it");
	file->head_size = (size_t)got;
	return identify(file, err);
}

void kernel_file_close(struct kernel_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

const char *kernel_file_compression(const struct kernel_file *file)
{
	uint8_t magic[16];
	const char *format = NULL;

	if (file->is_bzimage && file->bzimage.payload_size &&
		pread(file->fd, magic, sizeof(magic), (off_t)file->bzimage.payload) ==
			(ssize_t)sizeof(magic))
		format = unpack_format(magic, sizeof(magic));
	return format ? format : "none";
}

/* A guest may reset long after the file was opened. */
static int map_file(const struct kernel_file *file, struct mapping *mapping, struct error *err)
{
	struct stat now;

	/* Some file systems (9p) tell nothing of one that was deleted, which nobody cuts short. */
	if (fstat(file->fd, &now) == 0 && now.st_size < file->status.st_size)
		return error_set(err, EINVAL,
			"the file was cut short since it was opened; put a new kernel beside it "
			"and rename it, then start the machine anew");
	mapping->size = (size_t)file->status.st_size;
	mapping->data = mmap(NULL, mapping->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
	if (mapping->data != MAP_FAILED)
		return 0;
	mapping->data = NULL;
	return error_errno(err, errno, "cannot map it");
}

static int build_from_payload(
	struct kernel_image *image, const uint8_t *packed, size_t size, struct error *err)
{
	struct unpacked unpacked;
	int ret = unpack(packed, size, UNPACK_MAX, &unpacked, err);

	if (ret < 0)
		return ret;
	ret = kernel_image_build(image, unpacked.data, unpacked.size, err);
	image->mapping = unpacked.data;
	image->mapping_size = unpacked.size;
	return ret;
}

static int build(const struct kernel_file *file, struct mapping *mapping,
	struct kernel_image *image, struct error *err)
{
	int ret;

	if (file->is_bzimage)
		return build_from_payload(image, mapping->data + file->bzimage.payload,
			file->bzimage.payload_size, err);
	ret = kernel_image_build(image, mapping->data, mapping->size, err);
	image->mapping = mapping->data;
	image->mapping_size = mapping->size;
	mapping->data = NULL; /* now the image's */
	return ret;
}

static void digest_of(
	const struct kernel_file *file, const struct mapping *mapping, uint8_t digest[SHA256_SIZE])
{
	if (file->is_bzimage)
		sha256(mapping->data + file->bzimage.payload, file->bzimage.payload_size, digest);
	else
		sha256(mapping->data, mapping->size, digest);
}

/* The file must be the one that was read. */
static void link_entry(int cache, const struct kernel_file *file, const uint8_t *digest)
{
	struct stat now;

	if (fstat(file->fd, &now) == 0 && now.st_size == file->status.st_size &&
		!memcmp(&now.st_ctim, &file->status.st_ctim, sizeof(now.st_ctim)))
		kernel_cache_link(cache, &now, digest);
}

static int unpack_into_cache(const struct kernel_file *file, int cache, struct kernel_image *image,
	bool *from_cache, struct error *err)
{
	__attribute__((cleanup(cleanup_mapping))) struct mapping mapping = {0};
	uint8_t digest[SHA256_SIZE];
	int ret = map_file(file, &mapping, err);

	if (ret < 0)
		return ret;
	if (cache < 0)
		return build(file, &mapping, image, err);
	digest_of(file, &mapping, digest);
	*from_cache = kernel_cache_find_digest(cache, digest, image);
	if (!*from_cache) {
		ret = build(file, &mapping, image, err);
		if (ret < 0)
			return ret;
		ret = kernel_cache_store(cache, digest, image);
		kernel_cache_prune(cache);
	}
	if (ret == 0)
		link_entry(cache, file, digest);
	else
		log_info("kernel cache: %s; the next start unpacks again", strerror(-ret));
	return 0;
}

int kernel_file_unpack(const struct kernel_file *file, const char *cache,
	struct kernel_image *image, bool *from_cache, struct error *err)
{
	_cleanup_close_ int directory = cache ? kernel_cache_open(cache) : -1;

	*image = (struct kernel_image){.fd = -1};
	*from_cache = directory >= 0 && kernel_cache_find_file(directory, &file->status, image);
	if (*from_cache)
		return 0;
	return unpack_into_cache(file, directory, image, from_cache, err);
}
