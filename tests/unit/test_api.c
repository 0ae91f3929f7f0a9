/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers of the API, without HTTP and without a machine but for one that is none. */
#include "api_rig.h"

#include "base/checked.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void tells_defaults(void **state)
{
	rig_gives(*state, "/",
		"{\"id\":\"anonymous-instance\",\"state\":\"Not started\","
		"\"vmm_version\":\"1.12.0\",\"app_name\":\"Firecracker\"}");
	rig_gives(*state, "/version", "{\"firecracker_version\":\"1.12.0\"}");
	rig_gives(*state, "/machine-config",
		"{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,"
		"\"track_dirty_pages\":false,\"huge_pages\":\"None\"}");
}

static void refuses_requests(void **state)
{
	struct api_rig *rig = *state;
	char deep[300];

	rig_refused(rig, "PUT", "/x/y", "{}", "Invalid request method and/or path: PUT x.");
	rig_refused(rig, "GET", "/vm", "", "Invalid request method and/or path: GET vm.");
	rig_refused(rig, "PUT", "/x", "", "Empty PUT request.");
	rig_refused(rig, "PATCH", "/vm", "", "Empty PATCH request.");
	rig_refused(rig, "GET", "/version", "{}", "GET request cannot have a body.");
	rig_refused(rig, "PUT", "/drives", "{}", "The ID cannot be empty.");
	rig_refused(rig, "PUT", "/drives/a-b", "{}",
		"API Resource IDs can only contain alphanumeric characters and underscores.");
	rig_refused(rig, "PUT", "/machine-config", "{\"vcpu_count\": 1}",
		JSON "missing field `mem_size_mib` at line 1 column 17.");
	rig_refused(rig, "PATCH", "/machine-config", "{\"x\": 1}",
		JSON "unknown field `x`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, "
		     "`cpu_template`, `track_dirty_pages`, `huge_pages`.");
	rig_refused(rig, "PATCH", "/machine-config", "{\"vcpu_count\": \"2\"}",
		JSON "invalid type: string \\\"2\\\", expected u8.");
	rig_refused(rig, "PATCH", "/machine-config", "{\"vcpu_count\": 256}",
		JSON "invalid value: integer `256`, expected u8.");
	rig_refused(rig, "PATCH", "/machine-config", "{}", "Empty PATCH request.");
	rig_refused(rig, "PATCH", "/balloon/x", "[]",
		JSON "invalid type: sequence, expected struct BalloonUpdateConfig.");
	rig_ask(rig, "PUT", "/actions", "{");
	assert_non_null(strstr(rig->body, JSON));
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = 0;
	rig_refused(rig, "PUT", "/actions", deep, JSON "recursion limit exceeded.");
	rig_ask(rig, "GET", "/\xff\xfe", "");
	assert_int_equal(rig->status, 400);
}

static void refuses_what_needs_a_machine(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}", BEFORE);
	rig_refused(rig, "PATCH", "/balloon", "{\"amount_mib\": 1}", BEFORE);
	rig_refused(rig, "GET", "/balloon/statistics", "", BEFORE);
	rig_refused(rig, "PATCH", "/balloon/hinting/start", "", BEFORE);
	rig_refused(rig, "GET", "/balloon", "", "Balloon config error: No balloon device found.");
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"FlushMetrics\"}", BEFORE);
	rig_refused(rig, "POST", "/duet/hints", "", BEFORE);
	rig_refused(rig, "GET", "/duet/jobs/1", "", "There is no job 1.");
	rig_refused(rig, "PUT", "/duet/migration", "{\"to\": \"unix:/x\"}", BEFORE);
	rig_refused(rig, "GET", "/duet/migration", "", "The machine is not being moved.");
	rig_refused(rig, "DELETE", "/duet/migration", "", "The machine is not being moved.");
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"Start microvm error: Cannot start microvm without kernel configuration.");
	assert_int_equal(rig->starts, 0);
}

