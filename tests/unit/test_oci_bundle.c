/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle's config.json: what is taken, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "oci/bundle.h"
#include "oci/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define NAMESPACES                                                                                 \
	"{\"type\":\"pid\"},{\"type\":\"network\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},"       \
	"{\"type\":\"uts\"}"
#define LINUX_WITH(more)   "\"linux\":{\"namespaces\":[" NAMESPACES "]" more "}"
#define PROCESS_WITH(more) "\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"" more "}"
#define HEAD               "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"
#define PROCESS(more)      HEAD PROCESS_WITH(more) "," LINUX_WITH("") "}"
#define LINUX(more)        HEAD PROCESS_WITH("") "," LINUX_WITH(more) "}"
#define TOP(more)          HEAD PROCESS_WITH("") "," more "," LINUX_WITH("") "}"

static int parse(struct bundle *bundle, const char *text, struct error *err)
{
	*bundle = (struct bundle){0};
	*err = (struct error){0};
	return bundle_parse(bundle, text, strlen(text), err);
}

static void refused(const char *text, const char *words)
{
	struct bundle bundle;
	struct error err;

	assert_true(parse(&bundle, text, &err) < 0);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" is not in \"%s\"", words, err.text);
	bundle_free(&bundle);
}

static struct bundle taken(const char *text)
{
	struct bundle bundle;
	struct error err;

	if (parse(&bundle, text, &err) < 0)
		fail_msg("%s", err.text);
	return bundle;
}

static void test_least(void **state)
{
	struct bundle bundle = taken(PROCESS(""));

	assert_string_equal(bundle.root, "rootfs");
	assert_string_equal(bundle.setup.process.args.items[0], "sh");
	assert_null(bundle.setup.process.args.items[1]);
	assert_int_equal(bundle.setup.process.mask, 0022);
	assert_null(bundle.network);
	assert_int_equal(bundle.setup.mount_count, 0);
	bundle_free(&bundle);
}

static void test_process(void **state)
{
	struct bundle bundle = taken(PROCESS(
		",\"user\":{\"uid\":7,\"gid\":8,\"umask\":63,\"additionalGids\":[9,10]},"
		"\"terminal\":true,"
		"\"consoleSize\":{\"height\":30,\"width\":100},\"noNewPrivileges\":true,"
		"\"oomScoreAdj\":-5,"
		"\"env\":[\"A=b\\nc\"],\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_BPF\"]},"
		"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":5,\"hard\":18446744073709551615}"
		"]"));
	const struct process *process = &bundle.setup.process;

	assert_int_equal(process->uid, 7);
	assert_int_equal(process->gid, 8);
	assert_int_equal(process->mask, 077);
	assert_int_equal(process->group_count, 2);
	assert_int_equal(process->groups[1], 10);
	assert_true(process->terminal && process->no_new_privileges && process->has_oom_score);
	assert_int_equal((int)process->oom_score, -5);
	assert_int_equal(process->rows, 30);
	assert_int_equal(process->columns, 100);
	assert_string_equal(process->env.items[0], "A=b\nc");
	assert_int_equal(process->capabilities[0], 1ULL << 39 | 1);
	assert_int_equal(process->limits[0].resource, RLIMIT_NOFILE);
	assert_int_equal(process->limits[0].soft, 5);
	assert_true(process->limits[0].hard == RLIM_INFINITY);
	bundle_free(&bundle);
}

static void test_numbers_in_text_stay(void **state)
{
	struct bundle bundle =
		taken(PROCESS(",\"env\":[\"A=99999999999999999999 \\\" 99999999999999999999\"]"));

	assert_string_equal(bundle.setup.process.env.items[0],
		"A=99999999999999999999 \" 99999999999999999999");
	bundle_free(&bundle);
}

static void test_mounts(void **state)
{
	struct bundle bundle = taken(
		TOP("\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
		    "{\"destination\":\"/tmp\",\"type\":\"tmpfs\",\"source\":\"t\","
		    "\"options\":[\"nosuid\",\"ro\",\"rw\",\"mode=755\",\"size=1k\",\"rslave\"]},"
		    "{\"destination\":\"/v\\nw\",\"type\":\"bind\",\"source\":\"/"
		    "srv\",\"options\":[\"rbind\",\"ro\"]}]"));
	const struct mount *mounts = bundle.setup.mounts;

	assert_int_equal(bundle.setup.mount_count, 3);
	assert_false(mounts[0].is_bind);
	assert_int_equal(mounts[1].flags, MS_NOSUID);
	assert_int_equal(mounts[1].propagation, MS_SLAVE | MS_REC);
	assert_string_equal(mounts[1].data, "mode=755,size=1k");
	assert_true(mounts[2].is_bind);
	assert_int_equal(mounts[2].flags, MS_BIND | MS_REC | MS_RDONLY);
	assert_string_equal(mounts[2].destination, "/v\nw");
	bundle_free(&bundle);
}

