/* SPDX-License-Identifier: Apache-2.0 */
/* The files that the block back end opens and those that it refuses, with words that help. */
#include "block_rig.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void refused(const struct block_options *options, int code, const char *word)
{
	struct block *block = NULL;
	struct error err = {0};

	assert_int_equal(block_open(&block, options, &err), -code);
	assert_null(block);
	assert_non_null(strstr(err.text, "--disk path="));
	assert_non_null(strstr(err.text, options->path));
	if (!strstr(err.text, word))
		fail_msg("no \"%s\" in: %s", word, err.text);
	assert_null(strchr(err.text, '\n'));
}

static void test_refuses(void **state)
{
	struct block_rig rig;
	struct block_options options = {.path = rig.path, .lock = true};
	char text[160];

	block_rig_files(&rig, "/tmp");
	snprintf(text, sizeof(text), "`truncate -s 1536 %s`", rig.path);
	block_rig_make_file(rig.path, 1025);
	refused(&options, EINVAL, text);
	block_rig_make_file(rig.path, 0);
	refused(&options, EINVAL, "is empty");
	unlink(rig.path);
	refused(&options, ENOENT, "no such file; create it with");
	assert_int_equal(mkfifo(rig.path, 0600), 0);
	refused(&options, EINVAL, "neither a regular file nor a block device");
	unlink(rig.path);
	options.path = rig.directory;
	refused(&options, EISDIR, "is a directory");
	options.readonly = true;
	refused(&options, EISDIR, "is a directory");
	options.path = "/dev/null";
	refused(&options, EINVAL, "neither");
	rmdir(rig.directory);
}

/* What the log has to say goes to a pipe, until heard_in_log(). */
static void listen_to_log(int ends[2])
{
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	log_set_output(ends[1]);
}

/* One line, which has @words in it. */
static void heard_in_log(int ends[2], const char *words)
{
	char line[512] = {0};

	log_set_output(STDERR_FILENO);
	close(ends[1]);
	assert_true(read(ends[0], line, sizeof(line) - 1) > 0);
	close(ends[0]);
	if (!strstr(line, words))
		fail_msg("no \"%s\" in: %s", words, line);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

/* A file of whatever size can be read, as far as it has whole sectors, with a word about the rest.
 */
static void test_readonly_odd_size(void **state)
{
	struct block_options options = {.readonly = true, .lock = true};
	char words[256];
	int ends[2];
	uint8_t byte[512] = {0};
	struct iovec segment = {byte, sizeof(byte)};
	struct block_rig rig;

	(void)state;
	block_rig_files(&rig, "/tmp");
	options.path = rig.path;
	block_rig_make_file(rig.path, 511);
	refused(&options, EINVAL, "is smaller than one sector");
	block_rig_make_file(rig.path, 1000001);
	snprintf(words, sizeof(words),
		"warning: --disk path=%s: its size of 1000001 bytes is not a multiple of 512",
		rig.path);
	for (unsigned i = 0; i < 2; i++) {
		listen_to_log(ends);
		block_rig_open_block(&rig, true, i ? BLOCK_CACHE_DIRECT : BLOCK_CACHE_WRITEBACK);
		heard_in_log(ends, words);
		assert_int_equal(block_size(rig.block), 1953 * 512);
		byte[0] = 1;
		assert_int_equal(block_rig_move(&rig, BLOCK_READ, 1952 * 512, &segment, 1), 0);
		assert_int_equal(byte[0], 0);
		assert_int_equal(
			block_rig_move(&rig, BLOCK_READ, 1953 * 512, &segment, 1), -EINVAL);
		block_close(rig.block);
		loop_free(rig.loop);
	}
	unlink(rig.path);
	rmdir(rig.directory);
}

static void test_locks(void **state)
{
	struct block_rig rig;
	struct block *second;
	struct block_options options = {.path = rig.path, .lock = true};

	block_rig_open(&rig, "/tmp", false, BLOCK_CACHE_WRITEBACK);
	refused(&options, EBUSY, "busy: another process has it open");
	options.readonly = true;
	refused(&options, EBUSY, "busy");
	options.lock = false;
	assert_int_equal(block_open(&second, &options, NULL), 0);
	block_close(second);
	block_close(rig.block);
	/* Readers among themselves. */
	options.lock = true;
	assert_int_equal(block_open(&rig.block, &options, NULL), 0);
	assert_int_equal(block_open(&second, &options, NULL), 0);
	options.readonly = false;
	refused(&options, EBUSY, "readonly=on");
	block_close(second);
	block_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_readonly_odd_size),
		cmocka_unit_test(test_locks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