static void sets_the_machine(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/machine-config",
		"{\"vcpu_count\": 2, \"mem_size_mib\": 256, "
		"\"smt\": true, \"cpu_template\": null}");
	rig_done(rig, "PATCH", "/machine-config/", "{\"mem_size_mib\": 512}");
	assert_int_equal(rig->config.cpus, 2);
	assert_int_equal(rig->config.memory, 512 << 20);
	rig_refused(rig, "PATCH", "/machine-config", "{\"vcpu_count\": 3}",
		"Machine config error: The number of vCPUs must be greater than 0, less than 32 "
		"and "
		"must be 1 or an even number if SMT is enabled.");
	rig_refused(rig, "PATCH", "/machine-config", "{\"mem_size_mib\": 0}",
		"Machine config error: The memory size (MiB) is either 0, or not a multiple of the "
		"configured page size.");
	rig_done(rig, "PUT", "/balloon", "{\"amount_mib\": 100, \"deflate_on_oom\": true}");
	rig_gives(rig, "/balloon",
		"{\"amount_mib\":100,\"deflate_on_oom\":true,\"stats_polling_interval_s\":0,"
		"\"free_page_hinting\":false,\"free_page_reporting\":false}");
}

static void limits_entropy(void **state)
{
	struct api_rig *rig = *state;

	assert_false(rig->config.entropy);
	rig_done(rig, "PUT", "/entropy",
		"{\"rate_limiter\": {\"bandwidth\": {\"size\": 1000, \"one_time_burst\": 5, "
		"\"refill_time\": 100}, \"ops\": {\"size\": 10, \"refill_time\": 1000}}}");
	assert_true(rig->config.entropy);
	assert_int_equal(rig->config.entropy_bw.amount, 1000);
	assert_int_equal(rig->config.entropy_bw.period, 100000000);
	assert_int_equal(rig->config.entropy_bw.burst, 1000);
	assert_int_equal(rig->config.entropy_bw.once, 5);
	assert_int_equal(rig->config.entropy_ops.amount, 10);
	rig_ask(rig, "GET", "/vm/config", "");
	assert_non_null(strstr(rig->body,
		"\"entropy\":{\"rate_limiter\":{\"bandwidth\":{\"size\":1000,\"one_time_burst\":5,"
		"\"refill_time\":100},\"ops\":{\"size\":10,\"one_time_burst\":null,"
		"\"refill_time\":1000}}}"));
	rig_refused(rig, "PUT", "/entropy",
		"{\"rate_limiter\": {\"ops\": {\"size\": 1, \"refill_time\": 1000}, \"bandwidth\": "
		"{\"size\": 2000000000000, \"refill_time\": 1000}}}",
		"Entropy device error: Cannot create RateLimiter: size and one_time_burst: at most "
		"1099511627776");
	rig_refused(rig, "PUT", "/entropy", "{\"rate_limiter\": {\"bandwidth\": 5}}",
		JSON "invalid type: integer `5`, expected struct TokenBucketConfig.");
	assert_int_equal(rig->config.entropy_bw.amount, 1000);
	assert_int_equal(rig->config.entropy_ops.amount, 10);
	rig_done(rig, "PUT", "/entropy", "{}");
	assert_int_equal(rig->config.entropy_bw.amount, 0);
	assert_int_equal(rig->config.entropy_ops.amount, 0);
}

#define CPU "Configure CPU error: "
#define LEAF(register, bitmap)                                                                     \
	"{\"cpuid_modifiers\": [{\"leaf\": \"0x7\", \"subleaf\": \"0\", \"flags\": 1, "            \
	"\"modifiers\": [{\"register\": \"" register "\", \"bitmap\": \"" bitmap "\"}]}]}"

