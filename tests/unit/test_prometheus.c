/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics in Prometheus' text format: names, labels, order, and what is in no format at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/prometheus.h"

#include <stdio.h>
#include <stdlib.h>

static char *of(const char *json)
{
	json_t *stats = json_loads(json, 0, NULL);
	char *text;

	assert_non_null(stats);
	text = prometheus_of(stats);
	json_decref(stats);
	assert_non_null(text);
	return text;
}

static void assert_is(const char *json, const char *expected)
{
	char *text = of(json);

	assert_string_equal(text, expected);
	free(text);
}

static void tells_of_the_machine(void **state)
{
	assert_is("{\"duet\": \"0.1.0\", \"machine\": {\"state\": \"running\", \"resets\": 2,"
		  " \"cpus\": 4, \"uptime_us\": 1500000}, \"memory\": {\"guest_ram\": 1024},"
		  " \"log\": {\"dropped\": 0}, \"policy\": {\"in_passed\": 7}}",
		"# HELP duet_build_info The version of duet.\n"
		"# TYPE duet_build_info gauge\n"
		"duet_build_info{version=\"0.1.0\"} 1\n"
		"# HELP duet_state The state that the machine is in.\n"
		"# TYPE duet_state gauge\n"
		"duet_state{state=\"running\"} 1\n"
		"# HELP duet_resets_total Times that the guest started anew.\n"
		"# TYPE duet_resets_total counter\n"
		"duet_resets_total 2\n"
		"# HELP duet_vcpus Virtual CPUs.\n"
		"# TYPE duet_vcpus gauge\n"
		"duet_vcpus 4\n"
		"# HELP duet_uptime_seconds Time since the machine was made.\n"
		"# TYPE duet_uptime_seconds gauge\n"
		"duet_uptime_seconds 1.500000\n"
		"# HELP duet_log_dropped_total Log lines that standard error did not take.\n"
		"# TYPE duet_log_dropped_total counter\n"
		"duet_log_dropped_total 0\n"
		"# HELP duet_memory_bytes Memory of the guest and outside of it.\n"
		"# TYPE duet_memory_bytes gauge\n"
		"duet_memory_bytes{kind=\"guest_ram\"} 1024\n"
		"# HELP duet_policy_total What the policies of all networks passed and refused.\n"
		"# TYPE duet_policy_total counter\n"
		"duet_policy_total{count=\"in_passed\"} 7\n");
}

static void tells_of_vcpus_and_ranges(void **state)
{
	assert_is("{\"vcpus\": [{\"index\": 0, \"exits\": {\"io\": 3, \"mmio\": 4, \"total\": 7},"
		  " \"pages_written\": 6, \"held_percent\": 75,"
		  " \"kvm\": {\"halt_exits\": 5}}, {\"index\": 1, \"exits\": {\"io\": 1}}],"
		  " \"exits\": {\"by_cause\": {\"io\": 4}, \"by_device\": {\"serial\":"
		  " {\"bus\": \"port\", \"reads\": 1, \"writes\": 2}},"
		  " \"unclaimed\": {\"port\": 8, \"mmio\": 0}}}",
		"# HELP duet_range_accesses_total Exits for a range of ports or addresses.\n"
		"# TYPE duet_range_accesses_total counter\n"
		"duet_range_accesses_total{range=\"serial\",bus=\"port\",operation=\"reads\"} 1\n"
		"duet_range_accesses_total{range=\"serial\",bus=\"port\",operation=\"writes\"} 2\n"
		"# HELP duet_unclaimed_accesses_total Exits for ports or addresses of no device.\n"
		"# TYPE duet_unclaimed_accesses_total counter\n"
		"duet_unclaimed_accesses_total{bus=\"port\"} 8\n"
		"duet_unclaimed_accesses_total{bus=\"mmio\"} 0\n"
		"# HELP duet_vcpu_exits_total Returns from the guest to duet by cause.\n"
		"# TYPE duet_vcpu_exits_total counter\n"
		"duet_vcpu_exits_total{vcpu=\"0\",cause=\"io\"} 3\n"
		"duet_vcpu_exits_total{vcpu=\"0\",cause=\"mmio\"} 4\n"
		"duet_vcpu_exits_total{vcpu=\"1\",cause=\"io\"} 1\n"
		"# HELP duet_vcpu_held_percent Of its time that a move holds a virtual CPU.\n"
		"# TYPE duet_vcpu_held_percent gauge\n"
		"duet_vcpu_held_percent{vcpu=\"0\"} 75\n"
		"# HELP duet_vcpu_pages_written_total Pages written, as far as the log of writes "
		"tells by whom.\n"
		"# TYPE duet_vcpu_pages_written_total counter\n"
		"duet_vcpu_pages_written_total{vcpu=\"0\"} 6\n"
		"# HELP duet_vcpu_kvm What KVM says of a virtual CPU.\n"
		"# TYPE duet_vcpu_kvm untyped\n"
		"duet_vcpu_kvm{vcpu=\"0\",name=\"halt_exits\"} 5\n");
}

