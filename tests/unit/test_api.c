/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers of the API, without HTTP and without a machine but for one that is none. */
#include "api/private.h"
#include "base/checked.h"
#include "base/log.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
	struct exchange exchange;
	struct machine_config config;
	struct loop *loop;
	struct api *api;
	unsigned status, answers, starts;
	char *body;
};

static void answered(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	struct rig *rig = container_of(exchange, struct rig, exchange);

	rig->status = status;
	rig->answers++;
	free(rig->body);
	rig->body = body;
}

static int start(void *opaque, struct error *err)
{
	struct rig *rig = opaque;

	rig->starts++;
	return error_set(err, ENOENT, "/dev/kvm: No such file");
}

/* ---- a machine that is none, by the linker's --wrap ---- */

static struct rig *running;
static unsigned refreshes, changes;
static struct device *cooperation;
static uint64_t balloon_target; /* bytes */
static bool no_balloon;

struct device *__wrap_machine_balloon(const struct machine *machine);
struct device *__wrap_machine_coop(const struct machine *machine);
struct device *__wrap_machine_coop(const struct machine *machine)
{
	return cooperation;
}

const struct machine_config *__wrap_machine_config(const struct machine *machine);
int __wrap_machine_change_device(
	struct machine *machine, const struct device_config *wanted, struct error *err);
int __wrap_machine_refresh_disk(
	struct machine *machine, const char *id, const char *path, struct error *err);

struct device *__wrap_machine_balloon(const struct machine *machine)
{
	return no_balloon ? NULL : (struct device *)running;
}

const struct machine_config *__wrap_machine_config(const struct machine *machine)
{
	return &running->config;
}

int __wrap_machine_change_device(
	struct machine *machine, const struct device_config *wanted, struct error *err)
{
	changes++;
	return 0;
}

int __wrap_machine_refresh_disk(
	struct machine *machine, const char *id, const char *path, struct error *err)
{
	refreshes++;
	return 0;
}

int __wrap_virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err);
int __wrap_virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err)
{
	balloon_target = bytes;
	return 0;
}

void __wrap_virtio_balloon_statistics(
	struct device *device, struct virtio_balloon_statistics *statistics);
void __wrap_virtio_balloon_statistics(
	struct device *device, struct virtio_balloon_statistics *statistics)
{
	*statistics = (struct virtio_balloon_statistics){.target = balloon_target, .interval = 1};
}

static enum machine_state machine_is = MACHINE_RUNNING;

enum machine_state __wrap_machine_state(const struct machine *machine);
enum machine_state __wrap_machine_state(const struct machine *machine)
{
	return machine_is;
}

static bool paused;

bool __wrap_machine_is_paused(const struct machine *machine);
bool __wrap_machine_is_paused(const struct machine *machine)
{
	return paused;
}

int __wrap_machine_vcpu_thread(const struct machine *machine, unsigned vcpu);
int __wrap_machine_vcpu_thread(const struct machine *machine, unsigned vcpu)
{
	return 1000 + (int)vcpu;
}

/* ---- its memory, on nodes of the host ---- */

static struct machine_uses seen;
static struct machine_placing under_way;
static int8_t placed[MACHINE_CPUS_MAX];
static unsigned looks;

int __wrap_machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err);
int __wrap_machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err)
{
	looks++;
	*uses = seen;
	return 0;
}

int __wrap_machine_place(
	struct machine *machine, const int8_t nodes[MACHINE_CPUS_MAX], struct error *err);
int __wrap_machine_place(
	struct machine *machine, const int8_t nodes[MACHINE_CPUS_MAX], struct error *err)
{
	memcpy(placed, nodes, sizeof(placed));
	return 0;
}

void __wrap_machine_placing(const struct machine *machine, struct machine_placing *placing);
void __wrap_machine_placing(const struct machine *machine, struct machine_placing *placing)
{
	*placing = under_way;
}

static struct machine_sharing sharing;
static bool no_sharing;

int __wrap_machine_share(
	struct machine *machine, enum machine_sharing_state state, struct error *err);