static void changes_the_cpu(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/cpu-config",
		"{\"kvm_capabilities\": [], \"cpuid_modifiers\": [{\"leaf\": \"0x7\", "
		"\"subleaf\": \"0x0\", \"flags\": 1, \"modifiers\": [{\"register\": \"ebx\", "
		"\"bitmap\": \"0b1_xxx0\"}, {\"register\": \"eax\", \"bitmap\": \"x\"}]}], "
		"\"msr_modifiers\": [{\"addr\": \"266\", \"bitmap\": \"0b10xx\"}]}");
	assert_string_equal(
		rig->config.cpu_config, "cpuid:0x7:0x0:ebx:0x11:0x10+msr:0x10a:0xc:0x8");
	rig_refused(rig, "PUT", "/cpu-config", "{\"kvm_capabilities\": [\"!56\"]}",
		CPU "kvm_capabilities: duet asks KVM for what it needs by itself; leave the list "
		    "empty");
	rig_refused(rig, "PUT", "/cpu-config", "{\"msr_modifiers\": 5}",
		CPU "msr_modifiers: must be an array");
	rig_refused(rig, "PUT", "/cpu-config",
		"{\"msr_modifiers\": [{\"addr\": \"0x1ffffffff\", \"bitmap\": \"0b0\"}]}",
		CPU "msr_modifiers: Failed to parse string [0x1ffffffff] as a number");
	rig_refused(rig, "PUT", "/cpu-config", LEAF("esi", "0b0"),
		CPU "cpuid_modifiers: unknown variant `esi`, expected one of `eax`, `ebx`, `ecx`, "
		    "`edx`");
	rig_refused(rig, "PUT", "/cpu-config", LEAF("eax", "0b2"),
		CPU "cpuid_modifiers: Failed to parse string [0b2] as a bitmap of 32 bits");
	rig_refused(rig, "PUT", "/cpu-config",
		LEAF("eax", "0b0_00000000_00000000_00000000_00000000"),
		CPU "cpuid_modifiers: Failed to parse string "
		    "[0b0_00000000_00000000_00000000_00000000] as a bitmap of 32 bits");
	/* What was refused has changed nothing; an empty list does. */
	rig_ask(rig, "GET", "/vm/config", "");
	assert_non_null(strstr(rig->body,
		"\"cpu-config\":{\"kvm_capabilities\":[],\"cpuid_modifiers\":[{\"leaf\":\"0x7\","
		"\"subleaf\":\"0x0\",\"flags\":0,\"modifiers\":[{\"register\":\"ebx\",\"bitmap\":"
		"\"0bxxxxxxxxxxxxxxxxxxxxxxxxxxx1xxx0\"}]}],\"msr_modifiers\":[{\"addr\":\"0x10a\","
		"\"bitmap\":\"0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx10xx"
		"\"}]}"));
	rig_done(rig, "PUT", "/cpu-config", "{\"cpuid_modifiers\": []}");
	assert_null(rig->config.cpu_config);
	rig_ask(rig, "GET", "/vm/config", "");
	assert_non_null(strstr(rig->body, "\"cpu-config\":null"));
}

static void boots_from_a_drive(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/boot-source",
		"{\"kernel_image_path\": \"/dev/null\", \"boot_args\": "
		"\"console=ttyS0 pci=off noapic quiet\"}");
	assert_string_equal(rig->config.cmdline, "console=ttyS0 quiet");
	rig_done(rig, "PUT", "/drives/data",
		"{\"drive_id\": \"data\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"false, \"is_read_only\": false}");
	rig_done(rig, "PUT", "/drives/root",
		"{\"drive_id\": \"root\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"true, \"is_read_only\": true, \"rate_limiter\": {\"ops\": {\"size\": 10, "
		"\"refill_time\": 100, \"one_time_burst\": 5}}}");
	assert_string_equal(rig->config.cmdline, "console=ttyS0 quiet root=/dev/vda ro");
	assert_string_equal(rig->config.devices[0].id, "root");
	assert_int_equal(rig->config.devices[0].disk.iops.amount, 10);
	assert_int_equal(rig->config.devices[0].disk.iops.period, 100000000);
	assert_int_equal(rig->config.devices[0].disk.iops.once, 5);
	rig_refused(rig, "PUT", "/drives/two",
		"{\"drive_id\": \"two\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"true}",
		"Drive config error: A root block device already exists!");
	rig_refused(rig, "PUT", "/drives/a", "{\"drive_id\": \"b\", \"is_root_device\": true}",
		"The id from the path does not match the id from the body!");
	rig_done(rig, "PUT", "/drives/root",
		"{\"drive_id\": \"root\", \"path_on_host\": \"/dev/zero\", \"is_root_device\": "
		"true, \"partuuid\": \"0eaa91a0-01\"}");
	assert_string_equal(
		rig->config.cmdline, "console=ttyS0 quiet root=PARTUUID=0eaa91a0-01 rw");
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"Start microvm error: /dev/kvm: No such file");
	assert_int_equal(rig->starts, 1);
}

