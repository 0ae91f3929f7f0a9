/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's levers on a made-up tree of /proc and /sys; slices and CPUs are those of a real child.
 * mkdir() and rmdir() below its cgroups are as the kernel's: files come and go with the folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/schedule.h"
#include "duetd/levers_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START 4711
#define MIB   (1ULL << 20)

static char root[64], journal[96];
static pid_t child;

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);

/* ---- the tree ---- */

static void put(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *text, const char *format, ...)
{
	char path[512];
	size_t used = (size_t)snprintf(path, sizeof(path), "%s", root);
	va_list args;
	FILE *file;

	va_start(args, format);
	vsnprintf(path + used, sizeof(path) - used, format, args);
	va_end(args);
	for (char *at = path + used + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		__real_mkdir(path, 0755);
		*at = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static const char *get(const char *path)
{
	static char text[512];
	char whole[512];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	file = fopen(whole, "r");
	if (!file)
		return "none";
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	return text;
}

static const char *const cgroup_files[] = {"cgroup.procs", "cgroup.subtree_control", "cpu.weight",
	"memory.current", "memory.reclaim", "memory.stat"};

int __wrap_mkdir(const char *path, mode_t mode)
{
	int ret = __real_mkdir(path, mode);

	if (ret == 0 && strstr(path, CGROUPS)) {
		for (unsigned i = 0; i < ARRAY_SIZE(cgroup_files); i++)
			put(strcmp(cgroup_files[i], "cpu.weight") == 0 ? "100\n" : "", "%s/%s",
				path + strlen(root), cgroup_files[i]);
	}
	return ret;
}

int __wrap_rmdir(const char *path)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cgroup_files) && strstr(path, CGROUPS); i++) {
		char file[512];

		snprintf(file, sizeof(file), "%s/%s", path, cgroup_files[i]);
		unlink(file);
	}
	return __real_rmdir(path);
}

static void put_stat_on(unsigned start, unsigned cpu)
{
	char text[256];

	snprintf(text, sizeof(text),
		"%d (du) e t) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %u 0 0 0 0 0 0 0 0 0 0 0 0 0"
		" 0 0 17 %u 0 0\n",
		(int)child, start, cpu);
	put(text, "/proc/%d/stat", (int)child);
	put(text, "/proc/%d/task/%d/stat", (int)child, (int)child);
}

static void put_stat(unsigned start)
{
	put_stat_on(start, 1);
}

static void put_host(void)
{
	put("MemTotal:        1000 kB\nMemFree:  200 kB\nMemAvailable:   500 kB\n"
	    "SwapTotal:  64 kB\nSwapFree: 32 kB\n",
		"/proc/meminfo");
	put("some avg10=1.25 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.50 avg60=0.00 total=1\n",
		"/proc/pressure/memory");
	put("some avg10=100.00 avg60=0.00 avg300=0.00 total=1\n", "/proc/pressure/cpu");
	put("0-1\n", "/sys/devices/system/cpu/online");
	put("0\n", "/sys/devices/system/node/node0/cpulist");
	put("1\n", "/sys/devices/system/node/node1/cpulist");
	put("Node 0 MemTotal:  600 kB\n", "/sys/devices/system/node/node0/meminfo");
	put("Node 1 MemTotal:  400 kB\n", "/sys/devices/system/node/node1/meminfo");
	put("0\n", "/sys/kernel/mm/ksm/run");
	put("cpuset cpu io memory pids\n", CGROUPS "/cgroup.controllers");
	put("memory pids\n", CGROUPS "/cgroup.subtree_control");
	put("", CGROUPS "/memory.reclaim");
	put("", CGROUPS "/cgroup.procs");
}

/* In a session's cgroup, which others are in as well. */
static void put_child(void)
{
	char text[64];

	put_stat(START);
	put("0::/user.slice/session\n", "/proc/%d/cgroup", (int)child);
	snprintf(text, sizeof(text), "1\n%d\n", (int)child);
	put(text, CGROUPS "/user.slice/session/cgroup.procs");
	put("1000000 2000000 3\n", "/proc/%d/task/%d/schedstat", (int)child, (int)child);
	put("Rss: 5000 kB\nPss:            4096 kB\nPss_Dirty: 1 kB\n", "/proc/%d/smaps_rollup",
		(int)child);
	put("7f00 default anon=3 N0=2 N1=1 kernelpagesize_kB=4\n"
	    "7f10 default N1=2 kernelpagesize_kB=2048\n7f20 default\n",
		"/proc/%d/numa_maps", (int)child);
}