int __wrap_machine_share(
	struct machine *machine, enum machine_sharing_state state, struct error *err)
{
	if (no_sharing)
		return error_set(err, ENOTSUP, "No sharing.");
	sharing.state = state;
	return 0;
}

int __wrap_machine_merged(const struct machine *machine, uint64_t *pages);
int __wrap_machine_merged(const struct machine *machine, uint64_t *pages)
{
	*pages = 77;
	return no_sharing ? -ENOTSUP : 0;
}

void __wrap_machine_sharing(const struct machine *machine, struct machine_sharing *told);
void __wrap_machine_sharing(const struct machine *machine, struct machine_sharing *told)
{
	*told = sharing;
}

static void runs(struct rig *rig)
{
	running = rig;
	refreshes = changes = 0;
	seen = (struct machine_uses){0};
	sharing = (struct machine_sharing){.offered = 8192, .runs = 2};
	api_set_machine(rig->api, (struct machine *)rig);
}

static int make(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct api_options options = {.config = &rig->config, .start = start, .opaque = rig};

	log_set_level(LOG_LEVEL_ERROR);
	rig->exchange.answer = answered;
	machine_config_init(&rig->config);
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	options.loop = rig->loop;
	assert_int_equal(api_new(&rig->api, &options, NULL), 0);
	*state = rig;
	return 0;
}

static int drop(void **state)
{
	struct rig *rig = *state;

	api_free(rig->api);
	loop_free(rig->loop);
	machine_config_free(&rig->config);
	free(rig->body);
	free(rig);
	return 0;
}

static void ask(struct rig *rig, const char *method, const char *path, const char *body)
{
	struct request request = {
		.method = method, .path = path, .body = body, .length = strlen(body)};
	unsigned before = rig->answers;

	api_handle(rig->api, &request, &rig->exchange);
	assert_int_equal(rig->answers, before + 1);
}

static void done(struct rig *rig, const char *method, const char *path, const char *body)
{
	ask(rig, method, path, body);
	if (rig->status != 204)
		fail_msg("%s %s: %u %s", method, path, rig->status, rig->body);
	assert_null(rig->body);
}

static void gives(struct rig *rig, const char *path, const char *expected)
{
	ask(rig, "GET", path, "");
	assert_int_equal(rig->status, 200);
	assert_string_equal(rig->body, expected);
}

static void assert_balloon(struct rig *rig, unsigned mib)
{
	char expected[32];

	ask(rig, "GET", "/balloon", "");
	snprintf(expected, sizeof(expected), "{\"amount_mib\":%u,", mib);
	assert_memory_equal(rig->body, expected, strlen(expected));
}

static void refused(struct rig *rig, const char *method, const char *path, const char *body,
	const char *message)
{
	char expected[1024];

	ask(rig, method, path, body);
	snprintf(expected, sizeof(expected), "{\"fault_message\":\"%s\"}", message);
	assert_int_equal(rig->status, 400);
	assert_string_equal(rig->body, expected);
}

#define AFTER  "The requested operation is not supported after starting the microVM."
#define BEFORE "The requested operation is not supported before starting the microVM."
#define JSON   "An error occurred when deserializing the json body of a request: "

static void tells_defaults(void **state)
{
	gives(*state, "/",
		"{\"id\":\"anonymous-instance\",\"state\":\"Not started\","
		"\"vmm_version\":\"1.12.0\",\"app_name\":\"Firecracker\"}");
	gives(*state, "/version", "{\"firecracker_version\":\"1.12.0\"}");
	gives(*state, "/machine-config",
		"{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,"
		"\"track_dirty_pages\":false,\"huge_pages\":\"None\"}");
}

