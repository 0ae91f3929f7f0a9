/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/options.h"
#include "machine/net_policy.h"
#include "x86/cpu.h"

/* "--kernel k" and @words, completed. */
static void build(struct machine_config *config, unsigned count, const char *const *words)
{
	const char *args[64] = {"--kernel", "k"};
	struct run_options options;
	struct error err = {0};

	assert_true(count + 2 <= ARRAY_SIZE(args));
	for (unsigned i = 0; i < count; i++)
		args[2 + i] = words[i];
	if (run_options_parse(&options, 2 + count, args, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(machine_config_copy(config, &options.config), 0);
	run_options_free(&options);
}

#define BUILD(config, ...)                                                                         \
	build(config, ARRAY_SIZE(((const char *const[]){__VA_ARGS__})),                            \
		(const char *const[]){__VA_ARGS__})

static char *written(const struct machine_config *config)
{
	struct error err = {0};
	char *text = NULL;

	if (machine_config_write(config, &text, &err) < 0)
		fail_msg("%s", err.text);
	return text;
}

static int read_text(struct machine_config *config, const char *text, struct error *err)
{
	machine_config_init(config);
	return machine_config_read(config, text, strlen(text), "vm.json", err);
}

/* What was written is read as the same. */
static void comes_back(void **state)
{
	struct machine_config config, again;
	struct error err = {0};
	char *first, *second;

	(void)state;
	BUILD(&config, "--cmdline", "a \"b\" c", "--cpus", "3", "--memory", "768M", "--pv",
		"-clock,-eoi", "--irqchip", "kernel", "--ring", "packed", "--console", "virtio",
		"--serial-number", "SN 1", "--product", "Box", "--entropy", "off", "--nested", "on",
		"--pmu", "filter", "--dirty", "ring", "--on-reset", "exit", "--share", "250",
		"--disk", "path=/x,,y,model=ide,iops=7,drive=3", "--disk",
		"path=z,queues=2,id=root,slot=9,bw=50M+4M,iops=10/100ms", "--net",
		"tap,ifname=t,mtu=1400,vhost=on,features=0x100000020", "--net", "user,forward=22",
		"--device", "vfio,host=01:10.0");
	first = written(&config);
	if (read_text(&again, first, &err) < 0 || machine_config_complete(&again, &err) < 0)
		fail_msg("%s", err.text);
	second = written(&again);
	assert_string_equal(first, second);
	assert_string_equal(machine_config_find(&again, "vfio0")->vfio.host, "0000:01:10.0");
	assert_int_equal(again.cpus, 3);
	assert_int_equal(again.memory, 768ULL << 20);
	assert_int_equal(again.pv, config.pv);
	assert_true(again.nested);
	assert_int_equal(again.pmu, PMU_FILTER);
	assert_int_equal(again.share, 250);
	assert_string_equal(again.serial_number, "SN 1");
	assert_string_equal(again.product, "Box");
	assert_string_equal(again.manufacturer, "duet");
	assert_true(config.uuid.given && again.uuid.given);
	assert_memory_equal(again.uuid.bytes, config.uuid.bytes, sizeof(config.uuid.bytes));
	assert_string_equal(again.cmdline, "a \"b\" c");
	assert_int_equal(machine_config_find(&again, "root")->slot, 9);
	assert_int_equal(machine_config_find(&again, "net0")->features, 0x100000020);
	assert_memory_equal(&machine_config_find(&again, "net1")->net.mac,
		&machine_config_find(&config, "net1")->net.mac, sizeof(struct mac_address));
	assert_non_null(strstr(first, "\"/x,y\""));
	assert_non_null(strstr(first, "\"iops\": 7,"));
	assert_non_null(strstr(first, "\"iops\": \"10/100ms\""));
	assert_non_null(strstr(first, "\"bw\": \"50M+4M\""));
	free(first);
	free(second);
	machine_config_free(&config);
	machine_config_free(&again);
}

static void a_vsock_comes_back(void **state)
{
	struct machine_config config, again;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--vsock", "path=/run/v,cid=4294967295");
	text = written(&config);
	if (read_text(&again, text, &err) < 0 || machine_config_complete(&again, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(machine_config_find(&again, "vsock0")->vsock.path, "/run/v");
	assert_int_equal(machine_config_find(&again, "vsock0")->vsock.cid, UINT32_MAX);
	free(text);
	machine_config_free(&config);
	machine_config_free(&again);
}

static void a_cooperation_device_comes_back(void **state)
{
	struct machine_config config, again;
	const struct coop_config *coop;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--coop", "yield=off,counters=off,slot=9");
	text = written(&config);
	if (read_text(&again, text, &err) < 0 || machine_config_complete(&again, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(machine_config_find(&again, "coop0")->slot, 9);
	coop = &machine_config_find(&again, "coop0")->coop;
	assert_true(coop->hints && coop->time && coop->copy && !coop->yield && !coop->counters);
	free(text);
	machine_config_free(&config);
	machine_config_free(&again);
}

static void a_balloon_comes_back(void **state)
{
	struct machine_config config, again;
	const struct balloon_config *balloon;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--balloon",
		"size=64M,deflate-on-oom=on,stats=5,reporting=off,hinting=on,slot=7");
	text = written(&config);
	if (read_text(&again, text, &err) < 0 || machine_config_complete(&again, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(machine_config_find(&again, "balloon0")->slot, 7);
	balloon = &machine_config_find(&again, "balloon0")->balloon;
	assert_int_equal(balloon->size, 64 << 20);
	assert_int_equal(balloon->stats, 5);
	assert_true(balloon->deflate_on_oom && balloon->hinting && !balloon->reporting);
	free(text);
	machine_config_free(&config);
	machine_config_free(&again);
}

static const char some_rules[] =
	"[{\"name\": \"ssh\", \"action\": \"allow\", \"direction\": \"in\", \"protocol\": "
	"\"tcp\",\n"
	"  \"source\": \"10.0.0.0/8\", \"destination-ports\": \"22\"},\n"
	" {\"action\": \"deny\", \"protocol\": 17, \"source-ports\": \"1024-65535\"},\n"
	" {\"action\": \"allow\", \"protocol\": \"arp\"}]\n";

/* The file's rules are in the configuration, and its name is not. */
static void has_policies(void **state)
{
	char path[] = "/tmp/duet-rules-XXXXXX", option[256], *first, *second;
	struct machine_config config, again;
	struct net_policy *policy;
	struct error err = {0};
	int fd = mkstemp(path);

	assert_int_equal(write(fd, some_rules, strlen(some_rules)), strlen(some_rules));
	close(fd);
	snprintf(option, sizeof(option),
		"user,rx-rate=10M+1M,tx-pps=10/100ms,tx-rate=5000,mac-check=on,"
		"ip=10.0.0.2+fd00::/64,rules-default=deny,rules=%s",
		path);
	BUILD(&config, "--net", option, "--net", "user");
	unlink(path);
	first = written(&config);
	assert_non_null(strstr(first, "\"source\": \"10.0.0.0/8\""));
	assert_non_null(strstr(first, "\"rx-rate\": \"10M+1M\""));
	assert_non_null(strstr(first, "\"tx-rate\": 5000"));
	assert_null(strstr(first, path));
	if (read_text(&again, first, &err) < 0 || machine_config_complete(&again, &err) < 0)
		fail_msg("%s", err.text);
	machine_config_free(&config);
	second = written(&again);
	assert_string_equal(first, second);
	assert_true(net_config_has_policy(&machine_config_find(&again, "net0")->net));
	assert_false(net_config_has_policy(&machine_config_find(&again, "net1")->net));
	assert_int_equal(
		net_config_policy(&policy, &machine_config_find(&again, "net0")->net, &err), 0);
	assert_string_equal(net_policy_rule(policy, 0, &(const struct net_counts *){0}), "ssh");
	assert_string_equal(net_policy_rule(policy, 2, &(const struct net_counts *){0}), "2");
	assert_null(net_policy_rule(policy, 3, &(const struct net_counts *){0}));
	assert_int_equal(net_policy_limits(policy, NET_OUT)->operations.period, 100000000);
	assert_int_equal(net_policy_limits(policy, NET_IN)->bytes.burst, 1 << 20);
	assert_int_equal(net_policy_limits(policy, NET_OUT)->bytes.amount, 5000);
	net_policy_free(policy);
	free(first);
	free(second);
	machine_config_free(&again);
}

/* One machine has one UUID: decided once, and in what is printed. */
static void knows_who_it_is(void **state)
{
	static const char uuid[] = "6f1c8e52-0b7d-4f1a-9c3e-2d5b7a4e9f10";
	struct machine_config one, other;
	char *text;

	(void)state;
	BUILD(&one, "--uuid", "6F1C8E52-0b7d-4f1a-9c3e-2d5b7a4e9f10");
	text = written(&one);
	assert_non_null(strstr(text, uuid));
	free(text);
	machine_config_free(&one);
	BUILD(&one, "--cpus", "1");
	BUILD(&other, "--cpus", "1");
	assert_memory_not_equal(one.uuid.bytes, other.uuid.bytes, sizeof(one.uuid.bytes));
	assert_int_equal(one.uuid.bytes[6] >> 4, 4);
	assert_int_equal(one.uuid.bytes[8] >> 6, 2);
	machine_config_free(&one);
	machine_config_free(&other);
}

/* Nothing at all of a list is a word of its own. */
static void comes_back_without_features(void **state)
{
	struct machine_config config, again;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--pv", "-clock,-steal,-eoi,-unhalt,-tlbflush,-ipi,-yield,-asyncpf,-poll");
	assert_int_equal(config.pv, 0);
	text = written(&config);
	assert_non_null(strstr(text, "\"pv\": \"none\""));
	if (read_text(&again, text, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(again.pv, 0);
	free(text);
	machine_config_free(&config);
	machine_config_free(&again);
	BUILD(&config, "--pv", "none");
	assert_int_equal(config.pv, 0);
	machine_config_free(&config);
}

/* Of the random number device, which has no record of its own on a command line. */
static void limits_entropy(void **state)
{
	struct machine_config config, again;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--entropy-bw", "1K+4K+1M", "--entropy-ops", "10/100ms");
	text = written(&config);
	assert_non_null(strstr(text, "\"entropy-bw\": \"1K+4K+1M\""));
	assert_non_null(strstr(text, "\"entropy-ops\": \"10/100ms\""));
	if (read_text(&again, text, &err) < 0)
		fail_msg("%s", err.text);
	assert_memory_equal(&again.entropy_bw, &config.entropy_bw, sizeof(config.entropy_bw));
	assert_memory_equal(&again.entropy_ops, &config.entropy_ops, sizeof(config.entropy_ops));
	again.entropy = false;
	assert_int_equal(machine_config_complete(&again, &err), -EINVAL);
	machine_config_free(&again);
	config.entropy = false;
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_string_equal(err.text, "--entropy-bw: there is no random number device; leave "
				      "--entropy off out");
	free(text);
	machine_config_free(&config);
}

static void keeps_changes_of_the_cpu(void **state)
{
	static const char changes[] = "cpuid:0x1:0x0:ecx:0x800000:0x0";
	struct machine_config config, again;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--cpu-config", changes);
	text = written(&config);
	if (read_text(&again, text, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(again.cpu_config, changes);
	free(text);
	machine_config_free(&again);
	strcpy(config.cpu_config, "cpuid:1");
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--cpu-config: cpuid:1: is no change; write cpuid:LEAF"));
	machine_config_free(&config);
}

/* Defaults are not written, so that a later version may better them. */
static void leaves_defaults_out(void **state)
{
	struct machine_config config;
	char *text;

	(void)state;
	BUILD(&config, "--cpus", "1", "--memory", "512M", "--entropy", "off");
	text = written(&config);
	assert_null(strstr(text, "cpus"));
	assert_null(strstr(text, "memory"));
	assert_null(strstr(text, "pv"));
	free(text);
	machine_config_free(&config);
}

static unsigned slot_of(const struct machine_config *config, const char *id)
{
	const struct device_config *device = machine_config_find(config, id);

	assert_non_null(device);
	return device->slot;
}

static void numbers_by_type_and_not_by_order(void **state)
{
	struct machine_config one, other;

	(void)state;
	BUILD(&one, "--disk", "path=a", "--net", "user", "--disk", "path=b");
	BUILD(&other, "--net", "user", "--disk", "path=a", "--disk", "path=b");
	assert_int_equal(slot_of(&one, "disk0"), 1);
	assert_int_equal(slot_of(&one, "disk1"), 2);
	assert_int_equal(slot_of(&one, "net0"), 3);
	assert_int_equal(slot_of(&one, "entropy0"), 4);
	assert_int_equal(slot_of(&other, "disk1"), slot_of(&one, "disk1"));
	assert_int_equal(slot_of(&other, "net0"), slot_of(&one, "net0"));
	machine_config_free(&one);
	machine_config_free(&other);
}

/* A device more finds what was decided before in its place. */
static void keeps_what_was_decided(void **state)
{
	struct machine_config config;
	struct device_config *more;
	struct mac_address mac;
	struct error err = {0};

	(void)state;
	BUILD(&config, "--disk", "path=a", "--net", "user");
	mac = machine_config_find(&config, "net0")->net.mac;
	assert_true(mac.given);
	more = machine_config_add(&config, DEVICE_DISK);
	more->disk.path = strdup("b");
	assert_int_equal(machine_config_complete(&config, &err), 0);
	assert_int_equal(slot_of(&config, "net0"), 2);
	assert_int_equal(slot_of(&config, "entropy0"), 3);
	assert_int_equal(slot_of(&config, "disk1"), 4);
	assert_memory_equal(&machine_config_find(&config, "net0")->net.mac, &mac, sizeof(mac));
	machine_config_free(&config);
}

/* A controller comes and goes with the need for it. */
static void follows_switches(void **state)
{
	struct machine_config config;
	struct error err = {0};

	(void)state;
	BUILD(&config, "--disk", "path=a,model=ide", "--disk", "path=b,model=ide,drive=1");
	assert_non_null(machine_config_find(&config, "ide0"));
	assert_int_equal(machine_config_find(&config, "disk0")->disk.drive, 2);
	config.entropy = false;
	machine_config_remove(&config, machine_config_find(&config, "disk0"));
	machine_config_remove(&config, machine_config_find(&config, "disk1"));
	assert_int_equal(machine_config_complete(&config, &err), 0);
	assert_int_equal(config.device_count, 0);
	machine_config_free(&config);
}

static void copies_own_their_words(void **state)
{
	struct machine_config config, copy;

	(void)state;
	BUILD(&config, "--disk", "path=a", "--net", "tap,ifname=t");
	assert_int_equal(machine_config_copy(&copy, &config), 0);
	machine_config_free(&config);
	assert_string_equal(copy.kernel, "k");
	assert_string_equal(machine_config_find(&copy, "disk0")->disk.path, "a");
	assert_string_equal(machine_config_find(&copy, "net0")->net.ifname, "t");
	machine_config_free(&copy);
}

#define NET_RULES(rules)                                                                           \
	"{\"duet\": 1, \"devices\": [{\"type\": \"net\",\n\"kind\": \"user\",\n\"rules\": [" rules \
	"]}]}"

static const struct {
	const char *text, *says;
} refused[] = {
	{"", "vm.json: the file is empty"},
	{" \n", "vm.json:2: not JSON"},
	{"{\"duet\": 1,\n\"kernel\": }", "vm.json:2: not JSON"},
	{"[1]", "vm.json: no configuration of duet's"},
	{"7", "vm.json:1: not JSON"},
	{"{}", "vm.json: no configuration of duet's"},
	{"{\n\n\"duet\": 2}", "vm.json:3: duet: this program reads version 1 only"},
	{"{\"duet\": \"1\"}", "version 1 only"},
	{"{\"duet\": 1,\n \"cpus\": 0}", "vm.json:2: cpus: give a number from 1 to 64"},
	{"{\"duet\": 1, \"cpus\": -1}", "cpus: give a number from 1 to 64"},
	{"{\"duet\": 1, \"cpus\": \"2\"}", "cpus: must be a whole number"},
	{"{\"duet\": 1, \"cpus\": 2.5}", "cpus: must be a whole number"},
	{"{\"duet\": 1, \"cpus\": 1e30}", "cpus: must be a whole number"},
	{"{\"duet\": 1, \"cpus\": 99999999999999999999}", "not JSON"},
	{"{\"duet\": 1, \"entropy-bw\": 0.5}", "entropy-bw: must be a whole number, or a string"},
	{"{\"duet\": 1, \"cpus\": 1, \"cpus\": 2}", "duplicate"},
	{"{\"duet\": 1, \"memory\": 1000}", "memory: too small"},
	{"{\"duet\": 1, \"memory\": -5}", "memory: too small; at least 16M"},
	{"{\"duet\": 1, \"memory\": 512}",
		"memory: too small; at least 16M (bytes; did you mean \"512M\"?)"},
	{"{\"duet\": 1, \"memory\": true}", "memory: must be a string such as \"1G\", or bytes"},
	{"{\"duet\": 1, \"memory\": \"64X\"}", "memory: not a size"},
	{"{\"duet\": 1,\n\"pv\": \"clock,foo\"}", "vm.json:2: pv: foo: no such feature"},
	{"{\"duet\": 1, \"uuid\": \"6f1c8e52\"}", "uuid: not a UUID"},
	{"{\"duet\": 1, \"uuid\": \"00000000-0000-0000-0000-000000000000\"}", "uuid: not a UUID"},
	{"{\"duet\": 1, \"uuid\": \"6f1c8e52-0b7d-4f1a-9c3e-2d5b7a4e9f10x\"}", "uuid: not a UUID"},
	{"{\"duet\": 1, \"uuid\": \"6f1c8e52+0b7d-4f1a-9c3e-2d5b7a4e9f10\"}", "uuid: not a UUID"},
	{"{\"duet\": 1, \"product\": \"\"}", "product: is empty"},
	{"{\"duet\": 1, \"pv\": \"\"}", "pv: is empty"},
	{"{\"duet\": 1, \"pv\": \"none,clock\"}", "pv: none: stands alone"},
	{"{\"duet\": 1, \"kernel\": null}", "kernel: must be a string"},
	{"{\"duet\": 1, \"kernel\": \"\"}", "kernel: is empty"},
	{"{\"duet\": 1,\n\"kernel\": \"a\\u0000b\"}",
		"vm.json:2: not JSON: a string may not hold \\u0000"},
	{"{\"duet\": 1, \"entropy\": \"on\"}", "entropy: must be true or false"},
	{"{\"duet\": 1, \"ring\": \"round\"}", "ring: choose split or packed"},
	{"{\"duet\": 1,\n\"colour\":\n3}", "vm.json:2: colour: unknown field"},
	{"{\"duet\": 1,\n\"net\": \"user\"}", "vm.json:2: net: is a device; write \"devices\""},
	{"{\"duet\": 1, \"devices\": {}}", "devices: must be an array"},
	{"{\"duet\": 1,\n\"devices\": [\n3]}", "vm.json:3: a device is an object with a type"},
	{"{\"duet\": 1, \"devices\": [{}]}", "a device is an object with a type"},
	{"{\"duet\": 1, \"devices\": [{},\n{\"type\": 3}]}", "vm.json:1: a device is"},
	{"{\"duet\": 1, \"devices\": [\n{\"path\": \"]}\",\n\"type\": \"tape\"}]}",
		"vm.json:3: type: \"tape\" is no type of device; write disk, ide, net, "},
	{"{\"duet\": 1, \"devices\": [\n{\"type\": \"net\"}]}",
		"vm.json:2: net: names no \"kind\"; write \"kind\": \"tap\" or \"kind\": \"user\""},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"disk\", \"path\": \"{\\\"[\"},\n"
	 "{\"type\": \"disk\",\n \"path\": \"x\",\n \"queues\": 99}]}",
		"vm.json:4: disk: queues: give a number from 1 to 8"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"disk\", \"flavour\": 1}]}",
		"disk: flavour: unknown field"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"disk\", \"id\": \"a b\"}]}", "disk: id: an id"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"disk\", \"slot\": 32}]}", "from 1 to 31"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"net\", \"mac\": \"1:2\"}]}", "unicast"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"net\", \"rules\": \"x\"}]}",
		"net: rules: must be an array of rules"},
	{NET_RULES("3"), "vm.json:3: net: rules: rule 0: must be an object"},
	{NET_RULES("{}"), "rule 0: says no \"action\""},
	{NET_RULES("{\"action\": \"drop\"}"), "rule 0: \"action\" must be \"allow\" or \"deny\""},
	{NET_RULES("{\"name\": \"a\", \"action\": \"deny\", \"port\": 1}"),
		"rule a: \"port\": unknown"},
	{NET_RULES("{\"name\": \"a b\", \"action\": \"deny\"}"),
		"rule 0: \"name\" must be up to 23"},
	{NET_RULES("{\"action\": \"deny\", \"protocol\": 256}"), "\"protocol\" must be \"tcp\""},
	{NET_RULES("{\"action\": \"deny\", \"protocol\": \"gre\"}"), "a number from 0 to 255"},
	{NET_RULES("{\"action\": \"deny\", \"source\": \"10.0.0.0/33\"}"), "an address or prefix"},
	{NET_RULES("{\"action\": \"deny\", \"source\": 10}"), "an address or prefix"},
	{NET_RULES("{\"action\": \"deny\", \"direction\": \"both\"}"), "left out: both"},
	{NET_RULES("{\"action\": \"deny\", \"protocol\": 6, \"source-ports\": \"9-8\"}"),
		"a port from 1 to 65535"},
	{NET_RULES("{\"action\": \"deny\", \"source-ports\": 8}"),
		"rule 0: ports are of a protocol; write \"protocol\": \"tcp\""},
	{NET_RULES("{\"action\": \"deny\", \"name\": \"1\"}, {\"action\": \"deny\"}"),
		"rule 1: there are two of the name"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"net\", \"kind\": \"user\",\n\"rules\": "
	 "[{\"action\": "
	 "\"deny\", \"name\": \"cpus\"},\n{\"action\": \"allow\"}]},\n{\"type\": \"disk\",\n "
	 "\"queues\": 0}]}",
		"vm.json:5: disk: queues"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"net\", \"features\": \"12\"}]}", "hexadecimal"},
	{"{\"duet\": 1, \"devices\": [{\"type\": \"net\", \"features\": 12}]}", "a string"},
};

static void says_what_and_where(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		struct machine_config config;
		struct error err = {0};
		int ret = read_text(&config, refused[i].text, &err);

		if (ret >= 0 || !strstr(err.text, refused[i].says))
			fail_msg("%s: returned %d, said \"%s\", wanted \"%s\"", refused[i].text,
				ret, err.text, refused[i].says);
		machine_config_free(&config);
	}
}

/* A file may not contradict itself; an option may contradict the file. */
static void drops_what_an_option_ends(void **state)
{
	static const char text[] =
		"{\"duet\": 1, \"kernel\": \"k\", \"entropy\": false,\n"
		"\"devices\": [{\"type\": \"entropy\"}, {\"type\": \"entropy\"}]}";
	struct machine_config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(read_text(&config, text, &err), 0);
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_string_equal(err.text, "vm.json:2: entropy0: \"entropy\" is false; write "
				      "\"entropy\": true, or leave the device out");
	for (unsigned i = 0; i < machine_fields.count; i++)
		config.lines[i] = MACHINE_LINE_OPTION;
	for (unsigned time = 0; time < 2; time++) {
		assert_int_equal(machine_config_complete(&config, &err), 0);
		assert_int_equal(config.device_count, 0);
	}
	machine_config_free(&config);
}

static void names_the_file_without_a_kernel(void **state)
{
	struct machine_config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(read_text(&config, "{\"duet\": 1}", &err), 0);
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_non_null(strstr(err.text, "vm.json: names no \"kernel\""));
	machine_config_free(&config);
}

static void bounds_what_it_reads(void **state)
{
	static char text[MACHINE_CONFIG_MAX + 2];
	struct machine_config config;
	struct error err = {0};
	size_t used;

	(void)state;
	memset(text, ' ', sizeof(text) - 1);
	assert_int_equal(read_text(&config, text, &err), -EFBIG);
	machine_config_free(&config);

	used = (size_t)sprintf(text, "{\"duet\": 1, \"devices\": [");
	for (unsigned i = 0; i <= MACHINE_DEVICES_MAX; i++)
		used += (size_t)sprintf(text + used, "%s{\"type\": \"disk\"}", i ? "," : "");
	sprintf(text + used, "]}");
	assert_int_equal(read_text(&config, text, &err), -EINVAL);
	assert_non_null(strstr(err.text, "more than 64"));
	machine_config_free(&config);
}

/* JSON cannot hold every file's name. */
static void tells_what_it_cannot_write(void **state)
{
	struct machine_config config;
	struct error err = {0};
	char *text;

	(void)state;
	BUILD(&config, "--disk", "path=a\xff");
	assert_int_equal(machine_config_write(&config, &text, &err), -EILSEQ);
	assert_non_null(strstr(err.text, "disk0: path: is not UTF-8"));
	machine_config_free(&config);
}

static void any_rate_needs_the_clock(void **state)
{
	struct machine_config config = {0};
	struct error err = {0};

	(void)state;
	BUILD(&config, "--profile", "migratable", "--tsc-khz", "2500000", "--clock", "stopped");
	assert_int_equal(config.profile, PROFILE_MIGRATABLE);
	assert_int_equal(config.tsc_khz, 2500000);
	assert_int_equal(config.clock, CLOCK_STOPPED);
	config.pv &= ~PV_CLOCK;
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--pv"));
	machine_config_free(&config);
}

/* Counters come by the cooperation device. */
static void counters_need_coop(void **state)
{
	struct machine_config config = {0};
	struct error err = {0};

	(void)state;
	BUILD(&config, "--pmu", "pv", "--coop", "yield=off");
	assert_int_equal(config.pmu, PMU_PV);
	machine_config_find(&config, "coop0")->coop.counters = false;
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_non_null(strstr(err.text, "counters=off"));
	machine_config_remove(&config, machine_config_find(&config, "coop0"));
	assert_int_equal(machine_config_complete(&config, &err), -EINVAL);
	assert_non_null(strstr(err.text, "add --coop"));
	machine_config_free(&config);
}

static void file_and_options_together(void **state)
{
	static const char text[] = "{\"duet\": 1, \"kernel\": \"k\", \"cpus\": 2,\n"
				   "\"devices\": [{\"type\": \"disk\", \"path\": \"a\"}]}";
	char path[] = "/tmp/duet-config-XXXXXX";
	const char *args[] = {"--cpus", "4", "--disk", "path=b", "--config", path};
	struct run_options options;
	struct error err = {0};
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	if (run_options_parse(&options, ARRAY_SIZE(args), args, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(options.config.cpus, 4);
	assert_string_equal(machine_config_find(&options.config, "disk0")->disk.path, "a");
	assert_string_equal(machine_config_find(&options.config, "disk1")->disk.path, "b");
	run_options_free(&options);
	unlink(path);
	assert_true(run_options_parse(&options, ARRAY_SIZE(args), args, &err) < 0);
	assert_non_null(strstr(err.text, "--config /tmp/duet-config-"));
	run_options_free(&options);
}

/* Each field is described, and can be asked for by its name. */
static void help_has_every_field(void **state)
{
	char *help = run_help();
	char name[32];

	(void)state;
	for (unsigned i = 0; i < machine_fields.count; i++) {
		snprintf(name, sizeof(name), "  --%s ", machine_fields.fields[i].name);
		assert_non_null(strstr(help, name));
	}
	for (const char *line = help; *line; line = strchr(line, '\n') + 1)
		assert_in_range(strcspn(line, "\n"), 0, 80);
	free(help);
}

/* A machine that came from another host, with what this one's options say of places. */
static void places_are_this_host_s(void **state)
{
	static const char came[] =
		"{\"duet\": 1, \"kernel\": \"k\", \"passt\": \"/tmp/evil\", \"cache\": \"/c\", "
		"\"stats\": \"/etc/s\", \"devices\": ["
		"{\"type\": \"disk\", \"id\": \"disk0\", \"path\": \"/a\", \"slot\": 7}, "
		"{\"type\": \"disk\", \"id\": \"disk1\", \"path\": \"/b\"}, "
		"{\"type\": \"net\", \"id\": \"net0\", \"kind\": \"tap\", \"ifname\": \"t0\", "
		"\"mac\": \"02:00:00:00:00:07\"}]}";
	struct machine_config config, own, none;
	struct error err = {0};

	(void)state;
	machine_config_init(&own);
	machine_config_init(&none);
	assert_int_equal(read_text(&config, came, &err), 0);
	strcpy(machine_config_add(&own, DEVICE_DISK)->id, "disk1");
	own.devices[0].disk.path = strdup("/here");
	machine_config_add(&own, DEVICE_NET)->net.ifname = strdup("t9");
	own.initrd = strdup("i");
	if (machine_config_take_places(&config, &own, &err) < 0)
		fail_msg("%s", err.text);
	assert_null(config.passt);
	assert_null(config.stats);
	assert_true(!config.cache || strcmp(config.cache, "/c") != 0);
	assert_string_equal(config.kernel, "k");
	assert_string_equal(config.initrd, "i");
	assert_string_equal(config.devices[0].disk.path, "/a");
	assert_int_equal(config.devices[0].slot, 7);
	assert_string_equal(config.devices[1].disk.path, "/here");
	assert_string_equal(config.devices[2].net.ifname, "t9");
	assert_int_equal(config.devices[2].net.mac.bytes[5], 7);
	strcpy(machine_config_add(&none, DEVICE_VSOCK)->id, "vsock0");
	assert_int_equal(machine_config_take_places(&config, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, "no such device"));
	none.devices[0].type = DEVICE_BALLOON;
	assert_int_equal(machine_config_take_places(&config, &none, &err), -EINVAL);
	machine_config_free(&config);
	machine_config_free(&own);
	none.devices[0].type = DEVICE_VSOCK;
	machine_config_free(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back),
		cmocka_unit_test(any_rate_needs_the_clock),
		cmocka_unit_test(counters_need_coop),
		cmocka_unit_test(has_policies),
		cmocka_unit_test(comes_back_without_features),
		cmocka_unit_test(a_vsock_comes_back),
		cmocka_unit_test(a_balloon_comes_back),
		cmocka_unit_test(a_cooperation_device_comes_back),
		cmocka_unit_test(knows_who_it_is),
		cmocka_unit_test(leaves_defaults_out),
		cmocka_unit_test(limits_entropy),
		cmocka_unit_test(keeps_changes_of_the_cpu),
		cmocka_unit_test(numbers_by_type_and_not_by_order),
		cmocka_unit_test(keeps_what_was_decided),
		cmocka_unit_test(follows_switches),
		cmocka_unit_test(copies_own_their_words),
		cmocka_unit_test(says_what_and_where),
		cmocka_unit_test(drops_what_an_option_ends),
		cmocka_unit_test(names_the_file_without_a_kernel),
		cmocka_unit_test(bounds_what_it_reads),
		cmocka_unit_test(tells_what_it_cannot_write),
		cmocka_unit_test(file_and_options_together),
		cmocka_unit_test(places_are_this_host_s),
		cmocka_unit_test(help_has_every_field),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