static void has_interfaces(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/network-interfaces/eth0",
		"{\"iface_id\": \"eth0\", \"host_dev_name\": \"tap0\", \"guest_mac\": "
		"\"06:00:AC:10:00:02\", \"tx_rate_limiter\": {\"bandwidth\": {\"size\": 1000, "
		"\"refill_time\": 1000}}}");
	assert_int_equal(rig->config.devices[0].net.tx_rate.amount, 1000);
	assert_int_equal(rig->config.devices[0].net.tx_rate.period, 0);
	rig_refused(rig, "PUT", "/network-interfaces/a",
		"{\"iface_id\": \"b\", \"host_dev_name\": \"tap1\"}",
		"The id from the path [a] does not match the id from the body [b]!");
	rig_refused(rig, "PUT", "/network-interfaces/a",
		"{\"iface_id\": \"a\", \"host_dev_name\": \"tap1\", \"guest_mac\": "
		"\"06:00:ac:10:00:02\"}",
		"Network config error: The MAC address is already in use: 06:00:ac:10:00:02");
	assert_int_equal(rig->config.device_count, 1);
	rig_done(rig, "PATCH", "/duet/devices/eth0", "{\"rx-pps\": 50, \"tx-rate\": null}");
	assert_int_equal(rig->config.devices[0].net.rx_pps.amount, 50);
	assert_int_equal(rig->config.devices[0].net.tx_rate.amount, 0);
	rig_refused(rig, "PATCH", "/duet/devices/x", "{}",
		"There is no device x; GET /duet/devices lists them.");
	rig_ask(rig, "GET", "/duet/devices/eth0", "");
	assert_int_equal(rig->status, 200);
	assert_non_null(strstr(rig->body, "\"rx-pps\":50"));
}

static void takes_a_vsock(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "PUT", "/vsock", "{\"guest_cid\": 2, \"uds_path\": \"v\"}",
		"Vsock config error: guest_cid is 3 at least");
	rig_refused(rig, "PUT", "/vsock", "{\"guest_cid\": 3, \"uds_path\": \"\"}",
		"Vsock config error: uds_path is empty");
	rig_done(rig, "PUT", "/vsock", "{\"guest_cid\": 3, \"uds_path\": \"v\"}");
	rig_done(rig, "PUT", "/vsock",
		"{\"vsock_id\": \"a\", \"guest_cid\": 7, \"uds_path\": \"w\"}");
	assert_int_equal(rig->config.device_count, 1);
	assert_int_equal(rig->config.devices[0].vsock.cid, 7);
	assert_string_equal(rig->config.devices[0].vsock.path, "w");
	rig_ask(rig, "GET", "/vm/config", "");
	assert_non_null(strstr(rig->body, "\"guest_cid\":7"));
}

/* What clients do without asking whether it makes sense. */
static void lets_clients_have_their_way(void **state)
{
	struct api_rig *rig = *state;

	rig_runs(rig);
	rig_done(rig, "PUT", "/actions", "{\"action_type\": \"FlushMetrics\"}");
	fake.keys = -EAGAIN;
	rig_done(rig, "PUT", "/actions", "{\"action_type\": \"SendCtrlAltDel\"}");
	fake.keys = -ENOTSUP;
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"SendCtrlAltDel\"}",
		"SendCtrlAltDel: the machine has no keyboard; start it with --keyboard on.");
	/* People who started the machine otherwise hear of it. */
	rig->api->options.start = NULL;
	fake.keys = -EAGAIN;
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"SendCtrlAltDel\"}",
		"SendCtrlAltDel: the guest listens to no keyboard (yet).");
}

static int no_tap(void *opaque, const char *ifname, struct error *err)
{
	return error_set(err, EPERM, "%s: not yours", ifname);
}

/* At once, and nothing of it stays. */
static void opens_the_tap(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/network-interfaces/a",
		"{\"iface_id\": \"a\", \"host_dev_name\": \"tap0\"}");
	rig_refused(rig, "PUT", "/network-interfaces/b",
		"{\"iface_id\": \"b\", \"host_dev_name\": \"tap0\"}",
		"Network config error: Could not create the network device: Open tap device "
		"failed: tap0 is also a's; give each its own");
	rig->api->options.check_tap = no_tap;
	rig_refused(rig, "PUT", "/network-interfaces/b",
		"{\"iface_id\": \"b\", \"host_dev_name\": \"tap1\"}",
		"Network config error: Could not create the network device: Open tap device "
		"failed: tap1: not yours");
	assert_int_equal(rig->config.device_count, 1);
	rig_refused(rig, "PUT", "/network-interfaces/a",
		"{\"iface_id\": \"a\", \"host_dev_name\": \"tap2\"}",
		"Network config error: Could not create the network device: Open tap device "
		"failed: tap2: not yours");
	assert_string_equal(rig->config.devices[0].net.ifname, "tap0");
}