static void refuses_requests(void **state)
{
	struct rig *rig = *state;
	char deep[300];

	refused(rig, "PUT", "/x/y", "{}", "Invalid request method and/or path: PUT x.");
	refused(rig, "GET", "/vm", "", "Invalid request method and/or path: GET vm.");
	refused(rig, "PUT", "/x", "", "Empty PUT request.");
	refused(rig, "PATCH", "/vm", "", "Empty PATCH request.");
	refused(rig, "GET", "/version", "{}", "GET request cannot have a body.");
	refused(rig, "PUT", "/drives", "{}", "The ID cannot be empty.");
	refused(rig, "PUT", "/drives/a-b", "{}",
		"API Resource IDs can only contain alphanumeric characters and underscores.");
	refused(rig, "PUT", "/machine-config", "{\"vcpu_count\": 1}",
		JSON "missing field `mem_size_mib` at line 1 column 17.");
	refused(rig, "PATCH", "/machine-config", "{\"x\": 1}",
		JSON "unknown field `x`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, "
		     "`cpu_template`, `track_dirty_pages`, `huge_pages`.");
	refused(rig, "PATCH", "/machine-config", "{\"vcpu_count\": \"2\"}",
		JSON "invalid type: string \\\"2\\\", expected u8.");
	refused(rig, "PATCH", "/machine-config", "{\"vcpu_count\": 256}",
		JSON "invalid value: integer `256`, expected u8.");
	refused(rig, "PATCH", "/machine-config", "{}", "Empty PATCH request.");
	refused(rig, "PATCH", "/balloon/x", "[]",
		JSON "invalid type: sequence, expected struct BalloonUpdateConfig.");
	ask(rig, "PUT", "/actions", "{");
	assert_non_null(strstr(rig->body, JSON));
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = 0;
	refused(rig, "PUT", "/actions", deep, JSON "recursion limit exceeded.");
	ask(rig, "GET", "/\xff\xfe", "");
	assert_int_equal(rig->status, 400);
}

static void refuses_what_needs_a_machine(void **state)
{
	struct rig *rig = *state;

	refused(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}", BEFORE);
	refused(rig, "PATCH", "/balloon", "{\"amount_mib\": 1}", BEFORE);
	refused(rig, "GET", "/balloon/statistics", "", BEFORE);
	refused(rig, "PATCH", "/balloon/hinting/start", "", BEFORE);
	refused(rig, "GET", "/balloon", "", "Balloon config error: No balloon device found.");
	refused(rig, "PUT", "/actions", "{\"action_type\": \"FlushMetrics\"}", BEFORE);
	refused(rig, "POST", "/duet/hints", "", BEFORE);
	refused(rig, "GET", "/duet/jobs/1", "", "There is no job 1.");
	refused(rig, "PUT", "/duet/migration", "{\"to\": \"unix:/x\"}", BEFORE);
	refused(rig, "GET", "/duet/migration", "", "The machine is not being moved.");
	refused(rig, "DELETE", "/duet/migration", "", "The machine is not being moved.");
	refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"Start microvm error: Cannot start microvm without kernel configuration.");
	assert_int_equal(rig->starts, 0);
}

static void sets_the_machine(void **state)
{
	struct rig *rig = *state;

	done(rig, "PUT", "/machine-config",
		"{\"vcpu_count\": 2, \"mem_size_mib\": 256, "
		"\"smt\": true, \"cpu_template\": null}");
	done(rig, "PATCH", "/machine-config/", "{\"mem_size_mib\": 512}");
	assert_int_equal(rig->config.cpus, 2);
	assert_int_equal(rig->config.memory, 512 << 20);
	refused(rig, "PATCH", "/machine-config", "{\"vcpu_count\": 3}",
		"Machine config error: The number of vCPUs must be greater than 0, less than 32 "
		"and "
		"must be 1 or an even number if SMT is enabled.");
	refused(rig, "PATCH", "/machine-config", "{\"mem_size_mib\": 0}",
		"Machine config error: The memory size (MiB) is either 0, or not a multiple of the "
		"configured page size.");
	done(rig, "PUT", "/cpu-config", "{\"cpuid_modifiers\": []}");
	done(rig, "PUT", "/balloon", "{\"amount_mib\": 100, \"deflate_on_oom\": true}");
	gives(rig, "/balloon",
		"{\"amount_mib\":100,\"deflate_on_oom\":true,\"stats_polling_interval_s\":0,"
		"\"free_page_hinting\":false,\"free_page_reporting\":false}");
	done(rig, "PUT", "/entropy", "{}");
	assert_true(rig->config.entropy);
}