static int set_up(void **state)
{
	strcpy(root, "/tmp/duet-levers-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(journal, sizeof(journal), "%s/run/journal", root);
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	put_host();
	put_child();
	return 0;
}

static int tear_down(void **state)
{
	char command[96];

	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

static struct levers_options options(void)
{
	return (struct levers_options){.root = root, .journal = journal, .cgroup = "duet"};
}

static struct levers *open_levers(void)
{
	const struct levers_options all = options();
	struct levers *levers = NULL;
	struct error err = {0};

	if (levers_open(&levers, &all, &err) < 0)
		fail_msg("%s", err.text);
	return levers;
}

static struct levers *open_with_child(void)
{
	struct levers *levers = open_levers();

	assert_int_equal(levers_add(levers, "vm1", child, NULL), 0);
	assert_int_equal(levers_threads(levers, "vm1", &child, 1, NULL), 0);
	return levers;
}

/* As SIGKILL leaves it: the journal is let go of, nothing else done. */
static void kill_levers(struct levers *levers)
{
	journal_close(levers->journal);
	for (unsigned i = 0; i < levers->vms->count; i++)
		free(levers->vms->threads[i].before);
	free(levers->vms->threads);
	free(levers->vms->cgroup);
	free(levers->vms);
	free(levers->root);
	free(levers->ours);
	free(levers);
}

static void assert_number(const char *path, pid_t number)
{
	assert_int_equal(strtol(get(path), NULL, 10), number);
}

static void assert_put_back(void)
{
	assert_string_equal(get(CGROUPS "/cgroup.subtree_control"), "-cpu");
	assert_number(CGROUPS "/user.slice/session/cgroup.procs", child);
	assert_string_equal(get(CGROUPS "/duet/vm1/cgroup.procs"), "none");
	assert_string_equal(get(CGROUPS "/duet/cgroup.procs"), "none");
}

/* ---- what is seen ---- */

static void sees_the_host(void **state)
{
	struct levers *levers = open_levers();
	struct lever_state lever;
	struct host_view host;

	assert_int_equal(levers_view(levers, &host, NULL), 0);
	assert_int_equal(host.memory, 1000 * 1024);
	assert_int_equal(host.available, 500 * 1024);
	assert_int_equal(host.free, 200 * 1024);
	assert_int_equal(host.swap_total, 64 * 1024);
	assert_int_equal(host.swap_free, 32 * 1024);
	assert_int_equal(host.memory_some, 125);
	assert_int_equal(host.memory_full, 50);
	assert_int_equal(host.cpu_some, 10000);
	assert_int_equal(host.cpus, 2);
	assert_int_equal(host.nodes, 2);
	assert_int_equal(host.node_memory[0], 600 * 1024);
	assert_int_equal(host.node_cpus[1], 1);
	assert_true(host.reclaim);
	for (unsigned i = 0; i < LEVERS; i++) {
		levers_state(levers, i, &lever);
		assert_true(lever.works || i == LEVER_SLICE);
		assert_true(strlen(lever_name(i)) > 0);
	}
	levers_close(levers);
}

static void sees_a_vm(void **state)
{
	struct vm_view vm = {.name = "vm1", .vcpus = 1};
	struct levers *levers = open_with_child();

	put("workingset_refault_anon 100\nworkingset_refault_file 20\npswpin 7\n",
		CGROUPS "/duet/vm1/memory.stat");
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_int_equal(vm.resident, 4 * MIB);
	assert_true(vm.host_refaults == 0 && vm.vcpu[0].busy == 0);
	assert_int_equal(vm.vcpu[0].node, 1);
	assert_int_equal(vm.nodes_hold[0], 8192);
	assert_int_equal(vm.nodes_hold[1], 4096 + 4 * MIB);
	usleep(10000);
	put("workingset_refault_anon 200\nworkingset_refault_file 20\npswpin 57\n",
		CGROUPS "/duet/vm1/memory.stat");
	put("6000000 999000000000 3\n", "/proc/%d/task/%d/schedstat", (int)child, (int)child);
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_true(vm.host_refaults > 0 && vm.host_refaults <= 100 / 0.01);
	assert_true(vm.host_swap_in * 2 > vm.host_refaults * 0.99 &&
		    vm.host_swap_in * 2 < vm.host_refaults * 1.01);
	assert_true(vm.vcpu[0].busy > 0 && vm.vcpu[0].busy <= 0.5);
	assert_true(vm.vcpu[0].waits == 1);
	/* Only a host that reads pages in makes it worth while to ask whose they are. */
	for (unsigned i = 0; i < 4; i++) {
		struct host_view host;

		put(i < 3 ? "pswpin 5\nworkingset_refault_file 1\n"
			  : "pswpin 5\nworkingset_refault_file 2\n",
			"/proc/vmstat");
		assert_int_equal(levers_view(levers, &host, NULL), 0);
		put(i % 2 ? "pswpin 157\n" : "pswpin 57\n", CGROUPS "/duet/vm1/memory.stat");
		vm.host_swap_in = 0;
		assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
		assert_true((vm.host_swap_in > 0) == (i == 3));
	}
	strcpy(vm.name, "other");
	assert_int_equal(levers_view_vm(levers, &vm, NULL), -ENOENT);
	levers_close(levers);
	assert_put_back();
}

/* As if it had been long since the last look, and since the last walk. */
static void wait_for_look(const struct levers *levers, unsigned looked_s, unsigned walked_s)
{
	levers->vms->looked -= looked_s * SECOND_NS;
	levers->vms->walked -= walked_s * SECOND_NS;
}

static uint64_t resident(struct levers *levers)
{
	struct vm_view vm = {.name = "vm1", .vcpus = 1};

	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	return vm.resident;
}

/* A walk through page tables takes as long as the VM is large. */
static void walks_when_something_has_changed(void **state)
{
	struct levers *levers = open_with_child();

	put("9000 1000 1 1 0 1 0\n", "/proc/%d/statm", (int)child);
	wait_for_look(levers, 0, 0);
	assert_int_equal(resident(levers), 4 * MIB);
	put("Pss: 1024 kB\n", "/proc/%d/smaps_rollup", (int)child);
	wait_for_look(levers, 11, 11);
	assert_int_equal(resident(levers), 4 * MIB);
	put("9000 1010 1 1 0 1 0\n", "/proc/%d/statm", (int)child);
	wait_for_look(levers, 11, 11);
	assert_int_equal(resident(levers), 4 * MIB);
	/* Another amount. */
	put("Pss: 2048 kB\n", "/proc/%d/smaps_rollup", (int)child);
	put("9000 1030 1 1 0 1 0\n", "/proc/%d/statm", (int)child);
	wait_for_look(levers, 11, 11);
	assert_int_equal(resident(levers), 2 * MIB);
	/* More of it is merged. */
	put("Pss: 3072 kB\n", "/proc/%d/smaps_rollup", (int)child);
	put("100\n", "/proc/%d/ksm_merging_pages", (int)child);
	wait_for_look(levers, 11, 11);
	assert_int_equal(resident(levers), 3 * MIB);
	/* It was busy, but it is not yet time to look. */
	put("Pss: 4096 kB\n", "/proc/%d/smaps_rollup", (int)child);
	put("999000000000 2000000 3\n", "/proc/%d/task/%d/schedstat", (int)child, (int)child);
	assert_int_equal(resident(levers), 3 * MIB);
	wait_for_look(levers, 11, 11);
	assert_int_equal(resident(levers), 4 * MIB);
	/* At last in any case. */
	put("Pss: 5120 kB\n", "/proc/%d/smaps_rollup", (int)child);
	wait_for_look(levers, 11, 30);
	assert_int_equal(resident(levers), 4 * MIB);
	wait_for_look(levers, 11, 31);
	assert_int_equal(resident(levers), 5 * MIB);
	levers_close(levers);
}

/* An idle one is where it was; it is looked at when it runs, and now and then. */
static void sees_where_threads_run(void **state)
{
	struct vm_view vm = {.name = "vm1", .vcpus = 1};
	struct levers *levers = open_with_child();

	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_int_equal(vm.vcpu[0].node, 1);
	put_stat_on(START, 0);
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_int_equal(vm.vcpu[0].node, 1);
	put("999000000000 2000000 3\n", "/proc/%d/task/%d/schedstat", (int)child, (int)child);
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_int_equal(vm.vcpu[0].node, 0);
	put_stat_on(START, 1);
	wait_for_look(levers, 11, 11);
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_int_equal(vm.vcpu[0].node, 1);
	/* Another thread of the same number is not taken for it. */
	put_stat_on(START + 1, 0);
	wait_for_look(levers, 11, 11);
	vm = (struct vm_view){.name = "vm1", .vcpus = 1};
	put("9999000000000 2000000 3\n", "/proc/%d/task/%d/schedstat", (int)child, (int)child);
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_true(vm.vcpu[0].busy == 0 && vm.vcpu[0].waits == 0);
	levers_close(levers);
}

static void says_why_a_lever_is_off(void **state)
{
	static const char *const gone[] = {CGROUPS "/cgroup.controllers", "/proc/pressure/memory",
		"/sys/kernel/mm/ksm/run", "/sys/devices/system/node/node1/cpulist"};
	struct vm_plan plan = {.set_cpu = true, .weight = 200, .set_memory = true, .reclaim = 4096};
	struct lever_state lever;
	struct levers *levers;
	char path[256];

	for (unsigned i = 0; i < ARRAY_SIZE(gone); i++) {
		snprintf(path, sizeof(path), "%s%s", root, gone[i]);
		assert_int_equal(unlink(path), 0);
	}
	log_set_level(LOG_LEVEL_ERROR);
	levers = open_with_child();
	log_set_level(LOG_LEVEL_INFO);
	for (unsigned i = 0; i < LEVERS; i++) {
		levers_state(levers, i, &lever);
		if (i != LEVER_SLICE)
			assert_false(lever.works);
		if (!lever.works)
			assert_true(strlen(lever.why) > 0);
	}
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	levers_close(levers);
	assert_string_equal(get(CGROUPS "/cgroup.subtree_control"), "memory pids\n");
}

/* ---- what is done ---- */

static void moves_and_weighs(void **state)
{
	struct vm_plan plan = {
		.set_cpu = true, .weight = 250, .set_memory = true, .reclaim = 1ULL << 40};
	struct levers *levers = open_with_child();

	assert_string_equal(get(CGROUPS "/cgroup.subtree_control"), "+cpu");
	assert_string_equal(get(CGROUPS "/duet/cgroup.subtree_control"), "+cpu +memory");
	assert_number(CGROUPS "/duet/vm1/cgroup.procs", child);
	assert_int_equal(levers_add(levers, "vm1", child, NULL), -EEXIST);
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_string_equal(get(CGROUPS "/duet/vm1/cpu.weight"), "250");
	assert_string_equal(get(CGROUPS "/duet/vm1/memory.reclaim"), "67108864");
	/* The same is not written again. */
	put("untouched", CGROUPS "/duet/vm1/cpu.weight");
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_string_equal(get(CGROUPS "/duet/vm1/cpu.weight"), "untouched");
	plan.set_cpu = false;
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_string_equal(get(CGROUPS "/duet/vm1/cpu.weight"), "100");
	plan = (struct vm_plan){.set_cpu = true, .weight = 20000};
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), -ERANGE);
	assert_int_equal(levers_apply(levers, "vm2", &plan, NULL), -ENOENT);
	levers_close(levers);
	assert_put_back();
}

