/* SPDX-License-Identifier: Apache-2.0 */
/*
 * duetd as a whole but for its main(): one VM (its API is on the same loop), a made-up host, a
 * policy of the test's own, and what duetd answers about them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_rig.h"

#include "base/checked.h"
#include "base/log.h"
#include "duetd/control.h"
#include "http/server.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1ULL << 20)

static void decide_memory(const struct view *view, struct plan *plan)
{
	for (unsigned i = 0; i < view->count; i++) {
		plan->vms[i].set_memory = true;
		plan->vms[i].allowed = view->vms[i].memory / 2;
		plan->vms[i].memory_why = REASON_STATIC;
	}
}

static void decide_cpu(const struct view *view, struct plan *plan)
{
	for (unsigned i = 0; i < view->count; i++) {
		plan->vms[i].set_cpu = true;
		plan->vms[i].weight = 321;
		plan->vms[i].cpu_why = REASON_SHARE;
	}
}

static const struct policy half = {"half", MECHANISM_MEMORY, "Half for each.", decide_memory};
static const struct policy weigh = {"weigh", MECHANISM_CPU, "321 for each.", decide_cpu};

static struct rig {
	struct loop *loop;
	struct manager manager;
	struct http_server *vm;
	char root[64], sockets[96], journal[96], path[128];
	unsigned briefs, patches;
	pid_t thread; /* that it names */
	char patch[128];
	/* The last answer of duetd. */
	unsigned status;
	char *body;
} rig;

/* ---- the VM ---- */

static void vm_request(void *opaque, const struct request *request, struct exchange *exchange)
{
	char *brief = NULL;

	if (strcmp(request->path, "/duet/balloon") == 0) {
		rig.patches++;
		snprintf(rig.patch, sizeof(rig.patch), "%s", request->body);
		exchange->answer(exchange, 204, EXCHANGE_JSON, NULL);
		return;
	}
	rig.briefs++;
	assert_true(asprintf(&brief,
			    "{\"id\": \"x\", \"state\": \"Running\", \"memory_mib\": 512, \"cpus\":"
			    " 1, \"threads\": [%d], \"balloon\": {\"actual_mib\": 0}}",
			    (int)rig.thread) > 0);
	exchange->answer(exchange, 200, EXCHANGE_JSON, brief);
}

static void open_vm(const char *name)
{
	struct http_options options = {.option = "--api-sock",
		.name = "x",
		.path = rig.path,
		.body_max = 1000,
		.request = vm_request};

	snprintf(rig.path, sizeof(rig.path), "%s/%s.sock", rig.sockets, name);
	assert_int_equal(http_server_open(&rig.vm, rig.loop, &options, NULL), 0);
}

/* ---- the host ---- */

static void put(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *text, const char *format, ...)
{
	char path[512];
	size_t used = (size_t)snprintf(path, sizeof(path), "%s", rig.root);
	va_list args;
	FILE *file;

	va_start(args, format);
	vsnprintf(path + used, sizeof(path) - used, format, args);
	va_end(args);
	for (char *at = path + used + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		mkdir(path, 0755);
		*at = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void put_host(void)
{
	const int pid = (int)getpid(), tid = (int)gettid();
	const char *stat = "1 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 55 0\n";
	char text[32];

	put("MemTotal: 1000 kB\nMemAvailable: 500 kB\n", "/proc/meminfo");
	put("cpu memory\n", "/sys/fs/cgroup/cgroup.controllers");
	put("cpu memory\n", "/sys/fs/cgroup/cgroup.subtree_control");
	put(stat, "/proc/%d/stat", pid);
	put(stat, "/proc/%d/task/%d/stat", pid, tid);
	put("0::/unit\n", "/proc/%d/cgroup", pid);
	snprintf(text, sizeof(text), "%d\n", pid);
	put(text, "/sys/fs/cgroup/unit/cgroup.procs");
	put("100\n", "/sys/fs/cgroup/unit/cpu.weight");
	put("4096000\n", "/sys/fs/cgroup/unit/memory.current");
}

static unsigned weight(void)
{
	char path[128];
	unsigned number = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/unit/cpu.weight", rig.root);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%u", &number), 1);
	fclose(file);
	return number;
}