static void boots_from_a_drive(void **state)
{
	struct rig *rig = *state;

	done(rig, "PUT", "/boot-source",
		"{\"kernel_image_path\": \"/dev/null\", \"boot_args\": "
		"\"console=ttyS0 pci=off noapic quiet\"}");
	assert_string_equal(rig->config.cmdline, "console=ttyS0 quiet");
	done(rig, "PUT", "/drives/data",
		"{\"drive_id\": \"data\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"false, \"is_read_only\": false}");
	done(rig, "PUT", "/drives/root",
		"{\"drive_id\": \"root\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"true, \"is_read_only\": true, \"rate_limiter\": {\"ops\": {\"size\": 10, "
		"\"refill_time\": 100, \"one_time_burst\": 5}}}");
	assert_string_equal(rig->config.cmdline, "console=ttyS0 quiet root=/dev/vda ro");
	assert_string_equal(rig->config.devices[0].id, "root");
	assert_int_equal(rig->config.devices[0].disk.iops.amount, 10);
	assert_int_equal(rig->config.devices[0].disk.iops.period, 100000000);
	assert_int_equal(rig->config.devices[0].disk.iops.once, 5);
	refused(rig, "PUT", "/drives/two",
		"{\"drive_id\": \"two\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"true}",
		"Drive config error: A root block device already exists!");
	refused(rig, "PUT", "/drives/a", "{\"drive_id\": \"b\", \"is_root_device\": true}",
		"The id from the path does not match the id from the body!");
	done(rig, "PUT", "/drives/root",
		"{\"drive_id\": \"root\", \"path_on_host\": \"/dev/zero\", \"is_root_device\": "
		"true, \"partuuid\": \"0eaa91a0-01\"}");
	assert_string_equal(
		rig->config.cmdline, "console=ttyS0 quiet root=PARTUUID=0eaa91a0-01 rw");
	refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"Start microvm error: /dev/kvm: No such file");
	assert_int_equal(rig->starts, 1);
}

static void has_interfaces(void **state)
{
	struct rig *rig = *state;

	done(rig, "PUT", "/network-interfaces/eth0",
		"{\"iface_id\": \"eth0\", \"host_dev_name\": \"tap0\", \"guest_mac\": "
		"\"06:00:AC:10:00:02\", \"tx_rate_limiter\": {\"bandwidth\": {\"size\": 1000, "
		"\"refill_time\": 1000}}}");
	assert_int_equal(rig->config.devices[0].net.tx_rate.amount, 1000);
	assert_int_equal(rig->config.devices[0].net.tx_rate.period, 0);
	refused(rig, "PUT", "/network-interfaces/a",
		"{\"iface_id\": \"b\", \"host_dev_name\": \"tap1\"}",
		"The id from the path [a] does not match the id from the body [b]!");
	refused(rig, "PUT", "/network-interfaces/a",
		"{\"iface_id\": \"a\", \"host_dev_name\": \"tap1\", \"guest_mac\": "
		"\"06:00:ac:10:00:02\"}",
		"Network config error: The MAC address is already in use: 06:00:ac:10:00:02");
	assert_int_equal(rig->config.device_count, 1);
	done(rig, "PATCH", "/duet/devices/eth0", "{\"rx-pps\": 50, \"tx-rate\": null}");
	assert_int_equal(rig->config.devices[0].net.rx_pps.amount, 50);
	assert_int_equal(rig->config.devices[0].net.tx_rate.amount, 0);
	refused(rig, "PATCH", "/duet/devices/x", "{}",
		"There is no device x; GET /duet/devices lists them.");
	ask(rig, "GET", "/duet/devices/eth0", "");
	assert_int_equal(rig->status, 200);
	assert_non_null(strstr(rig->body, "\"rx-pps\":50"));
}

static void takes_a_vsock(void **state)
{
	struct rig *rig = *state;

	refused(rig, "PUT", "/vsock", "{\"guest_cid\": 2, \"uds_path\": \"v\"}",
		"Vsock config error: guest_cid is 3 at least");
	refused(rig, "PUT", "/vsock", "{\"guest_cid\": 3, \"uds_path\": \"\"}",
		"Vsock config error: uds_path is empty");
	done(rig, "PUT", "/vsock", "{\"guest_cid\": 3, \"uds_path\": \"v\"}");
	done(rig, "PUT", "/vsock", "{\"vsock_id\": \"a\", \"guest_cid\": 7, \"uds_path\": \"w\"}");
	assert_int_equal(rig->config.device_count, 1);
	assert_int_equal(rig->config.devices[0].vsock.cid, 7);
	assert_string_equal(rig->config.devices[0].vsock.path, "w");
	ask(rig, "GET", "/vm/config", "");
	assert_non_null(strstr(rig->body, "\"guest_cid\":7"));
}

