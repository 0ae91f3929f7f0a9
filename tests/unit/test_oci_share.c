/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's server: what a guest's kernel asks of it, and what one asks that wants to get out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "oci/share.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct rig {
	char root[64];
	struct share_server *server;
	_Alignas(8) uint8_t request[SHARE_REQUEST_MAX];
	_Alignas(8) uint8_t answer[SHARE_ANSWER_MAX];
	size_t length;
} rig;

static const char *below(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", rig.root, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(below(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int begin_as(bool readonly)
{
	strcpy(rig.root, "/tmp/duet-oci-test-XXXXXX");
	if (!mkdtemp(rig.root))
		return -1;
	mkdir(below("tree"), 0755);
	put("secret", "outside");
	put("tree/file", "content");
	mkdir(below("tree/dir"), 0755);
	if (symlink("../secret", below("tree/out")) < 0)
		return -1;
	rig.server = share_new(open(below("tree"), O_PATH | O_CLOEXEC), readonly);
	return rig.server ? 0 : -1;
}

static int begin(void **state)
{
	return begin_as(false);
}

static int begin_readonly(void **state)
{
	return begin_as(true);
}

static int end(void **state)
{
	char command[96];

	share_free(rig.server);
	snprintf(command, sizeof(command), "rm -rf %s", rig.root);
	return system(command);
}

static void ask(uint32_t opcode, uint64_t node, const void *body, size_t length)
{
	struct fuse_in_header *head = (void *)rig.request;

	*head = (struct fuse_in_header){.len = (uint32_t)(sizeof(*head) + length),
		.opcode = opcode,
		.unique = 5,
		.nodeid = node,
		.uid = getuid(),
		.gid = getgid()};
	memcpy(rig.request + sizeof(*head), body, length);
	rig.length = head->len;
}

static void more(const void *bytes, size_t length)
{
	memcpy(rig.request + rig.length, bytes, length);
	rig.length += length;
	((struct fuse_in_header *)(void *)rig.request)->len = (uint32_t)rig.length;
}

/* The error of the answer, 0 or negative; what follows the header is at *@out. */
static int answer(void *out)
{
	const struct fuse_out_header *head = (const void *)rig.answer;
	const int length = share_answer(rig.server, rig.request, rig.length, rig.answer);

	assert_true(length >= (int)sizeof(*head));
	assert_int_equal(head->len, length);
	assert_int_equal(head->unique, 5);
	if (out)
		*(const void **)out = rig.answer + sizeof(*head);
	return head->error;
}

static int lookup(uint64_t parent, const char *name, uint64_t *node)
{
	const struct fuse_entry_out *entry;
	int ret;

	ask(FUSE_LOOKUP, parent, name, strlen(name) + 1);
	ret = answer(&entry);
	if (ret == 0 && node)
		*node = entry->nodeid;
	return ret;
}

static int open_node(uint64_t node, uint32_t flags, uint64_t *handle)
{
	const struct fuse_open_in in = {.flags = flags};
	const struct fuse_open_out *out;
	int ret;

	ask(FUSE_OPEN, node, &in, sizeof(in));
	ret = answer(&out);
	if (ret == 0)
		*handle = out->fh;
	return ret;
}

static void test_init(void **state)
{
	struct fuse_init_in in = {.major = 7, .minor = 38, .max_readahead = 4096, .flags = ~0U};
	const struct fuse_init_out *out;

	ask(FUSE_INIT, 0, &in, sizeof(in));
	assert_int_equal(answer(&out), 0);
	assert_int_equal(out->max_write, SHARE_DATA_MAX);
	in.major = 6;
	ask(FUSE_INIT, 0, &in, sizeof(in));
	assert_int_equal(answer(NULL), -EPROTO);
}

static void test_read(void **state)
{
	struct fuse_read_in in = {.size = 100};
	const char *bytes;
	uint64_t node = 0;

	assert_int_equal(lookup(FUSE_ROOT_ID, "file", &node), 0);
	assert_int_equal(open_node(node, O_RDONLY, &in.fh), 0);
	ask(FUSE_READ, node, &in, sizeof(in));
	assert_int_equal(answer(&bytes), 0);
	assert_memory_equal(bytes, "content", 7);
	ask(FUSE_RELEASE, node, &(struct fuse_release_in){.fh = in.fh},
		sizeof(struct fuse_release_in));
	assert_int_equal(answer(NULL), 0);
	ask(FUSE_READ, node, &in, sizeof(in));
	assert_int_equal(answer(NULL), -EBADF);
}

static void test_write(void **state)
{
	const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0640};
	struct fuse_write_in write_in = {.size = 4};
	const struct fuse_open_out *opened;
	struct stat info;
	char text[8] = "";
	int fd;

	ask(FUSE_CREATE, FUSE_ROOT_ID, &in, sizeof(in));
	more("na\nme", 6);
	assert_int_equal(answer(NULL), 0);
	opened = (const void *)(rig.answer + sizeof(struct fuse_out_header) +
				sizeof(struct fuse_entry_out));
	write_in.fh = opened->fh;
	ask(FUSE_WRITE, 0, &write_in, sizeof(write_in));
	more("text", 4);
	assert_int_equal(answer(NULL), 0);
	fd = open(below("tree/na\nme"), O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "text");
	assert_int_equal(fstat(fd, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0640);
	close(fd);
	/* What it says is longer than what came. */
	write_in.size = 5;
	ask(FUSE_WRITE, 0, &write_in, sizeof(write_in));
	more("text", 4);
	assert_int_equal(answer(NULL), -EINVAL);
}

/* Links are told of and not followed, and there is no way up. */
static void test_way_out(void **state)
{
	static const char *const names[] = {"..", ".", "", "dir/..", "/", "/etc", "../secret"};
	const struct fuse_mkdir_in in = {.mode = 0755};
	const char *target;
	uint64_t node = 0, handle = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		assert_true(lookup(FUSE_ROOT_ID, names[i], NULL) < 0);
		ask(FUSE_MKDIR, FUSE_ROOT_ID, &in, sizeof(in));
		more(names[i], strlen(names[i]) + 1);
		assert_true(answer(NULL) < 0);
		ask(FUSE_UNLINK, FUSE_ROOT_ID, names[i], strlen(names[i]) + 1);
		assert_true(answer(NULL) < 0);
	}
	assert_int_equal(lookup(FUSE_ROOT_ID, "out", &node), 0);
	ask(FUSE_READLINK, node, "", 0);
	assert_int_equal(answer(&target), 0);
	assert_memory_equal(target, "../secret", 9);
	assert_int_equal(open_node(node, O_RDONLY, &handle), -ENXIO);
	assert_true(lookup(node, "x", NULL) < 0);
	/* Nor by what a link is taken for. */
	ask(FUSE_SETATTR, node, &(struct fuse_setattr_in){.valid = FATTR_SIZE},
		sizeof(struct fuse_setattr_in));
	assert_int_equal(answer(NULL), -EINVAL);
	ask(FUSE_SETATTR, node, &(struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777},
		sizeof(struct fuse_setattr_in));
	assert_int_equal(answer(NULL), -EOPNOTSUPP);
	assert_int_equal(access(below("secret"), F_OK), 0);
}

