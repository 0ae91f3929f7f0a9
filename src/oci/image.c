/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/image.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "oci/fingerprint.h"
#include "oci/spawn.h"
#include "oci/store.h"
#include "oci/text.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Of what a maker of images said. */
#define WORDS_ROOM 320
#define TRIES      3

struct making {
	const char *tree;
	const struct fingerprint *fingerprint;
};

static bool has_program(const char *name)
{
	static const char *const folders[] = {
		"/usr/bin", "/usr/sbin", "/usr/local/bin", "/sbin", "/bin"};
	char path[64];

	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static int run(const char *const *argv, struct error *err)
{
	/* Tools of the system, which need not be on an engine's PATH. */
	static const char *const env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
		NULL};
	char words[WORDS_ROOM];
	const struct spawn spawn = {.path = argv[0],
		.argv = argv,
		.env = env,
		.output = words,
		.output_room = sizeof(words)};

	return spawn_run(&spawn, err);
}

static int make_erofs(void *opaque, const char *path, struct error *err)
{
	const struct making *making = opaque;
	const char *const argv[] = {"mkfs.erofs", path, making->tree, NULL};

	return run(argv, err);
}

/* Neither a journal nor room for more: nobody writes to it. Its size is a guess from above, in a
 * file with holes; a tree that defeats it gets twice as much. */
static int make_ext4(void *opaque, const char *path, struct error *err)
{
	const struct making *making = opaque;
	const uint64_t files = making->fingerprint->files + 64;
	uint64_t size = (making->fingerprint->bytes + files * 512) / 16 * 17 + (16U << 20);
	char blocks[32], inodes[32];
	const char *const argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256",
		"-m", "0", "-N", inodes, "-O", "^has_journal,^resize_inode,^metadata_csum", "-E",
		"nodiscard", "-d", making->tree, path, blocks, NULL};
	int ret = -EIO;

	snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)files);
	for (unsigned i = 0; i < TRIES && ret < 0; i++, size *= 2) {
		snprintf(blocks, sizeof(blocks), "%lluk", (unsigned long long)(size >> 10));
		unlink(path);
		ret = run(argv, err);
		if (ret == -ENOENT)
			return error_set(err, ENOENT,
				"mke2fs makes the disk of a container's files, and is not there; "
				"install e2fsprogs, or erofs-utils");
	}
	return ret;
}

int image_get(const char *cache, const char *tree, struct image *image, struct error *err)
{
	const bool erofs = has_program("mkfs.erofs");
	struct fingerprint fingerprint;
	struct making making = {.tree = tree, .fingerprint = &fingerprint};
	_cleanup_free_ char *name = NULL;
	struct store_make what = {
		.cache = cache, .make = erofs ? make_erofs : make_ext4, .opaque = &making};
	int ret = fingerprint_take(tree, &fingerprint, err);

	if (ret < 0)
		return ret;
	image->type = erofs ? "erofs" : "ext4";
	name = text_format("%s.%s", fingerprint.text, image->type);
	if (!name)
		return error_set(err, ENOMEM, "there is no memory");
	what.name = name;
	return store_get(&what, &image->path, err);
}