static void leaves_a_units_cgroup(void **state)
{
	struct vm_plan plan = {.set_cpu = true, .weight = 300};
	struct vm_view vm = {.name = "vm1", .vcpus = 1};
	struct levers *levers;
	char text[16];

	put("0::/system.slice/duet@a.service\n", "/proc/%d/cgroup", (int)child);
	snprintf(text, sizeof(text), "%d\n", (int)child);
	put(text, CGROUPS "/system.slice/duet@a.service/cgroup.procs");
	put("50\n", CGROUPS "/system.slice/duet@a.service/cpu.weight");
	put("12345678\n", CGROUPS "/system.slice/duet@a.service/memory.current");
	put("anon N0=4096 N1=8192\nfile N0=1 N1=2\nshmem N0=9 N1=9\nfile_mapped N0=9 N1=9\n",
		CGROUPS "/system.slice/duet@a.service/memory.numa_stat");
	levers = open_with_child();
	assert_string_equal(get(CGROUPS "/duet/vm1/cgroup.procs"), "none");
	assert_int_equal(levers_view_vm(levers, &vm, NULL), 0);
	assert_int_equal(vm.resident, 12345678);
	assert_int_equal(vm.nodes_hold[0], 4097);
	assert_int_equal(vm.nodes_hold[1], 8194);
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_string_equal(get(CGROUPS "/system.slice/duet@a.service/cpu.weight"), "300");
	levers_close(levers);
	assert_string_equal(get(CGROUPS "/system.slice/duet@a.service/cpu.weight"), "50");
}