static void test_no_devices(void **state)
{
	static const uint32_t modes[] = {
		S_IFCHR | 0600, S_IFBLK | 0600, S_IFDIR | 0600, S_IFLNK, 0};
	struct fuse_mknod_in in = {.rdev = 0x101};

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		in.mode = modes[i];
		ask(FUSE_MKNOD, FUSE_ROOT_ID, &in, sizeof(in));
		more("device", 7);
		assert_int_equal(answer(NULL), -EPERM);
	}
	in.mode = S_IFIFO | 0600;
	ask(FUSE_MKNOD, FUSE_ROOT_ID, &in, sizeof(in));
	more("pipe", 5);
	assert_int_equal(answer(NULL), 0);
}

static void test_folders(void **state)
{
	struct fuse_read_in in = {.size = 4096};
	const struct fuse_mkdir_in mode = {.mode = 0700};
	const struct fuse_rename2_in there = {.newdir = FUSE_ROOT_ID};
	const struct fuse_open_out *opened;
	const uint8_t *bytes;
	unsigned count = 0;
	size_t length;

	ask(FUSE_MKDIR, FUSE_ROOT_ID, &mode, sizeof(mode));
	more("fresh", 6);
	assert_int_equal(answer(NULL), 0);
	ask(FUSE_RENAME2, FUSE_ROOT_ID, &there, sizeof(there));
	more("fresh\0newer", 12);
	assert_int_equal(answer(NULL), 0);
	assert_int_equal(access(below("tree/newer"), F_OK), 0);
	ask(FUSE_RENAME2, FUSE_ROOT_ID, &(struct fuse_rename2_in){FUSE_ROOT_ID, RENAME_WHITEOUT, 0},
		sizeof(there));
	more("newer\0odd", 10);
	assert_int_equal(answer(NULL), -EINVAL);
	ask(FUSE_OPENDIR, FUSE_ROOT_ID, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in));
	assert_int_equal(answer(&opened), 0);
	in.fh = opened->fh;
	ask(FUSE_READDIR, FUSE_ROOT_ID, &in, sizeof(in));
	assert_int_equal(answer(&bytes), 0);
	length = ((const struct fuse_out_header *)(const void *)rig.answer)->len -
		 sizeof(struct fuse_out_header);
	for (size_t at = 0; at < length; count++)
		at += FUSE_DIRENT_SIZE((const struct fuse_dirent *)(const void *)(bytes + at));
	assert_int_equal(count, 6); /* file, dir, out, newer, . and .. */
	ask(FUSE_RMDIR, FUSE_ROOT_ID, "newer", 6);
	assert_int_equal(answer(NULL), 0);
}