static void test_linux(void **state)
{
	struct bundle bundle = taken(LINUX(
		",\"resources\":{\"memory\":{\"limit\":67108864},\"pids\":{\"limit\":-1},"
		"\"cpu\":{\"quota\":150000,\"period\":100000,\"shares\":1024,\"cpus\":\"0\"},"
		"\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},\"cgroupsPath\":\"/a/b\","
		"\"sysctl\":{\"net.core.somaxconn\":\"64\"},\"maskedPaths\":[\"/proc/kcore\"],"
		"\"readonlyPaths\":[\"/proc/sys\"],\"devices\":[{\"path\":\"/dev/"
		"null\",\"type\":\"c\"}],"
		"\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\"}"));
	uint64_t memory, cpus;

	assert_int_equal(bundle.setup.memory, 64 << 20);
	assert_int_equal(bundle.setup.pids, 0);
	assert_string_equal(bundle.cgroup, "/a/b");
	assert_string_equal(bundle.setup.sysctl.items[0], "net.core.somaxconn");
	assert_string_equal(bundle.setup.masked.items[0], "/proc/kcore");
	vm_size(&bundle, 8, &memory, &cpus);
	assert_int_equal(memory, 128ULL << 20);
	assert_int_equal(cpus, 2);
	vm_size(&bundle, 1, &memory, &cpus);
	assert_int_equal(cpus, 1);
	bundle_free(&bundle);
}

static void test_annotations(void **state)
{
	struct bundle bundle = taken(TOP("\"annotations\":{\"org.duet.memory\":\"1G\","
					 "\"org.duet.cpus\":\"3\",\"other\":\"x\"}"));
	uint64_t memory, cpus;

	vm_size(&bundle, 8, &memory, &cpus);
	assert_int_equal(memory, 1ULL << 30);
	assert_int_equal(cpus, 3);
	assert_int_equal(bundle.annotations.count, 6);
	bundle_free(&bundle);
	refused(TOP("\"annotations\":{\"org.duet.memory\":\"1K\"}"), "org.duet.memory: no size");
	refused(TOP("\"annotations\":{\"org.duet.cpus\":\"many\"}"), "org.duet.cpus: no number");
}

static void test_hooks(void **state)
{
	struct bundle bundle =
		taken(TOP("\"hooks\":{\"prestart\":[{\"path\":\"/bin/a\",\"args\":[\"a\"],"
			  "\"timeout\":5}],\"createContainer\":[]}"));

	assert_int_equal(bundle.hooks[HOOK_PRESTART].count, 1);
	assert_int_equal(bundle.hooks[HOOK_PRESTART].items[0].timeout, 5);
	bundle_free(&bundle);
	refused(TOP("\"hooks\":{\"prestart\":[{\"path\":\"a\"}]}"),
		"hooks.prestart[0].path: is no absolute path");
	refused(TOP("\"hooks\":{\"startContainer\":[{\"path\":\"/a\"}]}"), "are in its VM");
}