/* Two devices: the samples of one name stand together. */
static void tells_of_devices_and_queues(void **state)
{
	assert_is("{\"devices\": [{\"name\": \"disk0\", \"type\": \"virtio-block\", \"queues\":"
		  " {\"queue0\": {\"kicks\": 1}, \"queue10\": {\"kicks\": 2}}},"
		  " {\"name\": \"net0\", \"type\": \"virtio-net\", \"vhost\": \"off\","
		  " \"link_up\": 1, \"resets\": 3, \"queues\": {\"queue1\": {\"kicks\": 4}},"
		  " \"rule:a \\\"b\\\\\\n\": {\"in\": 5}}]}",
		"# HELP duet_device_queue_kicks_total Of one queue of a device.\n"
		"# TYPE duet_device_queue_kicks_total counter\n"
		"duet_device_queue_kicks_total"
		"{device=\"disk0\",type=\"virtio-block\",queue=\"0\"} 1\n"
		"duet_device_queue_kicks_total"
		"{device=\"disk0\",type=\"virtio-block\",queue=\"10\"} 2\n"
		"duet_device_queue_kicks_total"
		"{device=\"net0\",type=\"virtio-net\",queue=\"1\"} 4\n"
		"# HELP duet_device_link_up Of a device.\n"
		"# TYPE duet_device_link_up gauge\n"
		"duet_device_link_up{device=\"net0\",type=\"virtio-net\"} 1\n"
		"# HELP duet_device_resets_total Of a device.\n"
		"# TYPE duet_device_resets_total counter\n"
		"duet_device_resets_total{device=\"net0\",type=\"virtio-net\"} 3\n"
		"# HELP duet_device_detail Of a part of a device, by the part's name.\n"
		"# TYPE duet_device_detail untyped\n"
		"duet_device_detail{device=\"net0\",type=\"virtio-net\","
		"part=\"rule:a \\\"b\\\\\\n\",name=\"in\"} 5\n");
}

static void makes_names_of_anything(void **state)
{
	char *text = of("{\"devices\": [{\"name\": \"a\", \"type\": \"b\", \"read 0x12-x\": 1}]}");
	char json[512], key[300];

	assert_non_null(strstr(text, "\nduet_device_read_0x12_x_total{"));
	free(text);
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = 0;
	snprintf(json, sizeof(json), "{\"devices\": [{\"%s\": 1}]}", key);
	text = of(json);
	assert_non_null(strstr(text, "kkk_total{device=\"\",type=\"\"} 1\n"));
	free(text);
}

static void leaves_out_what_is_not_there(void **state)
{
	assert_is("{}", "");
	assert_is("[]", "");
	assert_is(
		"{\"machine\": 1, \"vcpus\": {}, \"exits\": [], \"devices\": [1, {}, {\"x\": []}]}",
		"");
}

static unsigned allocations, refused;

/* Memory ends once, and is there again. */
static void *scarce(size_t size)
{
	return ++allocations == refused ? NULL : malloc(size);
}

/* Nothing, when one that is needed was refused, or all of it. */
static void ends_where_memory_does(void **state)
{
	json_t *stats = json_loads(
		"{\"duet\": \"1\", \"machine\": {\"cpus\": 2}, \"devices\": [{\"name\": \"a\", "
		"\"kicks\": 1, \"resets\": 2}]}",
		0, NULL);
	unsigned missing = 0;

	assert_non_null(stats);
	do {
		char *text;

		allocations = 0;
		refused++;
		json_set_alloc_funcs(scarce, free);
		text = prometheus_of(stats);
		json_set_alloc_funcs(malloc, free);
		missing += !text;
		free(text);
	} while (allocations >= refused);
	assert_true(missing > 5);
	json_decref(stats);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_of_the_machine),
		cmocka_unit_test(tells_of_vcpus_and_ranges),
		cmocka_unit_test(tells_of_devices_and_queues),
		cmocka_unit_test(makes_names_of_anything),
		cmocka_unit_test(leaves_out_what_is_not_there),
		cmocka_unit_test(ends_where_memory_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
