/* SPDX-License-Identifier: Apache-2.0 */
/* What a process of `duet run` may still open, by its configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "cli/confine.h"
#include "sandbox/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[] = "/tmp/test_confine.XXXXXX";

static const char *in(const char *name)
{
	static char paths[4][128];
	static unsigned at;
	char *path = paths[at++ % ARRAY_SIZE(paths)];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void users(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} samples[] = {
		{"0", true},
		{"998", true},
		{"998:997", true},
		{"", false},
		{"web", false},
		{"998:", false},
		{":998", false},
		{"998:997:996", false},
		{"-1", false},
		{"4294967294", true},
		{"4294967295", false},
		{"998:99999999999999999999999", false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct confine confine = {.choice = CONFINE_TRY, .user = samples[i].text};
		struct error err = {0};

		if ((confine_check(&confine, &err) == 0) != samples[i].good)
			fail_msg("--user '%s': %s", samples[i].text, err.text);
	}
}

static void a_user_is_part_of_it(void **state)
{
	const struct confine confine = {.choice = CONFINE_OFF, .user = "998"};
	struct error err = {0};

	(void)state;
	assert_int_equal(confine_check(&confine, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--user"));
}

static bool can_make(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void must(bool so)
{
	if (!so)
		_exit(1);
}

/* Before the filters, so that the errors are seen. */
static void use_files(void)
{
	int fd;

	must(can_make(in("reports/stats.json")) && can_make(in("cache/kernel")));
	must(!can_make(in("sockets/new")) && errno == EACCES && !can_make(in("new")));
	fd = open(in("cache/kernel"), O_RDONLY | O_CLOEXEC);
	must(fd >= 0 && close(fd) == 0);
	must(open(in("disk"), O_RDONLY | O_CLOEXEC) < 0);
	must(open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0);
	must(open("/proc/self/smaps", O_RDONLY | O_CLOEXEC) < 0);
	must(unlink(in("sockets/api.sock")) == 0 && unlink(in("disk")) == 0);
	_exit(0);
}

static void files_of_the_configuration(void **state)
{
	char stats[128], cache[128], socket[128], incoming[128];
	struct machine_config config = {.stats = stats, .cache = cache};
	struct confine confine = {
		.choice = CONFINE_ON, .files = true, .api_sock = socket, .incoming = incoming};
	struct error err = {0};
	int status;
	pid_t pid;

	(void)state;
	if (landlock_version() == 0) {
		print_message("skipped: this kernel has no Landlock\n");
		skip();
	}
	snprintf(stats, sizeof(stats), "%s", in("reports/stats.json"));
	snprintf(cache, sizeof(cache), "%s", in("cache"));
	snprintf(socket, sizeof(socket), "%s", in("sockets/api.sock"));
	snprintf(incoming, sizeof(incoming), "%s", in("disk"));
	assert_true(can_make(socket) && can_make(in("disk")));
	pid = fork();
	if (pid == 0) {
		must(confine_process(&confine, &config, &err) == 0 && confine.done);
		must(confine_process(&confine, &config, &err) == 0);
		use_files();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void off_is_nothing(void **state)
{
	const struct machine_config config = {.stats = NULL};
	struct confine confine = {.choice = CONFINE_OFF};
	struct error err = {0};

	(void)state;
	assert_int_equal(confine_process(&confine, &config, &err), 0);
	assert_false(confine.done);
	confine_main_thread(&confine);
	assert_int_equal(access("/etc/passwd", R_OK), 0);
}

static int set_up(void **state)
{
	(void)state;
	return !mkdtemp(directory) || mkdir(in("reports"), 0700) || mkdir(in("cache"), 0700) ||
	       mkdir(in("sockets"), 0700);
}

static int tear_down(void **state)
{
	static const char *const files[] = {
		"reports/stats.json", "cache/kernel", "sockets/api.sock", "disk"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(files); i++)
		unlink(in(files[i]));
	return rmdir(in("reports")) | rmdir(in("cache")) | rmdir(in("sockets")) | rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users),
		cmocka_unit_test(a_user_is_part_of_it),
		cmocka_unit_test(off_is_nothing),
		cmocka_unit_test(files_of_the_configuration),
	};

	return cmocka_run_group_tests_name("confine", tests, set_up, tear_down);
}