static void says_what_is_not_there(void **state)
{
	struct rig *rig = *state;

	ask(rig, "PUT", "/snapshot/create", "{}");
	assert_int_equal(rig->status, 400);
	ask(rig, "GET", "/mmds", "");
	assert_int_equal(rig->status, 400);
	refused(rig, "PUT", "/logger", "{\"level\": \"Loud\"}",
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
	ask(*state, "GET", "/vm/config", "");
	assert_int_equal(
		write(fd, ((struct rig *)*state)->body, strlen(((struct rig *)*state)->body)),
		strlen(((struct rig *)*state)->body));
	close(fd);
	make(&other);
	if (api_read_file(((struct rig *)other)->api, path, &err) < 0)
		fail_msg("%s", err.text);
	gives(other, "/vm/config", ((struct rig *)*state)->body);
	assert_string_equal(
		((struct rig *)other)->config.cmdline, ((struct rig *)*state)->config.cmdline);
	drop(&other);
	unlink(path);
	assert_true(api_read_file(((struct rig *)*state)->api, path, &err) < 0);
	assert_non_null(strstr(err.text, "--config-file"));
}

static void touch(const char *path)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fclose(file);
}

static const char *initrd_of(struct rig *rig, const char *kernel, const char *more)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"kernel_image_path\": \"%s\"%s}", kernel, more);
	done(rig, "PUT", "/boot-source", body);
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
	const struct route_set *const sets[] = {&instance_routes, &machine_config_routes,
		&boot_routes, &drive_routes, &net_routes, &balloon_routes, &output_routes,
		&vsock_routes, &absent_routes, &duet_routes, &hints_routes, &job_routes,
		&migration_routes, &brief_routes, &lease_routes, &snapshot_routes,
		&snapshot_load_routes, &place_routes, &sharing_routes};

	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		for (unsigned n = 0; n < sets[i]->count; n++)
			if (sets[i]->routes[n].body)
				assert_in_range(sets[i]->routes[n].body->size, 1, REQUEST_FIELDS);
}

/* What a client has said outlives a start that failed. */
static void keeps_what_was_said(void **state)
{
	struct rig *rig = *state;

	done(rig, "PUT", "/boot-source", "{\"kernel_image_path\": \"/dev/null\"}");
	done(rig, "PUT", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"false}");
	done(rig, "PATCH", "/duet/devices/a", "{\"slot\": 5}");
	refused(rig, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}",
		"Start microvm error: /dev/kvm: No such file");
	assert_int_equal(rig->config.devices[0].slot, 5);
}

#define LIMITER "\"rate_limiter\": {\"ops\": {\"size\": 10, \"refill_time\": "

/* Neither half of a change whose other half is refused. */
static void changes_a_drive_or_not(void **state)
{
	struct rig *rig = *state;

	done(rig, "PUT", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/null\", \"is_root_device\": "
		"false}");
	runs(rig);
	ask(rig, "PATCH", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/zero\", " LIMITER
		"9000000000000000000}}}");
	assert_int_equal(rig->status, 400);
	assert_int_equal(refreshes, 0);
	assert_int_equal(changes, 0);
	done(rig, "PATCH", "/drives/a",
		"{\"drive_id\": \"a\", \"path_on_host\": \"/dev/zero\", " LIMITER "100}}}");
	assert_int_equal(refreshes, 1);
	assert_int_equal(changes, 1);
}

static void changes_a_balloon_by_an_object(void **state)
{
	struct rig *rig = *state;

	done(rig, "PUT", "/balloon", "{\"amount_mib\": 1, \"deflate_on_oom\": true}");
	runs(rig);
	refused(rig, "PATCH", "/duet/devices/balloon0", "5",
		"only size and stats can be changed while the machine runs");
	refused(rig, "PATCH", "/duet/devices/balloon0", "[]",
		"only size and stats can be changed while the machine runs");
}