/* What a VM cannot give, and why. */
static void test_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{"", "config.json:1:"},
		{"[]", "is no object"},
		{"{}", "config.json: ociVersion: is missing"},
		{"{\"ociVersion\":\"2.0.0\"}", "\"2.0.0\" is not known"},
		{"{\"ociVersion\":\"1.\"}", "is not known"},
		{"{\"ociVersion\":7}", "is no text"},
		{"{\"ociVersion\":\"1.0.2\",\"ociVersion\":\"1.0.2\"}", "duplicate"},
		{"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"\"}}", "root.path: is empty"},
		{HEAD PROCESS_WITH("") "}", "linux: is missing"},
		{HEAD LINUX_WITH("") "}", "process: is missing"},
		{TOP("\"windows\":{}"), "another runtime"},
		{TOP("\"hostname\":\"a b\""), "hostname: has a character"},
		{PROCESS(",\"user\":{\"uid\":4294967296}"),
			"process.user.uid: 4294967296 is not in"},
		{PROCESS(",\"user\":{\"uid\":-1}"), "is no whole number"},
		{PROCESS(",\"env\":[\"a\",7]"), "process.env[1]: is no text"},
		{PROCESS(",\"env\":[\"a\\u0000b\"]"), "config.json:1:"},
		{PROCESS(",\"capabilities\":{\"bounding\":[\"CAP_ALL\"]}"),
			"bounding[0]: is no capability"},
		{PROCESS(",\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]"),
			"is no limit"},
		{PROCESS(",\"rlimits\":[{\"type\":\"RLIMIT_AS\",\"soft\":1,\"hard\":1},"
			 "{\"type\":\"RLIMIT_AS\",\"soft\":1,\"hard\":1}]"),
			"limited twice"},
		{HEAD "\"process\":{\"args\":[],\"cwd\":\"/\"}," LINUX_WITH("") "}",
			"names no program"},
		{HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"x\"}," LINUX_WITH("") "}",
			"process.cwd: is no absolute path"},
		{HEAD PROCESS_WITH(
			 "") ",\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},"
			     "{\"type\":\"ipc\"},{\"type\":\"uts\"}]}}",
			"--network=host"},
		{HEAD PROCESS_WITH("") ",\"linux\":{\"namespaces\":[{\"type\":\"network\"}]}}",
			"--pid=host"},
		{HEAD PROCESS_WITH("") ",\"linux\":{\"namespaces\":[{\"type\":\"user\"}]}}",
			"users are not mapped"},
		{HEAD PROCESS_WITH(
			 "") ",\"linux\":{\"namespaces\":[{\"type\":\"ipc\",\"path\":\"/x\"}]}}",
			"namespaces[0].path: cannot be joined"},
		{LINUX(",\"devices\":[{\"path\":\"/dev/kvm\"}]"), "--privileged"},
		{LINUX(",\"sysctl\":{\"../../etc/passwd\":\"x\"}"), "is no name of a sysctl"},
		{LINUX(",\"uidMappings\":[{\"containerID\":0}]"), "users are not mapped"},
		{LINUX(",\"resources\":{\"cpu\":{\"period\":-5}}"), "period: is no whole number"},
		{LINUX(",\"rootfsPropagation\":\"odd\""), "is no propagation"},
		{TOP("\"mounts\":[{\"destination\":\"a\",\"type\":\"proc\"}]"),
			"is no absolute path"},
		{TOP("\"mounts\":[{\"destination\":\"/a\",\"type\":\"nfs\"}]"),
			"is none that the guest mounts"},
		{TOP("\"mounts\":[{\"destination\":\"/a\",\"type\":\"bind\"}]"),
			"source: is missing"},
		{TOP("\"mounts\":[7]"), "mounts[0]: is no object"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		refused(cases[i].text, cases[i].words);
}

/* Cut off anywhere it is an error in words, and nothing of it is left. */
static void test_cut_off(void **state)
{
	static const char whole[] = PROCESS(",\"env\":[\"A=b\"],\"user\":{\"uid\":7}");
	struct bundle bundle = {0};
	struct error err;

	for (size_t i = 0; i < sizeof(whole) - 1; i++) {
		err = (struct error){0};
		assert_true(bundle_parse(&bundle, whole, i, &err) < 0);
		assert_true(err.text[0] != 0);
		bundle_free(&bundle);
	}
}

static void test_exec_process(void **state)
{
	static const char text[] = "{\"args\":[\"a\",\"b\"],\"cwd\":\"/x\"}";
	struct process process = {0};
	struct error err = {0};

	assert_int_equal(process_parse(&process, text, strlen(text), &err), 0);
	assert_string_equal(process.cwd, "/x");
	assert_int_equal(process.args.count, 2);
	process_free(&process);
	assert_true(process_parse(&process, "{}", 2, &err) < 0);
	assert_string_equal(err.text, "process: args: is missing");
	process_free(&process);
}

/* What duet run --config is given. */
static void test_machine(void **state)
{
	struct bundle bundle = taken(PROCESS(""));
	struct vm_parts parts = {.kernel = "/k",
		.initrd = "/i",
		.image = "/a,b",
		.cache = "/c",
		.memory = 128 << 20,
		.cpus = 2,
		.setup = &bundle.setup};
	char *text;

	bundle.setup.link_count = 1;
	bundle.setup.links[0].mac = 0x525400123456;
	text = vm_config(&parts);
	assert_non_null(text);
	assert_non_null(strstr(text, "\"path\": \"/a,b\""));
	assert_non_null(strstr(text, "\"mac\": \"52:54:00:12:34:56\""));
	assert_non_null(strstr(text, "\"ifname\": \"duet0\""));
	free(text);
	bundle_free(&bundle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_least),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_numbers_in_text_stay),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_linux),
		cmocka_unit_test(test_annotations),
		cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_exec_process),
		cmocka_unit_test(test_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