static void sets_slices_and_nodes(void **state)
{
	const uint64_t own = lever_slice_get(child);
	struct vm_plan plan = {.set_cpu = true, .weight = 100, .set_numa = true};
	cpu_set_t before, now;
	struct levers *levers;

	if (!own || sched_getaffinity(child, sizeof(before), &before) < 0 || CPU_COUNT(&before) < 2)
		skip();
	levers = open_with_child();
	plan.vcpu[0] = (struct vcpu_plan){.slice = 700000, .node = 1};
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_int_equal(lever_slice_get(child), 700000);
	sched_getaffinity(child, sizeof(now), &now);
	assert_true(CPU_COUNT(&now) == 1 && CPU_ISSET(1, &now));
	plan.vcpu[0] = (struct vcpu_plan){.slice = 0, .node = -1};
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_int_equal(lever_slice_get(child), own);
	sched_getaffinity(child, sizeof(now), &now);
	assert_true(CPU_EQUAL(&now, &before));
	plan.vcpu[0] = (struct vcpu_plan){.slice = 50, .node = -1};
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), -ERANGE);
	plan.vcpu[0] = (struct vcpu_plan){.slice = 5000000, .node = 0};
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	levers_close(levers);
	assert_int_equal(lever_slice_get(child), own);
	sched_getaffinity(child, sizeof(now), &now);
	assert_true(CPU_EQUAL(&now, &before));
}

