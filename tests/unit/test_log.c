/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile file or guest may bring into a message. */
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void one_plain_line(void **state)
{
	char line[256] = {0};
	int ends[2], before = dup(STDERR_FILENO);

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	dup2(ends[1], STDERR_FILENO);
	log_warning("section %s", "\x1b[2J\nx\x7f\ty \xc3\xa4");
	dup2(before, STDERR_FILENO);
	assert_true(read(ends[0], line, sizeof(line) - 1) > 0);
	assert_string_equal(line, "duet: warning: section ?[2J?x??y \xc3\xa4\n");
	close(before);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(one_plain_line)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
