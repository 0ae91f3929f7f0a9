/* SPDX-License-Identifier: Apache-2.0 */
/* The state folder, and what is kept by its content. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/sha256.h"
#include "oci/container.h"
#include "oci/fingerprint.h"
#include "oci/kit.h"
#include "oci/spawn.h"
#include "oci/store.h"
#include "oci/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64], path[128];

static int make_root(void **state)
{
	strcpy(root, "/tmp/duet-oci-test-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static const char *below(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", root, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(below(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_ids(void **state)
{
	struct error err = {0};
	char longest[CONTAINER_ID_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[CONTAINER_ID_MAX + 1] = 0;
	assert_int_equal(container_check_id("a_B+c-d.9", &err), 0);
	assert_true(container_check_id("", &err) < 0);
	assert_true(container_check_id("..", &err) < 0);
	assert_true(container_check_id("a/b", &err) < 0);
	assert_true(container_check_id("a\nb", &err) < 0);
	assert_true(container_check_id(longest, &err) < 0);
	longest[CONTAINER_ID_MAX] = 0;
	assert_int_equal(container_check_id(longest, &err), 0);
}

static void test_life(void **state)
{
	struct container one, two;
	struct error err = {0};
	json_t *json;

	assert_int_equal(container_make(&one, below("deep/er"), "web", &err), 0);
	assert_int_equal(container_make(&two, root, "x/..", &err), -EINVAL);
	one.root = below("deep/er");
	one.bundle = strdup("/srv/\xc3\xa4");
	one.network = strdup("/run/netns/a");
	one.annotations = json_pack("{s:s}", "k", "v");
	one.version = strdup("1.1.0");
	one.status = CONTAINER_RUNNING;
	assert_int_equal(identity_of(getpid(), &one.keeper), 0);
	assert_int_equal(container_store(&one, &err), 0);

	assert_int_equal(container_open(&two, one.root, "web", false, &err), 0);
	assert_string_equal(two.bundle, "/srv/\xc3\xa4");
	assert_string_equal(two.network, "/run/netns/a");
	assert_null(two.cgroup);
	assert_int_equal(container_status(&two), CONTAINER_RUNNING);
	json = container_state(&two);
	assert_int_equal(json_integer_value(json_object_get(json, "pid")), getpid());
	assert_string_equal(json_string_value(json_object_get(json, "status")), "running");
	assert_string_equal(json_string_value(json_object_get(json, "ociVersion")), "1.1.0");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(json, "annotations"), "k")), "v");
	json_decref(json);
	/* A later process of its id is not it. */
	two.keeper.began++;
	assert_int_equal(container_status(&two), CONTAINER_STOPPED);
	assert_int_equal(identity_signal(&two.keeper, 0), -ESRCH);
	assert_int_equal(container_remove(&two, &err), 0);
	assert_int_equal(access(below("deep/er/web"), F_OK), -1);
	container_close(&two);
	container_close(&one);
	assert_int_equal(container_open(&two, below("deep/er"), "web", false, &err), -ENOENT);
	container_close(&two);
}

static void test_twice(void **state)
{
	struct container one, two;
	struct error err = {0};

	assert_int_equal(container_make(&one, root, "twice", &err), 0);
	assert_int_equal(container_make(&two, root, "twice", &err), -EEXIST);
	assert_non_null(strstr(err.text, "exists already"));
	container_close(&two);
	/* Its maker was killed before it had a state: it is stopped, and can be deleted. */
	assert_int_equal(container_open(&two, root, "twice", false, &err), 0);
	assert_int_equal(container_status(&two), CONTAINER_STOPPED);
	assert_int_equal(container_remove(&two, &err), 0);
	container_close(&two);
	container_close(&one);
}

static void test_damaged(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "{}", "{\"status\":\"odd\"}",
		"{\"status\":\"running\"}",
		"{\"status\":\"running\",\"keeper\":{\"pid\":\"x\",\"began\":1}}"};
	struct container one, two;
	struct error err = {0};

	assert_int_equal(container_make(&one, root, "bad", &err), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(
			container_write(&one, "state.json", texts[i], strlen(texts[i]), &err), 0);
		assert_int_equal(container_open(&two, root, "bad", false, &err), -EINVAL);
		assert_non_null(strstr(err.text, "delete --force"));
		container_close(&two);
	}
	/* A link in the folder's place leads nowhere. */
	assert_int_equal(container_remove(&one, &err), 0);
	assert_int_equal(symlink("/tmp", below("bad")), 0);
	assert_true(container_open(&two, root, "bad", false, &err) < 0);
	container_close(&two);
	container_close(&one);
	unlink(below("bad"));
}