/* As duet does when a guest's vCPUs lend to one, and when they have it back. */
static void set_slice(pid_t tid, uint64_t slice)
{
	const struct schedule wanted = {.slice_ns = slice};

	assert_int_equal(schedule_set(tid, &wanted), 0);
}

/* What its guest has lent to a thread, written back with a slice, would be its own for good. */
static void leaves_what_is_lent(void **state)
{
	const uint64_t own = lever_slice_get(child);
	struct vm_plan plan = {.set_cpu = true, .weight = 100};
	struct levers *levers;

	if (!own)
		skip();
	levers = open_with_child();
	set_slice(child, LENT_SLICE_NS);
	plan.vcpu[0] = (struct vcpu_plan){.slice = 700000, .node = -1};
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_int_equal(lever_slice_get(child), LENT_SLICE_NS);
	set_slice(child, 0);
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_int_equal(lever_slice_get(child), 700000);
	/* What was there before is nobody's choice. */
	levers_close(levers);
	assert_int_equal(lever_slice_get(child), own);
}

static void refuses_threads_of_others(void **state)
{
	struct vm_plan plan = {.set_cpu = true, .weight = 100};
	const uint64_t own = lever_slice_get(0);
	struct levers *levers = open_levers();
	const pid_t ours = getpid();

	put("1 (me) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0", "/proc/%d/stat", (int)ours);
	assert_int_equal(levers_add(levers, "vm1", child, NULL), 0);
	assert_int_equal(levers_threads(levers, "vm1", &ours, 1, NULL), 0);
	plan.vcpu[0].slice = 700000;
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_int_equal(lever_slice_get(0), own);
	levers_close(levers);
}

/* ---- the ends of processes ---- */

static void next_one_puts_back(void **state)
{
	const uint64_t own = lever_slice_get(child);
	struct vm_plan plan = {.set_cpu = true, .weight = 250};
	const struct levers_options all = options();
	struct levers *levers = open_with_child();

	plan.vcpu[0].slice = own ? 700000 : 0;
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_int_equal(levers_undo(&all, NULL), -EWOULDBLOCK);
	kill_levers(levers);
	assert_number(CGROUPS "/duet/vm1/cgroup.procs", child);
	assert_int_equal(levers_undo(&all, NULL), 0);
	assert_put_back();
	assert_int_equal(lever_slice_get(child), own);
	put_host();
	put_child();
	kill_levers(open_with_child());
	levers_close(open_levers());
	assert_put_back();
}

