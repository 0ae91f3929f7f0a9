/* SPDX-License-Identifier: Apache-2.0 */
/* The machines of /etc/duet: a made-up host, on whose PATH are a duet and a systemctl of the
 * test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "base/checked.h"
#include "duetd/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct rig {
	struct loop *loop;
	struct units *units;
	char root[64];
	unsigned done;
	/* The last result. */
	unsigned status, count;
	char why[640];
	struct unit list[8];
} rig;

/* Says of a file that has "bad" in it that it is bad, at its line 3. */
static const char duet[] = "#!/bin/sh\n"
			   "[ $1 = check ] || exit 2\n"
			   "shift; status=0\n"
			   "for file; do\n"
			   "  if grep -q bad $file; then status=1; echo \"$file:3: bad\"\n"
			   "  else echo \"$file: ok\"; fi\n"
			   "done\n"
			   "exit $status\n";
/* Its units are files, STATE in each; what it was told stands in a file of its own. */
static const char systemctl[] =
	"#!/bin/sh\n"
	"root=$(dirname $(dirname $0))\n"
	"echo \"$*\" >>$root/told\n"
	"if [ $1 != show ]; then\n"
	"  [ -e $root/broken ] && { echo 'Failed to connect to bus: \033[2JNo'; exit 1; }\n"
	"  exit 0\n"
	"fi\n"
	"shift 4\n"
	"for unit; do\n"
	"  echo Id=$unit\n"
	"  cat $root/units/$unit 2>/dev/null || echo ActiveState=inactive\n"
	"  echo\n"
	"done\n";

static void put(const char *text, mode_t mode, const char *name)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", rig.root, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	chmod(path, mode);
}

static void make(const char *folder)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", rig.root, folder);
	assert_int_equal(mkdir(path, 0755), 0);
}

static int set_up(void **state)
{
	static const char *const folders[] = {
		"bin", "etc", "etc/duet", "units", "run", "run/systemd", "run/systemd/system"};
	char path[256];

	memset(&rig, 0, sizeof(rig));
	strcpy(rig.root, "/tmp/duet-units-XXXXXX");
	if (!mkdtemp(rig.root))
		return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(folders); i++)
		make(folders[i]);
	put(duet, 0755, "bin/duet");
	put(systemctl, 0755, "bin/systemctl");
	snprintf(path, sizeof(path), "%s/bin:/usr/bin:/bin", rig.root);
	setenv("PATH", path, 1);
	if (loop_new(&rig.loop, 64, NULL) < 0)
		return -1;
	rig.units = units_new(rig.loop, rig.root, rig.root);
	return rig.units ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[96];

	setenv("PATH", "/usr/bin:/bin", 1);
	units_free(rig.units);
	loop_run_for(rig.loop, 2);
	loop_free(rig.loop);
	snprintf(command, sizeof(command), "rm -r %s", rig.root);
	return system(command);
}

static void done(void *opaque, const struct units_result *result)
{
	rig.done++;
	rig.status = result->status;
	rig.count = result->count;
	snprintf(rig.why, sizeof(rig.why), "%s", result->why);
	for (unsigned i = 0; i < result->count && i < ARRAY_SIZE(rig.list); i++)
		rig.list[i] = result->units[i];
}

static void wait_for(unsigned number)
{
	loop_run_until(rig.loop, rig.done >= number);
	assert_int_equal(rig.done, number);
	rig.done = 0;
}

static unsigned list(void)
{
	units_list(rig.units, done, NULL);
	wait_for(1);
	return rig.count;
}

static unsigned start(const char *name)
{
	units_start(rig.units, name, done, NULL);
	wait_for(1);
	return rig.status;
}

static unsigned stop(const char *name)
{
	units_stop(rig.units, name, done, NULL);
	wait_for(1);
	return rig.status;
}

static bool was_told(const char *words)
{
	char command[256];

	snprintf(command, sizeof(command), "grep -qx -- '%s' %s/told", words, rig.root);
	return system(command) == 0;
}

/* ---- tests ---- */

static void lists_with_states_and_faults(void **state)
{
	put("good", 0644, "etc/duet/web.json");
	put("bad", 0644, "etc/duet/db.json");
	put("good", 0644, "etc/duet/mail.json");
	put("good", 0644, "etc/duet/no machine.json");
	put("good", 0644, "etc/duet/-x.json");
	put("good", 0644, "etc/duet/notes");
	put("ActiveState=active\nUnitFileState=enabled\n", 0644, "units/duet@web.service");
	put("ActiveState=failed\nResult=exit-code\nUnitFileState=disabled\n", 0644,
		"units/duet@mail.service");
	assert_int_equal(list(), 3);
	assert_string_equal(rig.why, "");
	assert_string_equal(rig.list[0].name, "db");
	assert_string_equal(rig.list[0].state, "inactive");
	assert_non_null(strstr(rig.list[0].fault, "etc/duet/db.json:3: bad"));
	assert_string_equal(rig.list[1].name, "mail");
	assert_string_equal(rig.list[1].state, "failed");
	assert_string_equal(rig.list[1].result, "exit-code");
	assert_string_equal(rig.list[2].name, "web");
	assert_string_equal(rig.list[2].state, "active");
	assert_true(rig.list[2].at_boot && !rig.list[1].at_boot);
	assert_string_equal(rig.list[2].fault, "");
}