static void refuses_what_a_patch_does_not_change(void **state)
{
	rig_refused(*state, "PATCH", "/drives/a", "{\"drive_id\": \"a\", \"is_read_only\": true}",
		JSON "unknown field `is_read_only`, expected one of `drive_id`, `path_on_host`, "
		     "`rate_limiter`.");
	rig_refused(*state, "PUT", "/serial",
		"{\"serial_out_path\": \"/x\", \"rate_limiter\": {\"size\": 1, \"refill_time\": "
		"1}}",
		"Serial error: rate_limiter: the console's output is not limited; leave it out, "
		"and "
		"read a FIFO as fast as you like.");
}

#define ABSENT "The requested operation is not supported: it is not there in duet."

static void says_what_is_not_there(void **state)
{
	struct api_rig *rig = *state;

	rig_refused(rig, "PUT", "/snapshot/create",
		"{\"snapshot_path\": \"a\", \"mem_file_path\": \"b\"}", BEFORE);
	rig_refused(rig, "PUT", "/snapshot/create", "{}",
		JSON "missing field `snapshot_path` at line 1 column 2.");
	rig_refused(rig, "GET", "/mmds", "", ABSENT);
	rig_refused(rig, "PUT", "/mmds/config", "{}", ABSENT);
	rig_refused(rig, "PUT", "/pmem/x", "{}", ABSENT);
	rig_refused(rig, "GET", "/hotplug/memory", "", ABSENT);
	rig_refused(rig, "DELETE", "/drives/a", "", ABSENT);
	rig_refused(rig, "GET", "/mmdx", "", "Invalid request method and/or path: GET mmdx.");
	rig_refused(rig, "PUT", "/logger", "{\"level\": \"Loud\"}",
		JSON "unknown variant `Loud`, expected one of `Off`, `Trace`, `Debug`, `Info`, "
		     "`Warn`, `Error`.");
}

/* What GET gives a file may hold. */
static void reads_a_file(void **state)
{
	char path[] = "/tmp/duet-api-XXXXXX";
	struct error err = {0};
	void *other;
	int fd = mkstemp(path);

	boots_from_a_drive(state);
	rig_done(*state, "PUT", "/cpu-config", LEAF("ebx", "0b0x1"));
	rig_done(*state, "PUT", "/entropy", "{\"rate_limiter\": null}");
	rig_ask(*state, "GET", "/vm/config", "");
	assert_int_equal(write(fd, ((struct api_rig *)*state)->body,
				 strlen(((struct api_rig *)*state)->body)),
		strlen(((struct api_rig *)*state)->body));
	close(fd);
	rig_make(&other);
	if (api_read_file(((struct api_rig *)other)->api, path, &err) < 0)
		fail_msg("%s", err.text);
	rig_gives(other, "/vm/config", ((struct api_rig *)*state)->body);
	assert_string_equal(((struct api_rig *)other)->config.cmdline,
		((struct api_rig *)*state)->config.cmdline);
	rig_drop(&other);
	unlink(path);
	assert_true(api_read_file(((struct api_rig *)*state)->api, path, &err) < 0);
	assert_non_null(strstr(err.text, "--config-file"));
}

static void touch(const char *path)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fclose(file);
}

static const char *initrd_of(struct api_rig *rig, const char *kernel, const char *more)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"kernel_image_path\": \"%s\"%s}", kernel, more);
	rig_done(rig, "PUT", "/boot-source", body);
	assert_string_equal(rig->config.kernel, kernel);
	return rig->config.initrd;
}

/* Beside the kernel, or beside the file that it is a link to; what is given goes first. */
static void finds_the_initrd(void **state)
{
	char here[] = "/tmp/duet-boot-XXXXXX", kernel[64], link[64], initrd[64], mine[64];

	assert_non_null(mkdtemp(here));
	snprintf(kernel, sizeof(kernel), "%s/kernel", here);
	snprintf(link, sizeof(link), "%s/link", here);
	snprintf(initrd, sizeof(initrd), "%s/kernel.initrd", here);
	snprintf(mine, sizeof(mine), "%s/link.initrd", here);
	touch(kernel);
	assert_int_equal(symlink("kernel", link), 0);
	assert_null(initrd_of(*state, kernel, ""));
	assert_null(initrd_of(*state, link, ""));
	assert_int_equal(mkdir(initrd, 0700), 0);
	assert_null(initrd_of(*state, kernel, ""));
	rmdir(initrd);
	touch(initrd);
	assert_string_equal(initrd_of(*state, kernel, ""), initrd);
	assert_string_equal(initrd_of(*state, link, ", \"initrd_path\": null"), initrd);
	assert_string_equal(
		initrd_of(*state, kernel, ", \"initrd_path\": \"/dev/null\""), "/dev/null");
	touch(mine);
	assert_string_equal(initrd_of(*state, link, ""), mine);
	unlink(mine);
	unlink(initrd);
	assert_null(initrd_of(*state, kernel, ""));
	unlink(link);
	unlink(kernel);
	rmdir(here);
}