/* Another process has the number now: nothing of it is touched. */
static void leaves_a_later_process_alone(void **state)
{
	struct vm_plan plan = {.set_cpu = true, .weight = 250};
	struct levers *levers = open_with_child();

	plan.vcpu[0].slice = lever_slice_get(child) ? 700000 : 0;
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	put_stat(START + 1);
	put("nobody", CGROUPS "/user.slice/session/cgroup.procs");
	levers_close(levers);
	assert_string_equal(get(CGROUPS "/user.slice/session/cgroup.procs"), "nobody");
	assert_int_equal(lever_slice_get(child), plan.vcpu[0].slice);
}

static void forgets_who_has_ended(void **state)
{
	struct vm_plan plan = {.set_cpu = true, .weight = 250};
	struct levers *levers = open_with_child();

	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	levers_remove(levers, "vm1");
	/* It still runs: what it has is to be put back. */
	assert_number(CGROUPS "/duet/vm1/cgroup.procs", child);
	put_stat(0);
	lever_sweep(levers);
	assert_null(levers->vms);
	assert_string_equal(get(CGROUPS "/duet/vm1/cgroup.procs"), "none");
	put("nobody", CGROUPS "/user.slice/session/cgroup.procs");
	levers_close(levers);
	assert_string_equal(get(CGROUPS "/user.slice/session/cgroup.procs"), "nobody");
	assert_int_equal(levers_add(levers = open_levers(), "vm1", child, NULL), -ESRCH);
	levers_close(levers);
}

/* Its socket went and came, as often as it likes: what was before is what was at first. */
static void knows_one_that_comes_back(void **state)
{
	struct vm_plan plan = {.set_cpu = true, .weight = 250};
	struct levers *levers = open_with_child();

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
		levers_remove(levers, "vm1");
		assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), -ENOENT);
		assert_int_equal(levers_add(levers, "vm1", child, NULL), 0);
		assert_int_equal(levers_threads(levers, "vm1", &child, 1, NULL), 0);
	}
	assert_null(levers->vms->next);
	plan.set_cpu = false;
	assert_int_equal(levers_apply(levers, "vm1", &plan, NULL), 0);
	assert_string_equal(get(CGROUPS "/duet/vm1/cpu.weight"), "100");
	levers_close(levers);
	assert_put_back();
}

/* Between two questions it ended, and another thread has its number: that one is let be. */
/* ---- KSM ---- */

#define KSM "/sys/kernel/mm/ksm/"

static const struct ksm_plan slow = {.runs = true, .pages = 64, .sleep_ms = 200},
			     own_rate = {.runs = true}, none;

static void put_ksm(const char *advisor)
{
	put("100\n", KSM "pages_to_scan");
	put("20\n", KSM "sleep_millisecs");
	put("0\n", KSM "smart_scan");
	if (advisor)
		put(advisor, KSM "advisor_mode");
}

static void assert_ksm(const char *run, const char *pages, const char *sleep, const char *advisor)
{
	assert_string_equal(get(KSM "run"), run);
	assert_string_equal(get(KSM "pages_to_scan"), pages);
	assert_string_equal(get(KSM "sleep_millisecs"), sleep);
	assert_string_equal(get(KSM "advisor_mode"), advisor);
}

static void sets_ksm_and_puts_it_back(void **state)
{
	struct levers *levers;

	put_ksm("[none] scan-time\n");
	levers = open_levers();
	assert_int_equal(levers_apply_ksm(levers, &none, NULL), 0);
	assert_ksm("0\n", "100\n", "20\n", "[none] scan-time\n");
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_ksm("1", "64", "200", "[none] scan-time\n");
	assert_string_equal(get(KSM "smart_scan"), "1");
	/* What stays the same is not written again. */
	put("here", KSM "pages_to_scan");
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_string_equal(get(KSM "pages_to_scan"), "here");
	assert_int_equal(levers_apply_ksm(levers, &own_rate, NULL), 0);
	assert_ksm("1", "here", "20", "scan-time");
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_ksm("1", "64", "200", "none");
	assert_int_equal(levers_apply_ksm(levers, &none, NULL), 0);
	assert_ksm("0", "100", "20", "none");
	assert_string_equal(get(KSM "smart_scan"), "0");
	/* What is put back is forgotten: others may change it now. */
	put("33\n", KSM "pages_to_scan");
	levers_close(levers);
	assert_ksm("0", "33\n", "20", "none");
	put_ksm("[none] scan-time\n");
	levers = open_levers();
	assert_int_equal(levers_apply_ksm(levers, &own_rate, NULL), 0);
	assert_ksm("1", "100\n", "20\n", "scan-time");
	levers_close(levers);
	assert_ksm("0", "100", "20", "none");
}

