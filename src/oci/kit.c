/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/kit.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/sha256.h"
#include "oci/archive.h"
#include "oci/store.h"
#include "oci/text.h"

#include <errno.h>
#include <lzma.h>
#include <string.h>
#include <sys/stat.h>

#define MODULE_MAX  (64U << 20)
#define AGENT_MAX   (64U << 20)
#define UNPACK_STEP (1U << 20)

/* Whatever the container's VM has: cards, the agent's line, file systems. crc32c is asked for by
 * ext4 under the names of its makers. */
static const char *const wanted[] = {"virtio_pci", "virtio_blk", "virtio_net", "virtio_rng",
	"virtio_balloon", "vmw_vsock_virtio_transport", "overlay", "crc32c_generic", "ext4",
	"erofs", "fuse", "af_packet", NULL};

/* ---- modules.dep: "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko" ---- */

/* Whether the file of @length characters is the module @name; - and _ are one. */
static bool is_module(const char *file, size_t length, const char *name)
{
	const char *base = memrchr(file, '/', length);

	base = base ? base + 1 : file;
	for (; base < file + length && *name; base++, name++)
		if ((*base == '-' ? '_' : *base) != *name)
			return false;
	return !*name && (size_t)(file + length - base) >= 3 && memcmp(base, ".ko", 3) == 0;
}

static int add_once(struct texts *order, const char *file, size_t length)
{
	_cleanup_free_ char *copy = strndup(file, length);

	if (!copy)
		return -ENOMEM;
	return texts_have(order, copy) ? 0 : texts_add(order, copy);
}

/* A line's needs from the last on, as modprobe does, then itself. */
static int add_line(struct texts *order, const char *line, size_t length)
{
	const char *colon = memchr(line, ':', length), *end = line + length, *word;
	int ret = 0;

	while (ret == 0 && end > colon + 1) {
		word = end;
		while (word > colon + 1 && word[-1] != ' ')
			word--;
		if (word < end)
			ret = add_once(order, word, (size_t)(end - word));
		end = word - 1;
	}
	return ret ?: add_once(order, line, (size_t)(colon - line));
}

static int add_module(struct texts *order, const char *dep, const char *name)
{
	size_t length;

	for (; *dep; dep += length + (dep[length] != 0)) {
		const char *colon;

		length = strcspn(dep, "\n");
		colon = memchr(dep, ':', length);
		if (colon && is_module(dep, (size_t)(colon - dep), name))
			return add_line(order, dep, length);
	}
	return 0;
}

int kit_order(const char *dep, const char *const *names, struct texts *order)
{
	int ret = 0;

	for (; *names && ret == 0; names++)
		ret = add_module(order, dep, *names);
	return ret;
}

/* ---- the archive ---- */

struct making {
	const struct settings *settings;
	struct texts order;
};

/* One of Debian 13's, once, so that no guest has to. */
static int unpack(const char *path, char **bytes, size_t *length, struct error *err)
{
	uint64_t memory = MODULE_MAX;
	size_t room = 0, in = 0, out = 0;
	char *unpacked = NULL, *grown;
	lzma_ret ret;

	do {
		room += UNPACK_STEP;
		grown = room > MODULE_MAX ? NULL : realloc(unpacked, room);
		if (!grown)
			break;
		unpacked = grown;
		in = out = 0;
		ret = lzma_stream_buffer_decode(&memory, 0, NULL, (const uint8_t *)*bytes, &in,
			*length, (uint8_t *)unpacked, &out, room);
	} while (ret == LZMA_BUF_ERROR);
	if (!grown || ret != LZMA_OK) {
		free(unpacked);
		return error_set(err, EINVAL, "%s is damaged", path);
	}
	free(*bytes);
	*bytes = unpacked;
	*length = out;
	return 0;
}