static const struct virtio_coop_host_ops no_host = {0};

/* Its machine has a cooperation device. */
static void api_tells_of_coop(struct rig *rig)
{
	static struct virtio_coop_host host = {.ops = &no_host};
	const struct virtio_coop_options options = {
		.host = &host, .vcpus = rig->config.cpus, .hints = true};
	struct error err;

	assert_int_equal(virtio_coop_new(&cooperation, "coop0", &options, &err), 0);
}

static void tells_hints(void **state)
{
	struct virtio_coop_host host = {.ops = &no_host};
	const struct virtio_coop_options options = {.host = &host, .vcpus = 2, .hints = true};
	struct rig *rig = *state;
	struct error err;

	refused(rig, "GET", "/duet/hints", "", BEFORE);
	rig->config.cpus = 2;
	runs(rig);
	refused(rig, "GET", "/duet/hints", "",
		"The machine has no cooperation device; --coop gives it one.");
	refused(rig, "PUT", "/duet/hints", "{\"wish\": \"share\"}",
		"The machine has no cooperation device; --coop gives it one.");
	assert_int_equal(virtio_coop_new(&cooperation, "coop0", &options, &err), 0);
	gives(rig, "/duet/hints",
		"{\"driver\":false,\"away_ns\":0,\"vcpus\":[{\"index\":0},{\"index\":1}],"
		"\"share\":{\"wished\":0,\"answered\":0,\"complete\":false,\"runs\":0,"
		"\"pages\":0,\"refused\":0},\"locality\":{\"wished\":0,\"answered\":0,"
		"\"complete\":false,\"runs\":0,\"pages\":0,\"refused\":0,\"vcpus\":[]}}");
	refused(rig, "PUT", "/duet/hints", "{\"wish\": \"share\"}",
		"coop0: no driver in the guest that gives hints; it needs the module duet, and "
		"--coop hints=on");
	ask(rig, "PUT", "/duet/hints", "{\"wish\": \"all\"}");
	assert_int_equal(rig->status, 400);
	cooperation->ops->free(cooperation);
	cooperation = NULL;
}

/* ---- what a manager asks and says ---- */

/* One that comes from elsewhere is built before it is given over: nobody here lets it run. */
static void waits_for_one_that_comes(void **state)
{
	struct rig *rig = *state;

	runs(rig);
	machine_is = MACHINE_BUILT;
	refused(rig, "PATCH", "/vm", "{\"state\": \"Resumed\"}",
		"The machine is on its way here, and runs when it has come.");
	done(rig, "PATCH", "/vm", "{\"state\": \"Paused\"}");
	machine_is = MACHINE_RUNNING;
}

#define NODES_WRONG                                                                                \
	"nodes: name a node of the host for each of the 2 vCPUs, 0 to 7, or -1 for one whose "     \
	"memory stays."

static void places_memory(void **state)
{
	static const char *const wrong[] = {"{\"nodes\": 0}", "{\"nodes\": []}", "{\"nodes\": [0]}",
		"{\"nodes\": [0, 1, 0]}", "{\"nodes\": [0, 8]}", "{\"nodes\": [-2, 0]}",
		"{\"nodes\": [0, \"1\"]}", "{\"nodes\": [0, 1.0]}"};
	struct rig *rig = *state;

	refused(rig, "GET", "/duet/place", "", BEFORE);
	rig->config.cpus = 2;
	runs(rig);
	seen = (struct machine_uses){.map = 3, .complete = true};
	seen.bytes[1][1] = 4096;
	under_way = (struct machine_placing){.moved = 7};
	gives(rig, "/duet/place",
		"{\"map\":3,\"complete\":true,\"moving\":false,\"moved\":7,\"failed\":0,"
		"\"uses\":[[],[0,4096]]}");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		refused(rig, "PATCH", "/duet/place", wrong[i], NODES_WRONG);
	done(rig, "PATCH", "/duet/place", "{\"nodes\": [1, -1]}");
	assert_int_equal(placed[0], 1);
	assert_int_equal(placed[1], -1);
	assert_int_equal(placed[2], -1);
}