/* 6.1 has fewer knobs; an advisor that was on comes back, and with it its rate. */
static void sets_what_knobs_there_are(void **state)
{
	struct levers *levers;

	put_ksm(NULL);
	levers = open_levers();
	assert_int_equal(levers_apply_ksm(levers, &own_rate, NULL), 0);
	assert_ksm("1", "100\n", "20\n", "none");
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_ksm("1", "64", "200", "none");
	levers_close(levers);
	assert_ksm("0", "100", "20", "none");

	put_ksm("none [scan-time]\n");
	levers = open_levers();
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_ksm("1", "64", "200", "none");
	levers_close(levers);
	assert_ksm("0", "64", "20", "scan-time");
}

static void leaves_anothers_ksm_alone(void **state)
{
	struct host_view host;
	struct levers *levers;

	put_ksm("[none] scan-time\n");
	put("1\n", KSM "run");
	levers = open_levers();
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_ksm("1\n", "100\n", "20\n", "[none] scan-time\n");
	assert_int_equal(levers_view(levers, &host, NULL), 0);
	assert_true(host.ksm && host.ksm_others);
	/* Who had it on has switched it off. */
	put("0\n", KSM "run");
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	assert_ksm("1", "64", "200", "[none] scan-time\n");
	levers_close(levers);
	assert_ksm("0", "100", "20", "none");
}

static void next_one_puts_ksm_back(void **state)
{
	const struct levers_options all = options();
	struct levers *levers;

	put_ksm("[none] scan-time\n");
	levers = open_with_child();
	assert_int_equal(levers_apply_ksm(levers, &slow, NULL), 0);
	kill_levers(levers);
	assert_ksm("1", "64", "200", "[none] scan-time\n");
	assert_int_equal(levers_undo(&all, NULL), 0);
	assert_ksm("0", "100", "20", "none");
}

static void sees_what_is_merged(void **state)
{
	struct levers *levers = open_with_child();
	struct vm_view view = {.name = "vm1"};

	put("25\n", "/proc/%d/ksm_merging_pages", (int)child);
	assert_int_equal(levers_view_vm(levers, &view, NULL), 0);
	assert_int_equal(view.merged, 25 * 4096);
	levers_close(levers);
}

static void touches_no_later_thread(void **state)
{
	struct vm_plan plan = {.set_cpu = true, .weight = 100, .set_numa = true};
	const uint64_t own = lever_slice_get(child);
	cpu_set_t before, now;
	struct levers *levers;

	assert_int_equal(sched_getaffinity(child, sizeof(before), &before), 0);
	if (CPU_COUNT(&before) < 2)
		skip();
	levers = open_with_child();
	put_stat(START + 1);
	plan.vcpu[0] = (struct vcpu_plan){.slice = own ? 700000 : 0, .node = 1};
	levers_apply(levers, "vm1", &plan, NULL);
	assert_int_equal(sched_getaffinity(child, sizeof(now), &now), 0);
	assert_true(CPU_EQUAL(&now, &before));
	assert_int_equal(lever_slice_get(child), own);
	levers_close(levers);
}

#define lever_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		lever_test(sees_the_host),
		lever_test(sees_a_vm),
		lever_test(walks_when_something_has_changed),
		lever_test(sees_where_threads_run),
		lever_test(says_why_a_lever_is_off),
		lever_test(moves_and_weighs),
		lever_test(leaves_a_units_cgroup),
		lever_test(sets_slices_and_nodes),
		lever_test(leaves_what_is_lent),
		lever_test(refuses_threads_of_others),
		lever_test(next_one_puts_back),
		lever_test(leaves_a_later_process_alone),
		lever_test(forgets_who_has_ended),
		lever_test(knows_one_that_comes_back),
		lever_test(touches_no_later_thread),
		lever_test(sets_ksm_and_puts_it_back),
		lever_test(sets_what_knobs_there_are),
		lever_test(leaves_anothers_ksm_alone),
		lever_test(next_one_puts_ksm_back),
		lever_test(sees_what_is_merged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
