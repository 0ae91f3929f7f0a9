/* SPDX-License-Identifier: Apache-2.0 */
/* duetd's own socket: what is at its path before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "duetd/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A duetd that listens although it must not runs on: not for longer than this. */
#define SECONDS 10

static char root[64], path[96], journal[96], directory[96];

static int set_up(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	strcpy(root, "/tmp/duet-serve-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(path, sizeof(path), "%s/own", root);
	snprintf(journal, sizeof(journal), "%s/run/journal", root);
	snprintf(directory, sizeof(directory), "%s/vms", root);
	return 0;
}

static int tear_down(void **state)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

/* The exit status of one that is told to listen at @path; -1: a signal has ended it. */
static int status_of_duetd(void)
{
	struct serve_options options = {.socket = path,
		.manager = {.directory = directory,
			.levers = {.root = root, .journal = journal, .cgroup = "duet"}}};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		for (unsigned i = 0; i < MECHANISMS; i++)
			options.manager.policies[i] = policies_of(i)[0];
		alarm(SECONDS);
		_exit(serve(&options, NULL) < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* As a path that was mistyped names. */
static void leaves_a_file_that_is_no_socket(void **state)
{
	FILE *file = fopen(path, "w");
	struct stat status;

	assert_non_null(file);
	assert_int_equal(fputs("precious", file) < 0, 0);
	fclose(file);
	assert_int_equal(status_of_duetd(), 1);
	assert_int_equal(lstat(path, &status), 0);
	assert_int_equal(status.st_size, strlen("precious"));
}

static void leaves_one_that_somebody_listens_at(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct stat status;

	memcpy(address.sun_path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(status_of_duetd(), 1);
	assert_int_equal(lstat(path, &status), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(leaves_a_file_that_is_no_socket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			leaves_one_that_somebody_listens_at, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