static void lists_what_it_can(void **state)
{
	char path[96];

	assert_int_equal(list(), 0);
	put("good", 0644, "etc/duet/web.json");
	snprintf(path, sizeof(path), "%s/run/systemd/system", rig.root);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(list(), 1);
	assert_string_equal(rig.list[0].state, "");
	assert_non_null(strstr(rig.why, "systemd does not run here"));
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(list(), 1);
	assert_non_null(strstr(rig.why, "duet: cannot be run"));
}

static void starts_one_that_is_right(void **state)
{
	put("good", 0644, "etc/duet/web.json");
	assert_int_equal(start("web"), 204);
	assert_true(was_told("--no-block --no-ask-password start -- duet@web.service"));
	assert_int_equal(start("none"), 404);
	assert_non_null(strstr(rig.why, "/etc/duet/none.json: No such file"));
	assert_int_equal(start("../web"), 404);
	assert_int_equal(start("-web"), 404);
	assert_int_equal(start(""), 404);
	put("", 0644, "broken");
	assert_int_equal(start("web"), 502);
	/* What a program says is made plain. */
	assert_string_equal(rig.why, "systemctl: Failed to connect to bus: ?[2JNo");
}

/* Whatever answers there, or does not. */
static void starts_none_at_whose_socket_somebody_listens(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	put("good", 0644, "etc/duet/web.json");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/web.sock", rig.root);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(start("web"), 409);
		assert_non_null(strstr(rig.why, "web runs already"));
	}
	assert_false(was_told(".*"));
	close(fd);
	assert_int_equal(start("web"), 204);
}

static void starts_none_that_is_wrong(void **state)
{
	put("bad", 0644, "etc/duet/db.json");
	assert_int_equal(start("db"), 400);
	assert_non_null(strstr(rig.why, "/etc/duet/db.json:3: bad"));
	assert_false(was_told(".*start.*"));
}

static void stops_one_that_runs(void **state)
{
	/* Whose configuration is gone. */
	put("ActiveState=active\n", 0644, "units/duet@web.service");
	assert_int_equal(stop("web"), 204);
	assert_true(was_told("--no-block --no-ask-password stop -- duet@web.service"));
	assert_int_equal(stop("other"), 409);
	assert_non_null(strstr(rig.why, "duet@other.service is inactive"));
	assert_false(was_told(".*stop.*other.*"));
}

static void says_that_there_is_no_systemd(void **state)
{
	char path[96];

	put("good", 0644, "etc/duet/web.json");
	snprintf(path, sizeof(path), "%s/run/systemd/system", rig.root);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(start("web"), 503);
	assert_non_null(strstr(rig.why, "systemd does not run here"));
	assert_non_null(strstr(rig.why, "--config /etc/duet/web.json"));
	put("bad", 0644, "etc/duet/db.json");
	assert_int_equal(start("db"), 400);
	assert_int_equal(stop("web"), 503);
	assert_false(was_told(".*"));
}

static void does_no_more_than_some_at_once(void **state)
{
	put("good", 0644, "etc/duet/web.json");
	for (unsigned i = 0; i < UNITS_JOBS_MAX + 3; i++)
		units_list(rig.units, done, NULL);
	assert_int_equal(rig.done, 3);
	assert_int_equal(rig.status, 503);
	wait_for(UNITS_JOBS_MAX + 3);
	assert_int_equal(list(), 1);
}

static void answers_all_when_it_ends(void **state)
{
	put("#!/bin/sh\nexec sleep 1000\n", 0755, "bin/duet");
	put("good", 0644, "etc/duet/web.json");
	units_start(rig.units, "web", done, NULL);
	units_list(rig.units, done, NULL);
	loop_run_for(rig.loop, 5);
	assert_int_equal(rig.done, 0);
	units_free(rig.units);
	rig.units = NULL;
	assert_int_equal(rig.done, 2);
	assert_int_equal(rig.status, 503);
}

static void reads_whatever_is_said(void **state)
{
	struct unit units[2] = {{.name = "a"}, {.name = "b"}};

	units_read_show(units, 2,
		"\n\nnothing\nId=duet@a.service\nActiveState=act\033ive\nUnitFileState=enabled-"
		"runtime"
		"\n\nId=duet@.service\nActiveState=failed\n\nId=duet@c.service\nActiveState=x\n\n"
		"Id=sshd.service\nActiveState=x\n\nId=duet@b.service\n"
		"ActiveState=0123456789012345678901234567890123456789");
	assert_string_equal(units[0].state, "act?ive");
	assert_true(units[0].at_boot);
	assert_string_equal(units[1].state, "012345678901234");
	units_read_check(units, 2, "/e", "/e/a.json: okay\n");
	assert_string_equal(units[0].fault, "/e/a.json: okay");
	assert_string_equal(units[1].fault, "duet check /e/b.json said nothing of it");
}

#define units_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		units_test(lists_with_states_and_faults),
		units_test(lists_what_it_can),
		units_test(starts_one_that_is_right),
		units_test(starts_none_at_whose_socket_somebody_listens),
		units_test(starts_none_that_is_wrong),
		units_test(stops_one_that_runs),
		units_test(says_that_there_is_no_systemd),
		units_test(does_no_more_than_some_at_once),
		units_test(answers_all_when_it_ends),
		cmocka_unit_test(reads_whatever_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
