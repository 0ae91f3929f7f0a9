/* SPDX-License-Identifier: Apache-2.0 */
/* What a manager asks a machine by the API and says to it: hints, places, leases, the brief. */
#include "api_rig.h"
#include "loop_rig.h"

#include "base/checked.h"
#include "virtio/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct virtio_coop_host_ops no_host = {0};

/* The machine has a cooperation device. */
static void gets_coop(struct api_rig *rig)
{
	static struct virtio_coop_host host = {.ops = &no_host};
	const struct virtio_coop_options options = {
		.host = &host, .vcpus = rig->config.cpus, .hints = true};
	struct error err;

	assert_int_equal(virtio_coop_new(&fake.cooperation, "coop0", &options, &err), 0);
}

static void loses_coop(void)
{
	fake.cooperation->ops->free(fake.cooperation);
	fake.cooperation = NULL;
}

static void assert_balloon(struct api_rig *rig, unsigned mib)
{
	char expected[32];

	rig_ask(rig, "GET", "/balloon", "");
	snprintf(expected, sizeof(expected), "{\"amount_mib\":%u,", mib);
	assert_memory_equal(rig->body, expected, strlen(expected));
}

/* Without the lease that it may have. */
static void assert_own(struct api_rig *rig, unsigned mib)
{
	char expected[40];

	rig_ask(rig, "GET", "/duet/brief", "");
	snprintf(expected, sizeof(expected), "\"balloon_own_mib\":%u", mib);
	assert_non_null(strstr(rig->body, expected));
}

static void tells_hints(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "GET", "/duet/hints", "", BEFORE);
	rig->config.cpus = 2;
	rig_runs(rig);
	rig_refused(rig, "GET", "/duet/hints", "",
		"The machine has no cooperation device; --coop gives it one.");
	rig_refused(rig, "PUT", "/duet/hints", "{\"wish\": \"share\"}",
		"The machine has no cooperation device; --coop gives it one.");
	gets_coop(rig);
	rig_gives(rig, "/duet/hints",
		"{\"driver\":false,\"away_ns\":0,\"vcpus\":[{\"index\":0},{\"index\":1}],"
		"\"share\":{\"wished\":0,\"answered\":0,\"complete\":false,\"runs\":0,"
		"\"pages\":0,\"refused\":0},\"locality\":{\"wished\":0,\"answered\":0,"
		"\"complete\":false,\"runs\":0,\"pages\":0,\"refused\":0,\"vcpus\":[]}}");
	rig_refused(rig, "PUT", "/duet/hints", "{\"wish\": \"share\"}",
		"coop0: no driver in the guest that gives hints; it needs the module duet, and "
		"--coop hints=on");
	rig_ask(rig, "PUT", "/duet/hints", "{\"wish\": \"all\"}");
	assert_int_equal(rig->status, 400);
	loses_coop();
}

#define NODES_WRONG                                                                                \
	"nodes: name a node of the host for each of the 2 vCPUs, 0 to 7, or -1 for one whose "     \
	"memory stays."

static void places_memory(void **state)
{
	static const char *const wrong[] = {"{\"nodes\": 0}", "{\"nodes\": []}", "{\"nodes\": [0]}",
		"{\"nodes\": [0, 1, 0]}", "{\"nodes\": [0, 8]}", "{\"nodes\": [-2, 0]}",
		"{\"nodes\": [0, \"1\"]}", "{\"nodes\": [0, 1.0]}"};
	struct api_rig *rig = *state;

	rig_refused(rig, "GET", "/duet/place", "", BEFORE);
	rig->config.cpus = 2;
	rig_runs(rig);
	fake.seen = (struct machine_uses){.map = 3, .complete = true};
	fake.seen.bytes[1][1] = 4096;
	fake.under_way = (struct machine_placing){.moved = 7};
	rig_gives(rig, "/duet/place",
		"{\"map\":3,\"complete\":true,\"moving\":false,\"moved\":7,\"failed\":0,"
		"\"uses\":[[],[0,4096]]}");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		rig_refused(rig, "PATCH", "/duet/place", wrong[i], NODES_WRONG);
	rig_done(rig, "PATCH", "/duet/place", "{\"nodes\": [1, -1]}");
	assert_int_equal(fake.placed[0], 1);
	assert_int_equal(fake.placed[1], -1);
	assert_int_equal(fake.placed[2], -1);
}

