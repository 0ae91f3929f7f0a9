/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each operation that docs/openapi.json has, asked once at least, and the tables that it describes:
 * with $DUET_ANSWERS for answers.py, which holds all against the document.
 */
#include "answer_log.h"
#include "api_rig.h"

#include "base/checked.h"
#include "virtio/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct asked {
	const char *method, *path, *body;
};

static void done(struct api_rig *rig, const struct asked *asked, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		rig_ask(rig, asked[i].method, asked[i].path, asked[i].body);
		if (rig->status != (strcmp(asked[i].method, "GET") == 0 ? 200 : 204))
			fail_msg("%s %s: %u %s", asked[i].method, asked[i].path, rig->status,
				rig->body);
	}
}

#define DONE(rig, asked) done(rig, asked, ARRAY_SIZE(asked))

#define LIMITER                                                                                    \
	"{\"bandwidth\": {\"size\": 9, \"refill_time\": 100, \"one_time_burst\": 5}, \"ops\": "    \
	"null}"

static const struct asked setting_up[] = {
	{"GET", "/", ""},
	{"GET", "/version", ""},
	{"GET", "/vm/config", ""},
	{"PUT", "/machine-config",
		"{\"vcpu_count\": 2, \"mem_size_mib\": 256, \"smt\": null, \"cpu_template\": "
		"\"T2\", \"track_dirty_pages\": true, \"huge_pages\": \"None\"}"},
	{"PATCH", "/machine-config", "{\"mem_size_mib\": 512}"},
	{"GET", "/machine-config", ""},
	{"PUT", "/cpu-config", "{\"kvm_capabilities\": [], \"msr_modifiers\": null}"},
	{"PUT", "/boot-source",
		"{\"kernel_image_path\": \"/dev/null\", \"initrd_path\": \"/dev/null\", "
		"\"boot_args\": \"quiet\"}"},
	{"PUT", "/drives/root",
		"{\"drive_id\": \"root\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"true, \"partuuid\": \"0eaa91a0-01\", \"is_read_only\": true, \"cache_type\": "
		"\"Writeback\", \"io_engine\": \"Async\", \"rate_limiter\": " LIMITER "}"},
	{"PUT", "/network-interfaces/eth0",
		"{\"iface_id\": \"eth0\", \"host_dev_name\": \"tap0\", \"guest_mac\": "
		"\"06:00:ac:10:00:02\", \"rx_rate_limiter\": " LIMITER
		", \"tx_rate_limiter\": null}"},
	{"PUT", "/balloon",
		"{\"amount_mib\": 1, \"deflate_on_oom\": true, \"stats_polling_interval_s\": 1, "
		"\"free_page_hinting\": true, \"free_page_reporting\": false}"},
	{"GET", "/balloon", ""},
	{"PUT", "/logger",
		"{\"log_path\": \"log\", \"level\": \"Info\", \"show_level\": true, "
		"\"show_log_origin\": false, \"module\": null}"},
	{"PUT", "/metrics", "{\"metrics_path\": \"metrics\"}"},
	{"PUT", "/serial", "{\"serial_out_path\": \"console\", \"rate_limiter\": null}"},
	{"PUT", "/entropy", "{\"rate_limiter\": " LIMITER "}"},
	{"PUT", "/vsock", "{\"guest_cid\": 3, \"uds_path\": \"v\", \"vsock_id\": \"a\"}"},
	{"GET", "/vm/config", ""},
	{"GET", "/duet/config", ""},
	{"GET", "/duet/devices", ""},
	{"GET", "/duet/devices/root", ""},
	{"PATCH", "/duet/devices/eth0",
		"{\"rx-pps\": 50, \"tx-rate\": \"5M+1M\", \"rules\": [{\"action\": \"deny\", "
		"\"protocol\": \"tcp\", \"destination-ports\": 9}], \"ip\": null}"},
	{"PATCH", "/duet/devices/root", "{\"iops\": \"500\", \"slot\": 5}"},
	{"GET", "/duet/devices", ""},
	{"GET", "/duet/jobs", ""},
};

static void sets_up(void **state)
{
	DONE(*state, setting_up);
}

/* Members of a machine's configuration that a client of the API cannot name. */
static void tells_each_field(void **state)
{
	struct api_rig *rig = *state;
	struct machine_config *config = &rig->config;

	config->numa = 2;
	config->numa_distance = 30;
	config->numa_host = strdup("0+1");
	config->profile = PROFILE_MIGRATABLE;
	config->tsc_khz = 2000000;
	config->clock = CLOCK_STOPPED;
	config->dirty = DIRTY_RING;
	config->share = 200;
	config->nested = true;
	rig_ask(rig, "GET", "/duet/config", "");
	assert_non_null(strstr(rig->body, "\"tsc-khz\":2000000"));
	assert_non_null(strstr(rig->body, "\"numa-host\":\"0+1\""));
}