/* ---- duetd ---- */

static void open_manager(void)
{
	struct manager_options options = {.directory = rig.sockets,
		.levers = {.root = rig.root, .journal = rig.journal, .cgroup = "duet"},
		.policies = {&half, &weigh, policies_of(MECHANISM_NUMA)[0],
			policies_of(MECHANISM_SHARING)[0]},
		.period_ms = 20};

	assert_int_equal(manager_open(&rig.manager, rig.loop, &options, NULL), 0);
}

static int set_up(void **state)
{
	memset(&rig, 0, sizeof(rig));
	strcpy(rig.root, "/tmp/duet-manager-XXXXXX");
	if (!mkdtemp(rig.root))
		return -1;
	log_set_level(LOG_LEVEL_ERROR);
	snprintf(rig.sockets, sizeof(rig.sockets), "%s/vms", rig.root);
	snprintf(rig.journal, sizeof(rig.journal), "%s/journal", rig.root);
	rig.thread = gettid();
	put_host();
	mkdir(rig.sockets, 0755);
	return loop_new(&rig.loop, 64, NULL);
}

/* The balloon's end waits for the VM, which is on this very loop: it goes first. */
static int tear_down(void **state)
{
	char command[96];

	http_server_close(rig.vm);
	manager_close(&rig.manager);
	loop_run_for(rig.loop, 2);
	loop_free(rig.loop);
	free(rig.body);
	snprintf(command, sizeof(command), "rm -r %s", rig.root);
	return system(command);
}

static void take(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	free(rig.body);
	rig.status = status;
	rig.body = body;
}

static void ask(const char *method, const char *path, const char *body)
{
	struct exchange exchange = {.answer = take};
	const struct request request = {
		.method = method, .path = path, .body = body, .length = strlen(body)};

	rig.status = 0;
	control_handle(&rig.manager, &request, &exchange);
	assert_int_not_equal(rig.status, 0);
}

static json_t *get(const char *path)
{
	json_t *json;

	ask("GET", path, "");
	assert_int_equal(rig.status, 200);
	json = json_loads(rig.body, 0, NULL);
	assert_non_null(json);
	return json;
}

static json_int_t number(const json_t *object, const char *name)
{
	assert_true(json_is_number(json_object_get(object, name)));
	return (json_int_t)json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
	assert_true(json_is_string(json_object_get(object, name)));
	return json_string_value(json_object_get(object, name));
}

/* ---- tests ---- */

static void decides_and_puts_back(void **state)
{
	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, rig.patches && weight() == 321);
	assert_string_equal(rig.patch, "{\"amount_mib\": 256, \"for_ms\": 10000}");
	assert_int_equal(weight(), 321);
	assert_int_equal(manager_find(&rig.manager, "web"), 0);
	assert_int_equal(manager_find(&rig.manager, "other"), -1);
	http_server_close(rig.vm);
	rig.vm = NULL;
	manager_close(&rig.manager);
	assert_int_equal(weight(), 100);
}

/* The socket may be another's, who passes it on: process 1's, for systemd makes sockets. */
static void leaves_alone_who_is_no_machine(void **state)
{
	rig.thread = 1;
	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, rig.patches);
	assert_true(rig.patches > 0);
	manager_decide(&rig.manager);
	assert_int_equal(weight(), 100);
	assert_int_equal(rig.manager.faults, 0);
}