/* A manager asks often; page tables are walked seldom, and when a move has begun or ended. */
static void tells_of_memory_in_brief(void **state)
{
	static const char has[] = "\"uses\":[[],[0,4096]]";
	struct api_rig *rig = *state;

	rig->config.cpus = 2;
	rig_runs(rig);
	rig_ask(rig, "GET", "/duet/brief", "");
	assert_null(strstr(rig->body, "\"place\""));
	gets_coop(rig);
	fake.seen = (struct machine_uses){.map = 3};
	fake.seen.bytes[1][1] = 4096;
	fake.under_way = (struct machine_placing){.moving = true};
	rig_ask(rig, "GET", "/duet/brief", "");
	rig_ask(rig, "GET", "/duet/brief", "");
	assert_null(strstr(rig->body, has)); /* the guest has not said all yet */
	assert_int_equal(fake.looks, 1);
	fake.seen.complete = true;
	fake.under_way.moving = false;
	rig_ask(rig, "GET", "/duet/brief", "");
	rig_ask(rig, "GET", "/duet/brief", "");
	assert_non_null(strstr(rig->body, has));
	assert_int_equal(fake.looks, 2);
	loses_coop();
}

static void leases_a_balloon(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/balloon", "{\"amount_mib\": 1, \"deflate_on_oom\": true}");
	rig_refused(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 5, \"for_ms\": 1}", BEFORE);
	rig_runs(rig);
	rig_done(rig, "PATCH", "/balloon", "{\"amount_mib\": 2}");
	rig_done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 5, \"for_ms\": 60000}");
	assert_balloon(rig, 5);
	rig_refused(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 128, \"for_ms\": 1}",
		"Balloon config error: Amount of pages requested is too large.");
	assert_balloon(rig, 5);
	/* Said anew: what it goes back to is what was there before the first. */
	rig_done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 7, \"for_ms\": 0}");
	assert_balloon(rig, 7);
	assert_own(rig, 2);
	loop_run_for(rig->loop, 0);
	assert_balloon(rig, 2);
	/* The last word is one without an end. */
	rig_done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 9, \"for_ms\": 0}");
	rig_done(rig, "PATCH", "/balloon", "{\"amount_mib\": 3}");
	loop_run_for(rig->loop, 0);
	assert_balloon(rig, 3);
	assert_own(rig, 3);
	rig_done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 9, \"for_ms\": 0}");
	rig_done(rig, "PATCH", "/duet/devices/balloon0", "{\"size\": \"4M\"}");
	loop_run_for(rig->loop, 0);
	assert_balloon(rig, 4);
	/* One that is on its way ends with the machine. */
	rig_done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 9, \"for_ms\": 0}");
	api_set_machine(rig->api, NULL);
	loop_run_for(rig->loop, 0);
}