static void test_nodes(void **state)
{
	struct fuse_forget_in in = {.nlookup = 1};
	uint64_t node = 0, again = 0;

	assert_int_equal(lookup(FUSE_ROOT_ID, "file", &node), 0);
	assert_int_equal(lookup(FUSE_ROOT_ID, "file", &again), 0);
	assert_int_equal(node, again);
	for (unsigned i = 0; i < 2; i++) {
		ask(FUSE_GETATTR, node, &(struct fuse_getattr_in){0},
			sizeof(struct fuse_getattr_in));
		assert_int_equal(answer(NULL), 0);
		ask(FUSE_FORGET, node, &in, sizeof(in));
		assert_int_equal(share_answer(rig.server, rig.request, rig.length, rig.answer), 0);
	}
	ask(FUSE_GETATTR, node, &(struct fuse_getattr_in){0}, sizeof(struct fuse_getattr_in));
	assert_int_equal(answer(NULL), -ESTALE);
	/* The root is not forgotten, nor what never was. */
	in.nlookup = UINT64_MAX;
	for (uint64_t number = 0; number < 9; number++) {
		ask(FUSE_FORGET, number, &in, sizeof(in));
		assert_int_equal(share_answer(rig.server, rig.request, rig.length, rig.answer), 0);
	}
	assert_int_equal(lookup(FUSE_ROOT_ID, "file", &again), 0);
}

static void test_readonly(void **state)
{
	const struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0640};
	uint64_t node = 0, handle = 0;

	assert_int_equal(lookup(FUSE_ROOT_ID, "file", &node), 0);
	assert_int_equal(open_node(node, O_RDONLY, &handle), 0);
	assert_int_equal(open_node(node, O_RDWR, &handle), -EROFS);
	assert_int_equal(open_node(node, O_RDONLY | O_TRUNC, &handle), -EROFS);
	ask(FUSE_UNLINK, FUSE_ROOT_ID, "file", 5);
	assert_int_equal(answer(NULL), -EROFS);
	ask(FUSE_CREATE, FUSE_ROOT_ID, &create, sizeof(create));
	more("x", 2);
	assert_int_equal(answer(NULL), -EROFS);
	assert_int_equal(access(below("tree/file"), F_OK), 0);
}

/* Each request shorter than it is, and of every kind: an answer or none, and nothing changed. */
static void test_cut_off(void **state)
{
	struct fuse_in_header *head = (void *)rig.request;
	static const uint8_t zeroes[128];

	for (uint32_t opcode = 0; opcode < 64; opcode++)
		for (size_t length = 0; length < sizeof(zeroes); length++) {
			ask(opcode, FUSE_ROOT_ID, zeroes, length);
			share_answer(rig.server, rig.request, rig.length, rig.answer);
		}
	ask(FUSE_GETATTR, FUSE_ROOT_ID, zeroes, 16);
	head->len++;
	assert_int_equal(share_answer(rig.server, rig.request, rig.length, rig.answer), -EBADMSG);
	assert_int_equal(share_answer(rig.server, rig.request, 8, rig.answer), -EBADMSG);
	assert_int_equal(access(below("tree/file"), F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_init, begin, end),
		cmocka_unit_test_setup_teardown(test_read, begin, end),
		cmocka_unit_test_setup_teardown(test_write, begin, end),
		cmocka_unit_test_setup_teardown(test_way_out, begin, end),
		cmocka_unit_test_setup_teardown(test_no_devices, begin, end),
		cmocka_unit_test_setup_teardown(test_folders, begin, end),
		cmocka_unit_test_setup_teardown(test_nodes, begin, end),
		cmocka_unit_test_setup_teardown(test_readonly, begin_readonly, end),
		cmocka_unit_test_setup_teardown(test_cut_off, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