static const struct asked running[] = {
	{"GET", "/vm/config", ""},
	{"PUT", "/actions", "{\"action_type\": \"FlushMetrics\"}"},
	{"PUT", "/actions", "{\"action_type\": \"SendCtrlAltDel\"}"},
	{"PATCH", "/drives/root", "{\"drive_id\": \"root\", \"path_on_host\": \"/dev/zero\"}"},
	{"PATCH", "/network-interfaces/eth0",
		"{\"iface_id\": \"eth0\", \"tx_rate_limiter\": " LIMITER "}"},
	{"PATCH", "/balloon", "{\"amount_mib\": 2}"},
	{"GET", "/balloon/statistics", ""},
	{"PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\": 5}"},
	{"GET", "/balloon/hinting/status", ""},
	{"PATCH", "/balloon/hinting/start", "{\"acknowledge_on_stop\": true}"},
	{"PATCH", "/balloon/hinting/stop", ""},
	{"GET", "/duet/jobs/1", ""},
	{"DELETE", "/duet/jobs/1", ""},
	{"GET", "/duet/config", ""},
	{"GET", "/duet/stats", ""},
	{"GET", "/duet/metrics", ""},
	{"GET", "/duet/vcpus", ""},
	{"PATCH", "/duet/balloon", "{\"amount_mib\": 3, \"for_ms\": 60000}"},
	{"GET", "/duet/place", ""},
	{"PATCH", "/duet/place", "{\"nodes\": [0, -1]}"},
	{"GET", "/duet/sharing", ""},
	{"PATCH", "/duet/sharing", "{\"state\": \"blind\", \"for_ms\": 60000}"},
	{"GET", "/duet/hints", ""},
	{"PUT", "/duet/hints", "{\"wish\": \"locality\"}"},
	{"GET", "/duet/brief", ""},
	{"GET", "/duet/alive", ""},
	{"GET", "/duet/devices", ""},
	{"GET", "/duet/devices/serial", ""},
	{"PATCH", "/duet/devices/eth0", "{\"rules\": null, \"rules-default\": \"deny\"}"},
	{"PATCH", "/duet/devices/balloon0", "{\"size\": \"4M\", \"stats\": 9}"},
	{"DELETE", "/duet/devices/vfio0", ""},
	{"GET", "/duet/jobs", ""},
};

static void assert_status(struct api_rig *rig, unsigned answers, unsigned status)
{
	assert_int_equal(rig->answers, answers);
	if (rig->status != status)
		fail_msg("%u %s", rig->status, rig->body ? rig->body : "");
}

static void pauses_and_saves(struct api_rig *rig)
{
	const unsigned before = rig->answers;

	rig_ask_later(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}");
	assert_int_equal(rig->answers, before);
	api_machine_end_pause(0);
	assert_status(rig, before + 1, 204);
	rig_ask_later(rig, "PUT", "/snapshot/create",
		"{\"snapshot_type\": \"Full\", \"snapshot_path\": \"a\", \"mem_file_path\": "
		"\"b\"}");
	api_machine_end_take(0);
	assert_status(rig, before + 2, 204);
	rig_ask_later(rig, "PUT", "/duet/snapshot", "{\"directory\": \"a\"}");
	api_machine_end_take(0);
	assert_status(rig, before + 3, 200);
	rig_ask(rig, "PATCH", "/vm", "{\"state\": \"Resumed\"}");
	assert_int_equal(fake.resumes, 1);
	rig_ask_later(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}");
	api_machine_end_pause(-ETIMEDOUT);
	assert_status(rig, before + 5, 400);
}

static void moves(struct api_rig *rig)
{
	static const struct asked both[] = {
		{"GET", "/duet/migration", ""}, {"DELETE", "/duet/migration", ""}};

	rig_done(rig, "PUT", "/duet/migration", "{\"to\": \"unix:/x\", \"check\": true}");
	rig_ask(rig, "PUT", "/duet/migration", "{\"to\": \"unix\", \"check\": true}");
	assert_status(rig, rig->answers, 400);
	rig_ask(rig, "GET", "/duet/migration", "");
	assert_status(rig, rig->answers, 400);
	rig_ask(rig, "PUT", "/duet/migration",
		"{\"to\": \"unix:/x\", \"downtime_ms\": 100, \"streams\": 2, \"force\": true, "
		"\"plain\": null, \"post_copy\": true, \"wait_s\": 60}");
	assert_status(rig, rig->answers, 200);
	/* Another one would find no machine here, also in the moment in which this one is over. */
	for (unsigned i = 0; i < 2; i++) {
		fake.moved = i;
		rig_refused(rig, "PUT", "/duet/migration", "{\"to\": \"unix:/y\"}",
			"The machine is being moved already, or has been; GET /duet/migration "
			"tells.");
	}
	fake.moved = false;
	DONE(rig, both);
}

