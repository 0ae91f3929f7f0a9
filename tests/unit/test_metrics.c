/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of a line of metrics, and that each number is what came since the line before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/metrics.h"

#include <stdlib.h>

static void assert_gives(json_t **told, const char *stats, const char *expected)
{
	json_t *parsed = json_loads(stats, 0, NULL), *groups,
	       *wanted = json_loads(expected, 0, NULL);
	char *text;

	assert_non_null(parsed);
	assert_non_null(wanted);
	groups = metrics_of(parsed, told);
	text = json_dumps(groups, JSON_COMPACT);
	if (!json_equal(groups, wanted))
		fail_msg("%s instead of %s", text, expected);
	free(text);
	json_decref(groups);
	json_decref(wanted);
	json_decref(parsed);
}

#define DISKS(reads)                                                                               \
	"{\"devices\": [{\"name\": \"root\", \"type\": \"virtio-block\", \"queues\": {"            \
	"\"queue0\": {\"reads\": " reads ", \"bytes_read\": 4096, \"kicks\": 2},"                  \
	"\"queue1\": {\"reads\": 5, \"bytes_read\": 512, \"kicks\": 1}}},"                         \
	"{\"name\": \"data\", \"type\": \"virtio-block\", \"queues\": {\"queue0\": {\"reads\": "   \
	"7}}}]}"

static void counts_from_line_to_line(void **state)
{
	json_t *told = NULL;

	(void)state;
	assert_gives(&told, DISKS("10"),
		"{\"block\": {\"read_count\": 22, \"read_bytes\": 4608, \"queue_event_count\": 3},"
		"\"block_root\": {\"read_count\": 15, \"read_bytes\": 4608, "
		"\"queue_event_count\": 3}, \"block_data\": {\"read_count\": 7}}");
	assert_gives(&told, DISKS("12"),
		"{\"block\": {\"read_count\": 2, \"read_bytes\": 0, \"queue_event_count\": 0},"
		"\"block_root\": {\"read_count\": 2, \"read_bytes\": 0, \"queue_event_count\": 0}, "
		"\"block_data\": {\"read_count\": 0}}");
	/* A machine that began anew. */
	assert_gives(&told, DISKS("1"),
		"{\"block\": {\"read_count\": 13, \"read_bytes\": 0, \"queue_event_count\": 0},"
		"\"block_root\": {\"read_count\": 6, \"read_bytes\": 0, \"queue_event_count\": 0}, "
		"\"block_data\": {\"read_count\": 0}}");
	json_decref(told);
}

static void knows_directions(void **state)
{
	json_t *told = NULL;

	(void)state;
	assert_gives(&told,
		"{\"devices\": [{\"name\": \"eth0\", \"type\": \"virtio-net\", \"queues\": {"
		"\"queue0\": {\"frames\": 3, \"bytes\": 300}, \"queue1\": {\"frames\": 1, "
		"\"bytes\": 60}, \"queue2\": {\"frames\": 4, \"bytes\": 400}, \"queue11\": "
		"{\"frames\": 2, \"bytes\": 99}, \"queue4\": {\"kicks\": 9}}, \"policy\": "
		"{\"out_foreign_mac_packets\": 8}}, {\"name\": \"e\", \"type\": \"virtio-entropy\","
		" \"queues\": {\"queue0\": {\"requests\": 2, \"bytes\": 64}}}, {\"name\": "
		"\"v\", \"type\": \"virtio-vsock\", \"bytes_in\": 1, \"bytes_out\": 2, "
		"\"packets_in\": 3, \"packets_out\": 4, \"from_guest\": 5, \"from_host\": 6},"
		"{\"name\": \"rtc\", \"type\": \"rtc\"}]}",
		"{\"net\": {\"rx_packets_count\": 7, \"rx_bytes_count\": 700, "
		"\"tx_packets_count\": "
		"3, \"tx_bytes_count\": 159, \"tx_spoofed_mac_count\": 8}, \"net_eth0\": "
		"{\"rx_packets_count\": 7, \"rx_bytes_count\": 700, \"tx_packets_count\": 3, "
		"\"tx_bytes_count\": 159, \"tx_spoofed_mac_count\": 8}, \"entropy\": "
		"{\"entropy_event_count\": 2, \"entropy_bytes\": 64}, \"vsock\": "
		"{\"rx_bytes_count\": 1, \"tx_bytes_count\": 2, \"rx_packets_count\": 3, "
		"\"tx_packets_count\": 4, \"conns_added\": 11}}");
	json_decref(told);
}

static void counts_exits(void **state)
{
	json_t *told = NULL;

	(void)state;
	assert_gives(&told,
		"{\"exits\": {\"by_device\": {\"serial\": {\"bus\": \"port\", \"reads\": 1, "
		"\"writes\": 2}, \"rtc\": {\"bus\": \"port\", \"reads\": 10, \"writes\": 20}, "
		"\"ioapic\": {\"bus\": \"mmio\", \"reads\": 3, \"writes\": 4}}}}",
		"{\"vcpu\": {\"exit_io_in\": 11, \"exit_io_out\": 22, \"exit_mmio_read\": 3, "
		"\"exit_mmio_write\": 4}}");
	json_decref(told);
}

/* A device that was unplugged takes what was counted along. */
static void knows_ranges_that_went(void **state)
{
	json_t *told = NULL;

	(void)state;
	assert_gives(&told,
		"{\"exits\": {\"by_device\": {\"rtc\": {\"bus\": \"port\", \"reads\": 10, "
		"\"writes\": 20}, \"vfio0\": {\"bus\": \"port\", \"reads\": 5, \"writes\": 5}}}}",
		"{\"vcpu\": {\"exit_io_in\": 15, \"exit_io_out\": 25}}");
	assert_gives(&told,
		"{\"exits\": {\"by_device\": {\"rtc\": {\"bus\": \"port\", \"reads\": 12, "
		"\"writes\": 20}}}}",
		"{\"vcpu\": {\"exit_io_in\": 2, \"exit_io_out\": 0}}");
	/* Or was only switched off for a while. */
	assert_gives(&told,
		"{\"exits\": {\"by_device\": {\"rtc\": {\"bus\": \"port\", \"reads\": 12, "
		"\"writes\": 20}, \"vfio0\": {\"bus\": \"port\", \"reads\": 5, \"writes\": 6}}}}",
		"{\"vcpu\": {\"exit_io_in\": 0, \"exit_io_out\": 1}}");
	json_decref(told);
}

/* Nothing is made up for what is not counted. */
static void leaves_out_what_is_not_there(void **state)
{
	json_t *told = NULL;

	(void)state;
	assert_gives(&told, "{}", "{}");
	assert_gives(&told,
		"{\"devices\": [{\"name\": \"n\", \"type\": \"virtio-net\", \"vhost\": \"on\"}, "
		"{\"type\": \"virtio-net\"}, {}, 5]}",
		"{}");
	json_decref(told);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_from_line_to_line),
		cmocka_unit_test(knows_directions),
		cmocka_unit_test(counts_exits),
		cmocka_unit_test(knows_ranges_that_went),
		cmocka_unit_test(leaves_out_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