static void tells_of_vms(void **state)
{
	json_t *all, *vm;

	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, weight() == 321);
	all = get("/vms");
	assert_int_equal(json_array_size(all), 1);
	vm = json_array_get(all, 0);
	assert_string_equal(text(vm, "name"), "web");
	assert_int_equal(number(vm, "pid"), getpid());
	assert_int_equal(number(vm, "memory"), 512 * MIB);
	assert_int_equal(number(vm, "resident"), 4096000);
	assert_int_equal(number(vm, "allowed"), 256 * MIB);
	assert_int_equal(number(vm, "weight"), 321);
	json_decref(all);
	vm = get("/vms/web");
	for (unsigned i = 0; i < MECHANISMS; i++)
		assert_true(strlen(text(json_object_get(vm, "why"), mechanism_name(i))) > 0);
	assert_int_equal(json_array_size(json_object_get(vm, "vcpu")), 1);
	json_decref(vm);
	ask("GET", "/vms/other", "");
	assert_int_equal(rig.status, 404);
}

static void tells_why_one_is_left_out(void **state)
{
	char kept[160];
	json_t *all;

	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, weight() == 321);
	/* Its socket has a second name, behind which there will be nobody. */
	snprintf(kept, sizeof(kept), "%s/kept.sock", rig.sockets);
	assert_int_equal(link(rig.path, kept), 0);
	http_server_close(rig.vm);
	rig.vm = NULL;
	loop_run_until(rig.loop, rig.manager.view.count == 0);
	loop_run_until(rig.loop, (ask("GET", "/vms", ""), strstr(rig.body, "no machine answers")));
	all = get("/vms");
	assert_int_equal(json_array_size(all), 1);
	assert_string_equal(text(json_array_get(all, 0), "name"), "kept");
	assert_false(json_is_true(json_object_get(json_array_get(all, 0), "well")));
	assert_non_null(strstr(text(json_array_get(all, 0), "fault"), "no machine answers"));
	json_decref(all);
}

static void tells_of_the_host(void **state)
{
	json_t *host;
	size_t index;
	json_t *lever;

	open_manager();
	manager_decide(&rig.manager);
	host = get("/host");
	assert_int_equal(number(host, "memory"), 1000 * 1024);
	assert_int_equal(number(host, "available"), 500 * 1024);
	assert_int_equal(json_array_size(json_object_get(host, "levers")), LEVERS);
	json_array_foreach(json_object_get(host, "levers"), index, lever)
	{
		if (!json_is_true(json_object_get(lever, "works")))
			assert_true(strlen(text(lever, "why")) > 0);
	}
	json_decref(host);
}

/* Whoever may make cgroups names them with any bytes, and a fault quotes that. */
static void tells_of_a_fault_in_plain_words(void **state)
{
	char number_of_us[32];
	json_t *host;

	snprintf(number_of_us, sizeof(number_of_us), "%d\n", (int)getpid());
	put("0::/\xff\033[2J\n", "/proc/%d/cgroup", (int)getpid());
	put(number_of_us, "/sys/fs/cgroup/\xff\033[2J/cgroup.procs");
	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, rig.manager.faults);
	host = get("/host");
	assert_non_null(strstr(text(host, "fault"), "/sys/fs/cgroup/??[2J/cpu.weight"));
	json_decref(host);
}

static void changes_policies(void **state)
{
	json_t *all;

	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, weight() == 321);
	ask("PUT", "/policies/cpu", "{\"policy\": \"off\"}");
	assert_int_equal(rig.status, 204);
	assert_int_equal(weight(), 100);
	all = get("/policies");
	assert_int_equal(json_array_size(all), MECHANISMS);
	assert_string_equal(text(json_array_get(all, MECHANISM_CPU), "policy"), "off");
	assert_string_equal(text(json_array_get(all, MECHANISM_MEMORY), "policy"), "half");
	assert_true(json_array_size(json_object_get(json_array_get(all, 0), "choices")) > 0);
	assert_true(json_array_size(json_object_get(json_array_get(all, 0), "levers")) > 0);
	json_decref(all);
	ask("PUT", "/policies/cpu", "{\"policy\": \"brew\"}");
	assert_int_equal(rig.status, 400);
	ask("PUT", "/policies/cpu", "what");
	assert_int_equal(rig.status, 400);
	ask("PUT", "/policies/tea", "{\"policy\": \"off\"}");
	assert_int_equal(rig.status, 404);
}