/* A manager asks often; page tables are walked seldom, and when a move has begun or ended. */
static void tells_of_memory_in_brief(void **state)
{
	static const char has[] = "\"uses\":[[],[0,4096]]";
	struct rig *rig = *state;

	rig->config.cpus = 2;
	runs(rig);
	cooperation = NULL;
	ask(rig, "GET", "/duet/brief", "");
	assert_null(strstr(rig->body, "\"place\""));
	api_tells_of_coop(rig);
	looks = 0;
	seen = (struct machine_uses){.map = 3};
	seen.bytes[1][1] = 4096;
	under_way = (struct machine_placing){.moving = true};
	ask(rig, "GET", "/duet/brief", "");
	ask(rig, "GET", "/duet/brief", "");
	assert_null(strstr(rig->body, has)); /* the guest has not said all yet */
	assert_int_equal(looks, 1);
	seen.complete = true;
	under_way.moving = false;
	ask(rig, "GET", "/duet/brief", "");
	ask(rig, "GET", "/duet/brief", "");
	assert_non_null(strstr(rig->body, has));
	assert_int_equal(looks, 2);
	cooperation->ops->free(cooperation);
	cooperation = NULL;
}

static void stop(struct loop_timer *timer)
{
	loop_stop(running->loop);
}

static void leases_a_balloon(void **state)
{
	struct loop_timer end = {.expired = stop};
	struct rig *rig = *state;

	done(rig, "PUT", "/balloon", "{\"amount_mib\": 1, \"deflate_on_oom\": true}");
	refused(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 5, \"for_ms\": 1}", BEFORE);
	runs(rig);
	done(rig, "PATCH", "/balloon", "{\"amount_mib\": 2}");
	done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 5, \"for_ms\": 60000}");
	assert_balloon(rig, 5);
	refused(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 128, \"for_ms\": 1}",
		"Balloon config error: Amount of pages requested is too large.");
	assert_balloon(rig, 5);
	/* Said anew: what it goes back to is what was there before the first. */
	done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 7, \"for_ms\": 0}");
	assert_balloon(rig, 7);
	loop_timer_after(rig->loop, &end, 1);
	assert_int_equal(loop_run(rig->loop), 0);
	assert_balloon(rig, 2);
	/* The last word is one without an end. */
	done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 9, \"for_ms\": 0}");
	done(rig, "PATCH", "/balloon", "{\"amount_mib\": 3}");
	loop_timer_after(rig->loop, &end, 1);
	assert_int_equal(loop_run(rig->loop), 0);
	assert_balloon(rig, 3);
	done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 9, \"for_ms\": 0}");
	done(rig, "PATCH", "/duet/devices/balloon0", "{\"size\": \"4M\"}");
	loop_timer_after(rig->loop, &end, 1);
	assert_int_equal(loop_run(rig->loop), 0);
	assert_balloon(rig, 4);
	/* One that is on its way ends with the machine. */
	done(rig, "PATCH", "/duet/balloon", "{\"amount_mib\": 9, \"for_ms\": 0}");
	api_set_machine(rig->api, NULL);
	loop_timer_after(rig->loop, &end, 1);
	assert_int_equal(loop_run(rig->loop), 0);
}

static void rests(struct rig *rig)
{
	struct loop_timer end = {.expired = stop};

	loop_timer_after(rig->loop, &end, 1);
	assert_int_equal(loop_run(rig->loop), 0);
}

