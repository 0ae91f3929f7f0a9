/* SPDX-License-Identifier: Apache-2.0 */
/* The rules between a configuration's fields: what is said names the file, the line and the field.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "machine/config.h"

static const struct {
	const char *devices, *says;
} against_rules[] = {
	{"{\"type\": \"disk\"}", "vm.json:2: disk0: names no file"},
	{"{\"type\": \"disk\", \"path\": \"x\"},\n{\"type\": \"net\", \"kind\": \"tap\"}",
		"vm.json:3: net0: names no interface"},
	{"{\"type\": \"disk\", \"id\": \"a\", \"path\": \"x\"},\n"
	 "{\"type\": \"disk\", \"id\": \"a\", \"path\": \"y\"}",
		"vm.json:3: a: the id is another device's"},
	{"{\"type\": \"vfio\", \"id\": \"serial0\", \"host\": \"0000:01:00.0\"}",
		"vm.json:2: serial0: the id is that of a device of the board; take another"},
	{"{\"type\": \"disk\", \"slot\": 4, \"path\": \"x\"},\n"
	 "{\"type\": \"net\", \"slot\": 4, \"kind\": \"user\"}",
		"vm.json:3: net0: \"slot\": 4 is another device's"},
	{"{\"type\": \"disk\", \"slot\": 4, \"path\": \"x\", \"model\": \"ide\"}", "has no slot"},
	{"{\"type\": \"disk\", \"drive\": 1, \"path\": \"x\"}",
		"\"drive\" is for \"model\": \"ide\""},
	{"{\"type\": \"disk\", \"drive\": 1, \"path\": \"x\", \"model\": \"ide\"},\n"
	 "{\"type\": \"disk\", \"drive\": 1, \"path\": \"y\", \"model\": \"ide\"}",
		"vm.json:3: disk1: \"drive\": 1 is another disk's"},
	{"{\"type\": \"net\", \"kind\": \"user\", \"model\": \"e1000\", \"features\": \"0x1\"}",
		"\"features\" is for virtio"},
	{"{\"type\": \"disk\",\n\"path\": \"x\",\n\"poll\": true,\n\"model\": \"ide\"}",
		"vm.json:4: disk0: \"queues\" and \"poll\" are for \"model\": \"virtio\""},
	{"{\"type\": \"net\", \"kind\": \"tap\", \"ifname\": \"t\",\n\"forward\": \"22\"}",
		"vm.json:3: net0: \"forward\" is for \"kind\": \"user\""},
	{"{\"type\": \"net\", \"kind\": \"tap\",\n\"ifname\": \"{}/\"}",
		"vm.json:3: net0: \"ifname\" is no name of an interface"},
	{"{\"type\": \"net\", \"kind\": \"user\", \"vhost\": true}", "\"vhost\": true is for"},
	{"{\"type\": \"net\", \"kind\": \"user\", \"model\": \"e1000\",\n\"offloads\": false}",
		"vm.json:3: net0: \"queues\", \"mtu\", \"poll\", \"standby\" and \"offloads\": "
		"false are for "
		"\"model\": \"virtio\""},
	{"{\"type\": \"net\", \"kind\": \"user\",\n\"standby\": true}",
		"vm.json:3: net0: \"standby\" needs \"mac\", the one"},
	{"{\"type\": \"net\", \"kind\": \"user\", \"mac\": \"52:54:00:12:34:56\"},\n"
	 "{\"type\": \"net\", \"kind\": \"user\",\n\"mac\": \"52:54:00:12:34:56\"}",
		"vm.json:4: net1: \"mac\" is also net0's"},
	{"{\"type\": \"vfio\", \"host\": \"1:0.0\"},\n"
	 "{\"type\": \"vfio\", \"host\": \"0000:01:00.0\"}",
		"vm.json:3: vfio1: \"host\" is also vfio0's"},
	{"{\"type\": \"balloon\"},\n{\"type\": \"vfio\", \"host\": \"1:0.0\"}",
		"vm.json:2: balloon0: vfio0 pins all of the guest's memory"},
	{"{\"type\": \"balloon\",\n\"size\": \"512M\"}",
		"vm.json:3: balloon0: \"size\" is all of the guest's memory"},
	{"{\"type\": \"vfio\"}", "write \"host\": \"0000:01:10.0\""},
	{"{\"type\": \"console\"},\n{\"type\": \"console\"}",
		"vm.json:2: console0: \"console\" is \"serial\"; write \"console\": \"virtio\""},
	{"{\"type\": \"ide\"}", "vm.json:2: ide0: no disk has \"model\": \"ide\""},
	{"{\"type\": \"entropy\"}, {\"type\": \"entropy\"}", "at most 1"},
};

static void breaks_a_rule(const char *text, const char *says)
{
	struct machine_config config;
	struct error err = {0};
	int ret;

	machine_config_init(&config);
	ret = machine_config_read(&config, text, strlen(text), "vm.json", &err);
	if (ret == 0)
		ret = machine_config_complete(&config, &err);
	if (ret != -EINVAL || !strstr(err.text, says))
		fail_msg("%s: returned %d, said \"%s\", wanted \"%s\"", text, ret, err.text, says);
	machine_config_free(&config);
}

static void keeps_the_rules(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(against_rules); i++) {
		char text[512];

		snprintf(text, sizeof(text),
			"{\"duet\": 1, \"kernel\": \"k\", \"devices\": [\n%s]}",
			against_rules[i].devices);
		breaks_a_rule(text, against_rules[i].says);
	}
}

static const struct {
	const char *fields, *says;
} against_own_rules[] = {
	{"\"cpus\": 3,\n\"numa\": 2", "vm.json:3: numa: each of the 2 nodes has 1, 2, 4, 8"},
	{"\"cpus\": 3,\n\"numa\": 2", "3 cannot be divided so, \"cpus\": 2 can"},
	{"\"cpus\": 2,\n\"numa\": 2,\n\"memory\": \"257M\"",
		"vm.json:3: numa: each of the 2 nodes has a multiple of 2M"},
	{"\"cpus\": 2,\n\"numa\": 2,\n\"memory\": \"257M\"", "\"memory\": \"256M\" can"},
	{"\"cpus\": 2,\n\"numa\": 2,\n\"numa-host\": \"0\"",
		"vm.json:4: numa-host: \"0\" does not name a node of the host, 0 to 63, for each "
		"of the guest's 2 (\"numa\")"},
	{"\"pmu\":\n\"pv\"", "vm.json:2: pmu: pv needs the cooperation device; add --coop"},
	{"\"pv\": \"none\",\n\"profile\": \"migratable\"",
		"vm.json:3: profile: the guest needs KVM's clock; add clock to \"pv\""},
	{"\"entropy\": false,\n\"entropy-bw\": \"5M\"",
		"vm.json:3: entropy-bw: there is no random number device; leave \"entropy\": "
		"false out"},
	{"\"cpu-config\": \"x\"", "vm.json:2: cpu-config: x: is no change"},
};

static void keeps_the_rules_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(against_own_rules); i++) {
		char text[512];

		snprintf(text, sizeof(text), "{\"duet\": 1, \"kernel\": \"k\",\n%s}",
			against_own_rules[i].fields);
		breaks_a_rule(text, against_own_rules[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_rules),
		cmocka_unit_test(keeps_the_rules_of_its_own),
	};

	return cmocka_run_group_tests_name("rules of a configuration", tests, NULL, NULL);
}