static void tells_what_was_decided(void **state)
{
	const json_t *first;
	json_t *all;

	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, weight() == 321);
	ask("PUT", "/policies/cpu", "{\"policy\": \"off\"}");
	all = get("/decisions");
	/* The policy, and that the VM is left alone from now on. */
	assert_true(json_array_size(all) >= 3);
	first = json_array_get(all, 1);
	assert_string_equal(text(first, "words"), "policy off from now on, it was weigh");
	assert_string_equal(text(first, "mechanism"), "cpu");
	assert_string_equal(text(first, "vm"), "");
	first = json_array_get(all, json_array_size(all) - 1);
	assert_string_equal(text(first, "vm"), "web");
	assert_int_equal(number(first, "times"), 1);
	assert_true(number(first, "first_ms") > 0);
	assert_true(strlen(text(first, "words")) > 0);
	json_decref(all);
}

/* Where there are no configurations, and no systemd. */
static void passes_on_what_machines_are_to_do(void **state)
{
	json_t *answer;

	open_manager();
	answer = get("/machines");
	assert_int_equal(json_array_size(json_object_get(answer, "machines")), 0);
	json_decref(answer);
	ask("PUT", "/machines/web", "{\"action\": \"start\"}");
	assert_int_equal(rig.status, 404);
	assert_non_null(strstr(rig.body, "/etc/duet/web.json"));
	ask("PUT", "/machines/web", "{\"action\": \"stop\"}");
	assert_int_equal(rig.status, 503);
	ask("PUT", "/machines/a%2fb", "{\"action\": \"stop\"}");
	assert_int_equal(rig.status, 404);
	ask("PUT", "/machines/web", "{\"action\": \"dance\"}");
	assert_int_equal(rig.status, 400);
	ask("PUT", "/machines/web", "");
	assert_int_equal(rig.status, 400);
}

static void refuses_what_it_has_not(void **state)
{
	static const char *const paths[] = {"/", "", "/vm", "/vms/", "/hosts", "/policies/", "/x"};

	open_manager();
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		ask("GET", paths[i], "");
		assert_int_equal(rig.status, 404);
		assert_non_null(strstr(rig.body, "fault_message"));
	}
	ask("PATCH", "/vms", "{}");
	assert_int_equal(rig.status, 404);
}

static void has_metrics(void **state)
{
	open_vm("web");
	open_manager();
	loop_run_until(rig.loop, weight() == 321);
	ask("GET", "/metrics", "");
	assert_int_equal(rig.status, 200);
	assert_non_null(strstr(rig.body, "# TYPE duetd_vms gauge\nduetd_vms 1\n"));
	assert_non_null(strstr(rig.body, "\nduetd_vm_memory_bytes{vm=\"web\"} 536870912\n"));
	assert_non_null(strstr(rig.body, "\nduetd_vm_allowed_bytes{vm=\"web\"} 268435456\n"));
	assert_non_null(strstr(rig.body, "\nduetd_vm_cpu_weight{vm=\"web\"} 321\n"));
	assert_non_null(
		strstr(rig.body, "\nduetd_policy{mechanism=\"memory\",policy=\"half\"} 1\n"));
	assert_non_null(strstr(rig.body, "\nduetd_lever{lever=\"psi\"} 0\n"));
}

#define manager_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		manager_test(decides_and_puts_back),
		manager_test(leaves_alone_who_is_no_machine),
		manager_test(tells_of_vms),
		manager_test(tells_why_one_is_left_out),
		manager_test(tells_of_the_host),
		manager_test(tells_of_a_fault_in_plain_words),
		manager_test(changes_policies),
		manager_test(tells_what_was_decided),
		manager_test(passes_on_what_machines_are_to_do),
		manager_test(refuses_what_it_has_not),
		manager_test(has_metrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