static void leases_sharing(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "GET", "/duet/sharing", "", BEFORE);
	rig_refused(rig, "PATCH", "/duet/sharing", "{\"state\": \"blind\"}", BEFORE);
	rig_runs(rig);
	rig_done(rig, "PATCH", "/duet/sharing", "{\"state\": \"blind\"}");
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_BLIND);
	rig_done(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 60000}");
	loop_run_for(rig->loop, 0);
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_OFF);
	/* Said anew: it goes back to what was there before the first. */
	rig_done(rig, "PATCH", "/duet/sharing", "{\"state\": \"hinted\", \"for_ms\": 0}");
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_HINTED);
	loop_run_for(rig->loop, 0);
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_BLIND);
	/* The last word is one without an end; one that is refused changes nothing. */
	rig_done(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 0}");
	rig_done(rig, "PATCH", "/duet/sharing", "{\"state\": \"hinted\"}");
	loop_run_for(rig->loop, 0);
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_HINTED);
	fake.no_sharing = true;
	rig_refused(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 0}",
		"No sharing.");
	fake.no_sharing = false;
	loop_run_for(rig->loop, 0);
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_HINTED);
	rig_ask(rig, "PATCH", "/duet/sharing", "{\"state\": \"all\"}");
	assert_int_equal(rig->status, 400);
	rig_ask(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 86400001}");
	assert_int_equal(rig->status, 400);
	rig_ask(rig, "GET", "/duet/sharing", "");
	assert_int_equal(rig->status, 200);
	assert_non_null(strstr(rig->body, "\"state\":\"hinted\",\"leased\":false,"));
	assert_non_null(strstr(rig->body, "\"merged_pages\":77,"));
	fake.no_sharing = true;
	rig_ask(rig, "GET", "/duet/sharing", "");
	assert_non_null(strstr(rig->body, "\"merged_pages\":null,"));
	fake.no_sharing = false;
	/* One that is on its way ends with the machine. */
	rig_done(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 0}");
	api_set_machine(rig->api, NULL);
	loop_run_for(rig->loop, 0);
	assert_int_equal(fake.sharing.state, MACHINE_SHARING_OFF);
}

static void tells_the_brief(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "GET", "/duet/brief", "", BEFORE);
	rig->config.cpus = 2;
	fake.no_balloon = true;
	rig_runs(rig);
	rig_gives(rig, "/duet/brief",
		"{\"id\":\"anonymous-instance\",\"state\":\"Running\",\"memory_mib\":128,"
		"\"cpus\":2,\"share\":100,\"passthrough\":false,\"threads\":[1000,1001],"
		"\"sharing\":{\"state\":\"off\",\"offered_bytes\":8192}}");
	fake.no_balloon = false;
	fake.balloon_target = 2U << 20;
	gets_coop(rig);
	rig_gives(rig, "/duet/brief",
		"{\"id\":\"anonymous-instance\",\"state\":\"Running\",\"memory_mib\":128,"
		"\"cpus\":2,\"share\":100,\"passthrough\":false,\"threads\":[1000,1001],"
		"\"sharing\":{\"state\":\"off\",\"offered_bytes\":8192},\"balloon\":"
		"{\"target_pages\":512,\"actual_pages\":0,\"target_mib\":2,\"actual_mib\":0},"
		"\"balloon_own_mib\":2,"
		"\"hints\":{\"vcpus\":[{\"index\":0},{\"index\":1}]}}");
	loses_coop();
}

static void tells_whether_it_lives(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "GET", "/duet/alive", "", BEFORE);
	rig->config.cpus = 2;
	rig_runs(rig);
	fake.progress = (struct machine_progress){0};
	rig_gives(rig, "/duet/alive", "{\"state\":\"Running\",\"cpus\":2,\"pages_arriving\":0}");
	fake.progress = (struct machine_progress){true, UINT64_MAX, 7, 9};
	/* A device whose driver has said nothing yet. */
	gets_coop(rig);
	rig_gives(rig, "/duet/alive",
		"{\"state\":\"Running\",\"cpus\":2,\"events\":9223372036854775807,\"exits\":7,"
		"\"pages_arriving\":9}");
	fake.progress = (struct machine_progress){0};
	loses_coop();
	fake.state = MACHINE_ENDED;
	rig_refused(rig, "GET", "/duet/alive", "", "The machine has ended.");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, rig_make, rig_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tells_hints),
		TEST(places_memory),
		TEST(tells_of_memory_in_brief),
		TEST(leases_a_balloon),
		TEST(leases_sharing),
		TEST(tells_the_brief),
		TEST(tells_whether_it_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