static void leases_sharing(void **state)
{
	struct rig *rig = *state;

	refused(rig, "GET", "/duet/sharing", "", BEFORE);
	refused(rig, "PATCH", "/duet/sharing", "{\"state\": \"blind\"}", BEFORE);
	runs(rig);
	done(rig, "PATCH", "/duet/sharing", "{\"state\": \"blind\"}");
	assert_int_equal(sharing.state, MACHINE_SHARING_BLIND);
	done(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 60000}");
	rests(rig);
	assert_int_equal(sharing.state, MACHINE_SHARING_OFF);
	/* Said anew: it goes back to what was there before the first. */
	done(rig, "PATCH", "/duet/sharing", "{\"state\": \"hinted\", \"for_ms\": 0}");
	assert_int_equal(sharing.state, MACHINE_SHARING_HINTED);
	rests(rig);
	assert_int_equal(sharing.state, MACHINE_SHARING_BLIND);
	/* The last word is one without an end; one that is refused changes nothing. */
	done(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 0}");
	done(rig, "PATCH", "/duet/sharing", "{\"state\": \"hinted\"}");
	rests(rig);
	assert_int_equal(sharing.state, MACHINE_SHARING_HINTED);
	no_sharing = true;
	refused(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 0}",
		"No sharing.");
	no_sharing = false;
	rests(rig);
	assert_int_equal(sharing.state, MACHINE_SHARING_HINTED);
	ask(rig, "PATCH", "/duet/sharing", "{\"state\": \"all\"}");
	assert_int_equal(rig->status, 400);
	ask(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 86400001}");
	assert_int_equal(rig->status, 400);
	ask(rig, "GET", "/duet/sharing", "");
	assert_int_equal(rig->status, 200);
	assert_non_null(strstr(rig->body, "\"state\":\"hinted\",\"leased\":false,"));
	assert_non_null(strstr(rig->body, "\"merged_pages\":77,"));
	no_sharing = true;
	ask(rig, "GET", "/duet/sharing", "");
	assert_non_null(strstr(rig->body, "\"merged_pages\":null,"));
	no_sharing = false;
	/* One that is on its way ends with the machine. */
	done(rig, "PATCH", "/duet/sharing", "{\"state\": \"off\", \"for_ms\": 0}");
	api_set_machine(rig->api, NULL);
	rests(rig);
	assert_int_equal(sharing.state, MACHINE_SHARING_OFF);
}

static void tells_the_brief(void **state)
{
	struct virtio_coop_host host = {.ops = &no_host};
	const struct virtio_coop_options coop = {.host = &host, .vcpus = 2, .hints = true};
	struct rig *rig = *state;

	refused(rig, "GET", "/duet/brief", "", BEFORE);
	rig->config.cpus = 2;
	no_balloon = true;
	runs(rig);
	gives(rig, "/duet/brief",
		"{\"id\":\"anonymous-instance\",\"state\":\"Running\",\"memory_mib\":128,"
		"\"cpus\":2,\"share\":100,\"passthrough\":false,\"threads\":[1000,1001],"
		"\"sharing\":{\"state\":\"off\",\"offered_bytes\":8192}}");
	no_balloon = false;
	balloon_target = 2U << 20;
	assert_int_equal(virtio_coop_new(&cooperation, "coop0", &coop, NULL), 0);
	gives(rig, "/duet/brief",
		"{\"id\":\"anonymous-instance\",\"state\":\"Running\",\"memory_mib\":128,"
		"\"cpus\":2,\"share\":100,\"passthrough\":false,\"threads\":[1000,1001],"
		"\"sharing\":{\"state\":\"off\",\"offered_bytes\":8192},\"balloon\":"
		"{\"target_pages\":512,\"actual_pages\":0,\"target_mib\":2,\"actual_mib\":0},"
		"\"hints\":{\"vcpus\":[{\"index\":0},{\"index\":1}]}}");
	cooperation->ops->free(cooperation);
	cooperation = NULL;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tells_defaults),
		TEST(refuses_requests),
		TEST(refuses_what_needs_a_machine),
		TEST(sets_the_machine),
		TEST(boots_from_a_drive),
		TEST(finds_the_initrd),
		TEST(has_room_for_each_body),
		TEST(keeps_what_was_said),
		TEST(changes_a_drive_or_not),
		TEST(changes_a_balloon_by_an_object),
		TEST(tells_hints),
		TEST(waits_for_one_that_comes),
		TEST(leases_a_balloon),
		TEST(places_memory),
		TEST(tells_of_memory_in_brief),
		TEST(leases_sharing),
		TEST(tells_the_brief),
		TEST(has_interfaces),
		TEST(takes_a_vsock),
		TEST(says_what_is_not_there),
		TEST(reads_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