static void runs(void **state)
{
	static const struct virtio_coop_host_ops no_host = {0};
	static struct virtio_coop_host host = {.ops = &no_host};
	const struct virtio_coop_options options = {.host = &host, .vcpus = 2, .hints = true};
	struct api_rig *rig = *state;

	DONE(rig, setting_up);
	rig_runs(rig);
	fake.takes_wishes = true;
	assert_int_equal(virtio_coop_new(&fake.cooperation, "coop0", &options, NULL), 0);
	DONE(rig, running);
	rig_ask(rig, "POST", "/duet/hints", "{\"seconds\": 5}");
	assert_int_equal(rig->status, 400); /* the round before is not over */
	api_machine_end_hints(-ETIMEDOUT);
	rig_ask(rig, "POST", "/duet/hints", "{\"seconds\": 5}");
	assert_int_equal(rig->status, 200);
	api_machine_end_hints(0);
	pauses_and_saves(rig);
	moves(rig);
	rig_ask(rig, "GET", "/duet/jobs", "");
	fake.cooperation->ops->free(fake.cooperation);
	fake.cooperation = NULL;
}

static void refuses(void **state)
{
	static const struct asked absent[] = {{"GET", "/mmds", ""}, {"PUT", "/mmds", "{}"},
		{"PATCH", "/mmds", "[]"}, {"PUT", "/mmds/config", "{}"}, {"PUT", "/pmem/a", "{}"},
		{"PATCH", "/pmem/a", "{}"}, {"DELETE", "/pmem/a", ""},
		{"GET", "/hotplug/memory", ""}, {"PUT", "/hotplug/memory", "{}"},
		{"PATCH", "/hotplug/memory", "{}"}, {"DELETE", "/drives/a", ""},
		{"DELETE", "/network-interfaces/a", ""}};

	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++)
		rig_refused(*state, absent[i].method, absent[i].path, absent[i].body,
			"The requested operation is not supported: it is not there in duet.");
}

/* ---- the tables ---- */

static json_t *words_json(const char *const *words)
{
	json_t *array = words ? json_array() : NULL;

	for (; words && *words; words++)
		json_array_append_new(array, json_string(*words));
	return array;
}

static json_t *body_json(const struct body *body)
{
	static const char *const kinds[] = {[MEMBER_NUMBER] = "number",
		[MEMBER_SWITCH] = "switch",
		[MEMBER_WORD] = "word",
		[MEMBER_TEXT] = "text",
		[MEMBER_STRUCT] = "struct",
		[MEMBER_ANY] = "any"};
	json_t *members = body ? json_object() : NULL;

	if (!body)
		return NULL;
	for (unsigned i = 0; i < body->count; i++) {
		const struct member *member = &body->members[i];

		json_object_set_new(members, member->name,
			json_pack("{s:s, s:b, s:I, s:o?, s:o?}", "kind", kinds[member->kind],
				"needed", member->needed, "most",
				(json_int_t)min_u64(member->most, INT64_MAX), "words",
				words_json(member->words), "body", body_json(member->body)));
	}
	return json_pack("{s:b, s:o}", "open", body->open, "members", members);
}

static void writes_routes(void **state)
{
	for (unsigned i = 0; i < ROUTE_SETS; i++)
		for (unsigned n = 0; n < route_sets[i]->count; n++) {
			const struct route *route = &route_sets[i]->routes[n];

			answer_log_line(json_pack("{s:{s:s, s:s, s:b, s:o?}}", "route", "method",
				route->method, "pattern", route->pattern, "exact", route->exact,
				"takes", body_json(route->body)));
		}
}

static void write_fields(const char *of, const struct field_set *set)
{
	static const char *const kinds[] = {[FIELD_NUMBER] = "number",
		[FIELD_SWITCH] = "switch",
		[FIELD_WORD] = "word",
		[FIELD_LONG] = "number",
		[FIELD_LIMIT] = "limit",
		[FIELD_SIZE] = "size",
		[FIELD_RULES] = "rules",
		[FIELD_ID] = NULL};

	for (unsigned i = 0; i < set->count; i++) {
		const struct field *field = &set->fields[i];
		const char *kind = kinds[field->kind];

		answer_log_line(json_pack("{s:{s:s, s:s, s:s, s:I, s:I, s:o?}}", "field", "of", of,
			"name", field->name, "kind", kind ? kind : "text", "least",
			(json_int_t)field->least, "most", (json_int_t)field->most, "words",
			words_json(field->words)));
	}
}

static void writes_fields(void **state)
{
	write_fields("machine", &machine_fields);
	for (unsigned i = 0; i < DEVICE_TYPES; i++) {
		write_fields(device_types[i].name, &device_fields);
		write_fields(device_types[i].name, &device_types[i].fields);
	}
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, rig_make, rig_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sets_up),
		TEST(tells_each_field),
		TEST(runs),
		TEST(refuses),
		cmocka_unit_test(writes_routes),
		cmocka_unit_test(writes_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