static int add_kernel_module(struct archive *archive, const char *folder, const char *file,
	unsigned number, struct error *err)
{
	_cleanup_free_ char *path = text_format("%s/%s", folder, file), *bytes = NULL;
	char name[32];
	size_t length = 0;
	int ret;

	if (!path)
		return error_set(err, ENOMEM, "there is no memory");
	ret = read_whole(path, MODULE_MAX, &bytes, &length, err);
	if (ret == 0 && strcmp(path + strlen(path) - 3, ".xz") == 0)
		ret = unpack(path, &bytes, &length, err);
	else if (ret == 0 && strcmp(path + strlen(path) - 3, ".ko") != 0)
		ret = error_set(
			err, EINVAL, "%s is packed as no Debian kernel's modules are", path);
	if (ret < 0)
		return ret;
	snprintf(name, sizeof(name), "modules/%03u", number);
	archive_file(archive, name, 0600, bytes, length);
	return 0;
}

static int write_archive(const struct making *making, FILE *file, struct error *err)
{
	static const char *const folders[] = {"dev", "proc", "sys", "run", "modules"};
	struct archive archive = {.file = file};
	_cleanup_free_ char *agent = NULL;
	size_t length = 0;
	int ret = read_whole(making->settings->agent, AGENT_MAX, &agent, &length, err);

	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++)
		archive_directory(&archive, folders[i]);
	archive_character_device(&archive, "dev/console", 5, 1);
	for (uint32_t i = 0; i < making->order.count && ret == 0; i++)
		ret = add_kernel_module(
			&archive, making->settings->modules, making->order.items[i], i, err);
	if (ret < 0)
		return ret;
	archive_file(&archive, "init", 0700, agent, length);
	ret = archive_end(&archive);
	return ret < 0 ? error_errno(err, -ret, "the initial RAM disk") : 0;
}

static int make(void *opaque, const char *path, struct error *err)
{
	_cleanup_fclose_ FILE *file = fopen(path, "wxe");

	return file ? write_archive(opaque, file, err) : error_errno(err, errno, "%s", path);
}

/* ---- its name ---- */

static int add_file(struct sha256 *sha, const char *path, struct error *err)
{
	struct stat info;

	if (stat(path, &info) < 0)
		return error_errno(err, errno, "%s", path);
	sha256_add_text(sha, path);
	sha256_add(sha, &info.st_size, sizeof(info.st_size));
	sha256_add(sha, &info.st_mtim, sizeof(info.st_mtim));
	sha256_add(sha, &info.st_ino, sizeof(info.st_ino));
	return 0;
}

static int name_it(const struct making *making, char name[SHA256_TEXT_SIZE], struct error *err)
{
	uint8_t digest[SHA256_SIZE];
	struct sha256 sha;
	int ret;

	sha256_begin(&sha);
	ret = add_file(&sha, making->settings->agent, err);
	for (uint32_t i = 0; i < making->order.count && ret == 0; i++) {
		_cleanup_free_ char *path =
			text_format("%s/%s", making->settings->modules, making->order.items[i]);

		ret = path ? add_file(&sha, path, err)
			   : error_set(err, ENOMEM, "there is no memory");
	}
	sha256_end(&sha, digest);
	sha256_text(digest, name);
	return ret;
}

int kit_get(const struct settings *settings, char **path, struct error *err)
{
	_cleanup_free_ char *dep = NULL,
			    *dep_path = text_format("%s/modules.dep", settings->modules);
	struct making making = {.settings = settings};
	char name[SHA256_TEXT_SIZE + 8];
	const struct store_make what = {
		.cache = settings->cache, .name = name, .make = make, .opaque = &making};
	size_t length = 0;
	int ret;

	if (!dep_path)
		return error_set(err, ENOMEM, "there is no memory");
	ret = read_whole(dep_path, MODULE_MAX, &dep, &length, err);
	if (ret == 0 && kit_order(dep, wanted, &making.order) < 0)
		ret = error_set(err, ENOMEM, "there is no memory");
	if (ret == 0)
		ret = name_it(&making, name, err);
	if (ret == 0) {
		strcat(name, ".cpio");
		ret = store_get(&what, path, err);
	}
	texts_free(&making.order);
	return ret;
}