/* The buffer that they are read into knows nothing of them. */
static void has_room_for_each_body(void **state)
{
	for (unsigned i = 0; i < ROUTE_SETS; i++)
		for (unsigned n = 0; n < route_sets[i]->count; n++)
			if (route_sets[i]->routes[n].body)
				assert_in_range(
					route_sets[i]->routes[n].body->size, 1, REQUEST_FIELDS);
}

/* What a client has said outlives a start that failed. */
static void keeps_what_was_said(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/boot-source", "{\"kernel_image_path\": \"/dev/null\"}");
	rig_done(rig, "PUT", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"false}");
	rig_done(rig, "PATCH", "/duet/devices/a", "{\"slot\": 5}");
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"Start microvm error: /dev/kvm: No such file");
	assert_int_equal(rig->config.devices[0].slot, 5);
}

#define LIMITER "\"rate_limiter\": {\"ops\": {\"size\": 10, \"refill_time\": "

/* Neither half of a change whose other half is refused. */
static void changes_a_drive_or_not(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"false}");
	rig_runs(rig);
	rig_ask(rig, "PATCH", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/zero\", " LIMITER
		"9000000000000000000}}}");
	assert_int_equal(rig->status, 400);
	assert_int_equal(fake.refreshes, 0);
	assert_int_equal(fake.changes, 0);
	rig_done(rig, "PATCH", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/zero\", " LIMITER "100}}}");
	assert_int_equal(fake.refreshes, 1);
	assert_int_equal(fake.changes, 1);
}

static void changes_a_balloon_by_an_object(void **state)
{
	struct api_rig *rig = *state;

	rig_done(rig, "PUT", "/balloon", "{\"amount_mib\": 1, \"deflate_on_oom\": true}");
	rig_runs(rig);
	rig_refused(rig, "PATCH", "/duet/devices/balloon0", "5",
		"only size and stats can be changed while the machine runs");
	rig_refused(rig, "PATCH", "/duet/devices/balloon0", "[]",
		"only size and stats can be changed while the machine runs");
	rig_refused(rig, "DELETE", "/duet/devices/vfio1", "", "vfio1: there is no such device");
}

/* One that comes from elsewhere is built before it is given over: nobody here lets it run. */
static void waits_for_one_that_comes(void **state)
{
	struct api_rig *rig = *state;
	struct api_options options = rig->api->options;

	options.start = NULL;
	api_free(rig->api);
	assert_int_equal(api_new(&rig->api, &options, NULL), 0);
	rig_refused(
		rig, "GET", "/", "", "The machine is on its way here, and runs when it has come.");
	rig_refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"The machine is on its way here, and runs when it has come.");
	rig_refused(rig, "GET", "/duet/brief", "",
		"The machine is on its way here, and runs when it has come.");
	rig_runs(rig);
	fake.state = MACHINE_BUILT;
	rig_refused(rig, "PATCH", "/vm", "{\"state\": \"Resumed\"}",
		"The machine is on its way here, and runs when it has come.");
	rig_done(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}");
	fake.state = MACHINE_RUNNING;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, rig_make, rig_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tells_defaults),
		TEST(refuses_requests),
		TEST(refuses_what_needs_a_machine),
		TEST(sets_the_machine),
		TEST(limits_entropy),
		TEST(changes_the_cpu),
		TEST(boots_from_a_drive),
		TEST(finds_the_initrd),
		TEST(has_room_for_each_body),
		TEST(keeps_what_was_said),
		TEST(changes_a_drive_or_not),
		TEST(changes_a_balloon_by_an_object),
		TEST(waits_for_one_that_comes),
		TEST(has_interfaces),
		TEST(takes_a_vsock),
		TEST(lets_clients_have_their_way),
		TEST(opens_the_tap),
		TEST(refuses_what_a_patch_does_not_change),
		TEST(says_what_is_not_there),
		TEST(reads_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