static void end(struct sha256 *sha, char text[SHA256_TEXT_SIZE])
{
	uint8_t digest[SHA256_SIZE];

	sha256_end(sha, digest);
	sha256_text(digest, text);
}

/* FIPS 180-4's examples, and one of each length about a block. */
static void test_sha256(void **state)
{
	struct sha256 sha;
	char text[SHA256_TEXT_SIZE], again[SHA256_TEXT_SIZE];
	uint8_t bytes[200];

	sha256_begin(&sha);
	sha256_add(&sha, "abc", 3);
	end(&sha, text);
	assert_string_equal(
		text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_begin(&sha);
	sha256_add(&sha, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
	end(&sha, text);
	assert_string_equal(
		text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(bytes, 7, sizeof(bytes));
	for (size_t length = 0; length < sizeof(bytes); length++) {
		sha256_begin(&sha);
		sha256_add(&sha, bytes, length);
		end(&sha, text);
		sha256_begin(&sha);
		for (size_t i = 0; i < length; i++)
			sha256_add(&sha, bytes + i, 1);
		end(&sha, again);
		assert_string_equal(text, again);
	}
}

static void take(const char *name, struct fingerprint *fingerprint)
{
	struct error err = {0};

	assert_int_equal(fingerprint_take(below(name), fingerprint, &err), 0);
}

static void test_fingerprint(void **state)
{
	struct fingerprint before, after;

	mkdir(below("tree"), 0755);
	mkdir(below("tree/in"), 0755);
	put("tree/in/file", "some");
	put("tree/na\nme", "");
	assert_int_equal(symlink("/etc/passwd", below("tree/out")), 0);
	assert_int_equal(symlink("..", below("tree/up")), 0);
	take("tree", &before);
	take("tree", &after);
	assert_string_equal(before.text, after.text);
	assert_int_equal(before.files, 5);
	put("tree/in/file", "same");
	take("tree", &after);
	assert_string_not_equal(before.text, after.text);
	before = after;
	assert_int_equal(chmod(below("tree/na\nme"), 04755), 0);
	take("tree", &after);
	assert_string_not_equal(before.text, after.text);
	before = after;
	unlink(below("tree/out"));
	assert_int_equal(symlink("/etc/shadow", below("tree/out")), 0);
	take("tree", &after);
	assert_string_not_equal(before.text, after.text);
}

static int made;

static int make_file(void *opaque, const char *name, struct error *err)
{
	FILE *file = fopen(name, "w");

	made++;
	if (!file || fputs("content", file) < 0 || fclose(file) != 0)
		return error_errno(err, errno, "%s", name);
	return *(const int *)opaque;
}

static void test_store(void **state)
{
	int result = 0;
	const struct store_make what = {
		.cache = strdup(below("cache")), .name = "x", .make = make_file, .opaque = &result};
	char *name = NULL;
	struct error err = {0};

	made = 0;
	result = -EIO;
	assert_int_equal(store_get(&what, &name, &err), -EIO);
	assert_int_equal(access(below("cache/x"), F_OK), -1);
	result = 0;
	assert_int_equal(store_get(&what, &name, &err), 0);
	assert_string_equal(name, below("cache/x"));
	free(name);
	assert_int_equal(store_get(&what, &name, &err), 0);
	free(name);
	assert_int_equal(made, 2);
	/* What others may write is nothing to boot from. */
	assert_int_equal(chmod(below("cache"), 0777), 0);
	assert_int_equal(store_get(&what, &name, &err), -EPERM);
	free((void *)(uintptr_t)what.cache);
}

static void test_order(void **state)
{
	static const char dep[] = "kernel/a/ext4.ko: kernel/b/jbd2.ko kernel/c/crc16.ko\n"
				  "kernel/b/jbd2.ko:\nkernel/c/crc16.ko:\n"
				  "kernel/d/virtio-blk.ko.xz: kernel/c/crc16.ko\nodd\n"
				  "kernel/e/ext.ko:\n";
	static const char *const wanted[] = {"virtio_blk", "ext4", "absent", NULL};
	struct texts order = {0};

	assert_int_equal(kit_order(dep, wanted, &order), 0);
	assert_int_equal(order.count, 4);
	assert_string_equal(order.items[0], "kernel/c/crc16.ko");
	assert_string_equal(order.items[1], "kernel/d/virtio-blk.ko.xz");
	assert_string_equal(order.items[2], "kernel/b/jbd2.ko");
	assert_string_equal(order.items[3], "kernel/a/ext4.ko");
	texts_free(&order);
}

static int run(
	const char *script, const char *input, unsigned timeout, char *output, struct error *err)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct spawn spawn = {.path = "sh",
		.argv = argv,
		.input = input,
		.timeout = timeout,
		.output = output,
		.output_room = 32};

	*err = (struct error){0};
	return spawn_run(&spawn, err);
}

static void test_spawn(void **state)
{
	const struct spawn none = {
		.path = "/nonexistent/x", .argv = (const char *const[]){"x", NULL}};
	char output[32];
	struct error err;

	assert_int_equal(run("cat", "given", 0, output, &err), 0);
	assert_string_equal(output, "given");
	assert_true(run("echo bad >&2; exit 3", NULL, 0, output, &err) < 0);
	assert_string_equal(err.text, "sh ended with status 3: bad");
	assert_true(run("seq 100000; echo last; kill -9 $$", NULL, 0, output, &err) < 0);
	assert_non_null(strstr(err.text, "was killed by signal 9"));
	assert_non_null(strstr(err.text, "last"));
	assert_int_equal(run("exec sleep 1000", NULL, 1, output, &err), -ETIMEDOUT);
	/* One that goes on in the background holds nobody up. */
	assert_int_equal(run("sleep 1000 & echo $!", NULL, 0, output, &err), 0);
	assert_int_equal(kill((pid_t)strtol(output, NULL, 10), SIGKILL), 0);
	assert_int_equal(spawn_run(&none, &err), -ENOENT);
}

static void bind_at(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, below(name));
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static int prepare(const char *source, const char *destination, uint64_t flags, struct setup *setup,
	struct error *err)
{
	*setup = (struct setup){.mount_count = 1};
	setup->mounts = calloc(1, sizeof(*setup->mounts));
	setup->mounts[0] = (struct mount){.is_bind = true,
		.source = strdup(source),
		.destination = strdup(destination),
		.flags = flags};
	*err = (struct error){0};
	return volumes_prepare(setup, root, err);
}

static void test_volumes(void **state)
{
	struct setup setup;
	struct error err;

	put("plain", "text");
	mkdir(below("folder"), 0755);
	mkfifo(below("pipe"), 0600);
	bind_at("socket");
	assert_int_equal(prepare("plain", "/x", MS_RDONLY, &setup, &err), 0);
	assert_int_equal(setup.mounts[0].kind, MOUNT_FILE);
	assert_int_equal(setup.mounts[0].content.length, 4);
	setup_free(&setup);
	assert_int_equal(prepare("plain", "/x", 0, &setup, &err), 0);
	assert_int_equal(setup.mounts[0].kind, MOUNT_SHARE);
	assert_true(setup.mounts[0].is_file);
	setup_free(&setup);
	assert_int_equal(prepare("plain", "/etc/hosts", 0, &setup, &err), 0);
	assert_int_equal(setup.mounts[0].kind, MOUNT_FILE);
	setup_free(&setup);
	assert_int_equal(prepare(below("folder"), "/x", 0, &setup, &err), 0);
	assert_int_equal(setup.mounts[0].kind, MOUNT_SHARE);
	setup_free(&setup);
	assert_int_equal(prepare("folder", "/dev/shm", 0, &setup, &err), 0);
	assert_int_equal(setup.mounts[0].kind, MOUNT_KERNEL);
	setup_free(&setup);
	assert_true(prepare("absent", "/x", 0, &setup, &err) < 0);
	assert_non_null(strstr(err.text, "absent: No such file"));
	setup_free(&setup);
	assert_true(prepare("pipe", "/x", 0, &setup, &err) < 0);
	assert_non_null(strstr(err.text, "is a pipe"));
	setup_free(&setup);
	assert_true(prepare("socket", "/x", 0, &setup, &err) < 0);
	assert_non_null(strstr(err.text, "is a socket"));
	setup_free(&setup);
	assert_true(prepare("/dev/null", "/x", 0, &setup, &err) < 0);
	assert_non_null(strstr(err.text, "is a device"));
	setup_free(&setup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_fingerprint),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_spawn),
		cmocka_unit_test(test_volumes),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
