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

#include "base/checked.h"
#include "base/pci_address.h"
#include "cli/options.h"
#include "x86/cpu.h"

static unsigned count_of(const struct run_options *options, enum device_type type)
{
	unsigned count = 0;

	while (machine_config_device(&options->config, type, count))
		count++;
	return count;
}

static const struct disk_config *disk(const struct run_options *options, unsigned nth)
{
	return &machine_config_device(&options->config, DEVICE_DISK, nth)->disk;
}

static const struct net_config *net(const struct run_options *options, unsigned nth)
{
	return &machine_config_device(&options->config, DEVICE_NET, nth)->net;
}

/* Parses "--kernel k" followed by @words. */
static int parse(
	struct run_options *options, struct error *err, unsigned count, const char *const *words)
{
	const char *args[32] = {"--kernel", "k"};

	for (unsigned i = 0; i < count; i++)
		args[2 + i] = words[i];
	return run_options_parse(options, 2 + count, args, err);
}

#define PARSE(options, err, ...)                                                                   \
	parse(options, err, ARRAY_SIZE(((const char *const[]){__VA_ARGS__})),                      \
		(const char *const[]){__VA_ARGS__})

static void takes_everything(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(PARSE(&options, &err, "--initrd", "i", "--cmdline", "a b", "--cpus=4",
				 "--memory", "2G", "--disk", "path=/d,,x,readonly=on,queues=2",
				 "--disk", "path=e,cache=direct", "--net", "user", "--net",
				 "tap,ifname=tap0,mac=52:54:00:12:34:56,queues=2,offloads=off",
				 "--stats", "s", "--ring", "packed", "--irqchip", "kernel",
				 "--console", "virtio", "--kernel-unpack", "guest"),
		0);
	assert_string_equal(options.config.kernel, "k");
	assert_string_equal(options.config.initrd, "i");
	assert_string_equal(options.config.cmdline, "a b");
	assert_null(options.config.cache);
	assert_int_equal(options.config.cpus, 4);
	assert_int_equal(options.config.memory, 2ULL << 30);
	assert_int_equal(count_of(&options, DEVICE_DISK), 2);
	assert_string_equal(disk(&options, 0)->path, "/d,x");
	assert_true(disk(&options, 0)->readonly);
	assert_int_equal(disk(&options, 0)->queues, 2);
	assert_int_equal(disk(&options, 1)->cache, BLOCK_CACHE_DIRECT);
	assert_int_equal(count_of(&options, DEVICE_NET), 2);
	assert_int_equal(net(&options, 0)->kind, NET_USER);
	assert_true(net(&options, 0)->offloads);
	assert_string_equal(net(&options, 1)->ifname, "tap0");
	assert_int_equal(net(&options, 1)->mac.bytes[5], 0x56);
	assert_false(net(&options, 1)->offloads);
	assert_int_equal(options.config.ring, RING_PACKED);
	assert_int_equal(options.config.irqchip, KVM_VM_IRQCHIP_KERNEL);
	assert_int_equal(options.config.console, CONSOLE_VIRTIO);
	assert_int_equal(options.config.unpack, KERNEL_UNPACK_GUEST);
	run_options_free(&options);
}

struct refusal {
	const char *option, *value;
	const char *says; /* words the message must have */
};

static const struct refusal refusals[] = {
	{"--cpus", "0", "1 to 64"},
	{"--cpus", "65", "1 to 64"},
	{"--cpus", "two", "1 to 64"},
	{"--cpus", "18446744073709551617", "1 to 64"},
	{"--memory", "lots", "not a size"},
	{"--memory", "-1", "not a size"},
	{"--memory", " 1G", "not a size"},
	{"--memory", "512MB", "not a size"},
	{"--memory", "1K", "too small; at least 16M"},
	{"--memory", "512", "too small; at least 16M (bytes; did you mean 512M?)"},
	{"--memory", "17179869184G", "too large"},
	{"--memory", "99999999999999999999", "too large"},
	{"--memory", "2T", "too large"},
	{"--memory", "16777217", "multiple of 1M"},
	{"--disk", "path", "path= needs a value"},
	{"--disk", "path=", "path= needs a value"},
	{"--disk", "disk.img", "--disk disk.img: write path=disk.img"},
	{"--disk", "readonly=on,disk.img", "--disk disk.img: write path=disk.img"},
	{"--disk", "path=a,b", "--disk: b: unknown; see duet run --help (a comma"},
	{"--disk", "path=a,", "--disk path=a,: ends with a comma"},
	{"--disk", ",path=a", "begins with a comma"},
	{"--disk", "path=a,path=b", "path= given twice"},
	{"--disk", "path=a,id=x,id=x", "id= given twice"},
	{"--disk", "readonly=on", "names no file"},
	{"--disk", "path=x,readonly=maybe", "on or off"},
	{"--disk", "path=x,model=floppy", "model"},
	{"--disk", "path=x,queues=0", "from 1"},
	{"--disk", "path=x,model=", "model= needs a value"},
	{"--disk", "path=x,model=ide,queues=2", "for model=virtio"},
	{"--disk", "path=x,poll=on,model=ide", "for model=virtio"},
	{"--disk", "path=x,model=ide,readonly=on", "cannot be read-only"},
	{"--disk", "path=x,readonly=on,model=ide", "give it model=virtio"},
	{"--disk", "path=x,poll=perhaps", "on or off"},
	{"--disk", "path=x,iops=0", "from 1 to 1000000"},
	{"--disk", "path=x,iops=1000001", "from 1 to 1000000"},
	{"--disk", "path=x,iops=many", "from 1 to 1000000"},
	{"--disk", "path=x,iops=500+50+", "not a limit"},
	{"--disk", "path=x,bw=2T", "from 1 to 1099511627776"},
	{"--disk", "path=x,bw=1M+2T", "from 1 to 1099511627776"},
	{"--disk", "path=x,bw=1M/10", "not a limit; give a number"},
	{"--disk", "path=x,bw=1M/0ms", "from 1 to"},
	{"--disk", "path=x,colour=red", "unknown"},
	{"--net", "", "empty"},
	{"--net", "user,", "--net user,: ends with a comma"},
	{"--net", "user,kind=user", "kind= given twice"},
	{"--net", "user,tap0", "--net: tap0: unknown"},
	{"--net", "user,offloads=off", "offloads= is for --net tap"},
	{"--net", "tap,ifname=a/b", "no name of an interface"},
	{"--net", "tap,ifname=a b", "no name of an interface"},
	{"--net", "tap,ifname=..", "no name of an interface"},
	{"--net", "tap,ifname=tap%d", "no name of an interface"},
	{"--net", "user,mac=00:00:00:00:00:00", "unicast"},
	{"--net", "bridge", "choose tap or user"},
	{"--net", "tap", "ifname"},
	{"--net", "tap,ifname=averylonginterfacename", "longer"},
	{"--net", "user,ifname=x", "for --net tap"},
	{"--net", "user,mac=01:00:00:00:00:00", "unicast"},
	{"--net", "user,mac=52:54:00:12:34", "unicast"},
	{"--net", "user,mtu=12", "from 68"},
	{"--net", "user,model=ne2000", "choose virtio or e1000"},
	{"--net", "tap,ifname=t,model=e1000,queues=2", "for model=virtio"},
	{"--net", "user,mtu=9000,model=e1000", "for model=virtio"},
	{"--net", "tap,ifname=t,poll=on,model=e1000", "for model=virtio"},
	{"--net", "tap,ifname=t,offloads=off,model=e1000", "offloads=off are for model=virtio"},
	{"--net", "user,model=e1000,offloads=off", "offloads=off are for model=virtio"},
	{"--net", "tap,ifname=t,vhost=on,model=e1000", "vhost=on is for"},
	{"--net", "user,vhost=on", "vhost=on is for"},
	{"--net", "user,tx-rate=fast", "tx-rate=fast: not a limit"},
	{"--net", "user,rx-pps=0", "from 1 to 100000000"},
	{"--net", "user,mac-check=yes", "on or off"},
	{"--net", "user,ip=10.0.0", "not a list of addresses; write for example 10.0.0.2+fd00::2"},
	{"--net", "user,ip=10.0.0.1+", "not a list"},
	{"--net", "user,ip=10.0.0.1/33", "not a list"},
	{"--net", "user,ip=fd00::/129", "not a list"},
	{"--net", "user,ip=10.0.0.1/", "not a list"},
	{"--net", "user,rules=/nonexistent.json",
		"rules=/nonexistent.json: No such file or directory; name a file"},
	{"--net", "user,rules=/dev/null", "line 1: not JSON"},
	{"--net", "user,rules=/", "name a file"},
	{"--net", "user,rules-default=drop", "choose allow or deny"},
	{"--device", "usb,host=1", "unknown kind"},
	{"--device", "vfio", "names no function"},
	{"--device", "vfio,slot=3", "names no function"},
	{"--device", "vfio,01:10.0", "--device 01:10.0: write host=01:10.0"},
	{"--device", "vfio,host=01:10.0,host=01:10.1", "host= given twice"},
	{"--device", "vfio,host=01:10", "no PCI address"},
	{"--device", "vfio,host=01:20.0", "no PCI address"},
	{"--device", "vfio,host=0000:01:10.8", "no PCI address"},
	{"--device", "vfio,host=0000:01:10.0/..", "no PCI address"},
	{"--balloon", "", "--balloon: the value is empty"},
	{"--balloon", "64M", "64M: unknown"},
	{"--balloon", "size=512M", "all of the guest's memory"},
	{"--balloon", "size=1000", "multiple of 1M"},
	{"--coop", "yield=perhaps", "coop"},
	{"--coop", "fork=on", "fork=: unknown"},
	{"--balloon", "stats=86401", "from 0 to 86400"},
	{"--vsock", "", "--vsock: the value is empty"},
	{"--vsock", "cid=4", "names no socket; write path=FILE"},
	{"--vsock", "path=v,cid=2", "from 3 to 4294967295"},
	{"--vsock", "path=v,cid=4294967296", "from 3 to 4294967295"},
	{"--vsock",
		"path=0123456789012345678901234567890123456789012345678901234567890123456789"
		"012345678901234567890123456",
		"96 characters"},
	{"--pv", "clock,warp", "--pv clock,warp: warp: no such feature"},
	{"--config", "", "--config: the value is empty"},
	{"--log", "loud", "choose"},
	{"--irqchip", "none", "choose"},
	{"--uuid", "6f1c8e52-0b7d-4f1a-9c3e-2d5b7a4e9f1", "uuidgen"},
	{"--serial-number",
		"0123456789012345678901234567890123456789012345678901234567890123456789",
		"64 characters"},
	{"--share", "0", "1 to 10000"},
	{"--share", "10001", "1 to 10000"},
	{"--ring", "round", "choose"},
	{"--frobnicate", "x", "unknown option"},
	{"--kernel", "again", "twice"},
};

static void refuses(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct run_options options;
		struct error err = {0};
		int ret = PARSE(&options, &err, refusals[i].option, refusals[i].value);

		if (ret != -EINVAL || !strstr(err.text, refusals[i].says) ||
			!strstr(err.text, refusals[i].option))
			fail_msg("%s %s: returned %d, said \"%s\", wanted \"%s\"",
				refusals[i].option, refusals[i].value, ret, err.text,
				refusals[i].says);
		run_options_free(&options);
	}
}

/* Two devices that cannot both be. */
static void refuses_pairs(void **state)
{
	static const struct {
		const char *option, *one, *other, *says;
	} pairs[] = {
		{"--net", "user,mac=52:54:00:12:34:56", "user,mac=52:54:00:12:34:56",
			"--net net1: mac= is also net0's"},
		{"--net", "tap,ifname=t", "tap,ifname=t", "--net net1: ifname= is also net0's"},
		{"--device", "vfio,host=1:0.0", "vfio,host=0000:01:00.0",
			"--device vfio vfio1: host= is also vfio0's"},
		{"--balloon", "size=1M", "stats=1", "--balloon balloon1: one too many"},
		{"--vsock", "path=a", "path=b", "--vsock vsock1: one too many"},
		{"--disk", "path=a,slot=3", "path=b,slot=3", "--disk disk1: slot=3 is another"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct run_options options;
		struct error err = {0};
		int ret = PARSE(&options, &err, pairs[i].option, pairs[i].one, pairs[i].option,
			pairs[i].other);

		if (ret != -EINVAL || !strstr(err.text, pairs[i].says))
			fail_msg("%s: returned %d, said \"%s\"", pairs[i].other, ret, err.text);
		run_options_free(&options);
	}
}

static void spells_pci_addresses(void **state)
{
	static const struct {
		const char *text, *canonical;
	} good[] = {
		{"0000:01:10.0", "0000:01:10.0"},
		{"1:1f.7", "0000:01:1f.7"},
		{"10000:AB:00.1", "10000:ab:00.1"},
	};
	char canonical[PCI_ADDRESS_SIZE];
	struct run_options options;
	struct error err = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(pci_address_parse(good[i].text, canonical), 0);
		assert_string_equal(canonical, good[i].canonical);
	}
	assert_int_equal(PARSE(&options, &err, "--device", "vfio,host=01:10.0", "--device",
				 "vfio,host=0000:02:00.1"),
		0);
	assert_int_equal(count_of(&options, DEVICE_VFIO), 2);
	assert_string_equal(
		machine_config_device(&options.config, DEVICE_VFIO, 0)->vfio.host, "0000:01:10.0");
	assert_string_equal(
		machine_config_device(&options.config, DEVICE_VFIO, 1)->vfio.host, "0000:02:00.1");
	run_options_free(&options);
}

/* Its option says enough by itself, wherever it stands. */
static void takes_a_bare_balloon(void **state)
{
	const struct balloon_config *balloon;
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(PARSE(&options, &err, "--balloon", "--cpus", "2"), 0);
	balloon = &machine_config_device(&options.config, DEVICE_BALLOON, 0)->balloon;
	assert_int_equal(options.config.cpus, 2);
	assert_true(balloon->reporting && !balloon->hinting && !balloon->deflate_on_oom);
	assert_int_equal(balloon->size, 0);
	run_options_free(&options);
	assert_int_equal(PARSE(&options, &err, "--cpus", "2", "--balloon"), 0);
	assert_int_equal(count_of(&options, DEVICE_BALLOON), 1);
	run_options_free(&options);
	assert_int_equal(PARSE(&options, &err, "--balloon=size=1M"), 0);
	run_options_free(&options);
	assert_int_equal(
		PARSE(&options, &err, "--balloon", "--device", "vfio,host=01:10.0"), -EINVAL);
	assert_non_null(strstr(err.text, "balloon0: vfio0 pins all of the guest's memory"));
	run_options_free(&options);
}

static void needs_a_kernel(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(run_options_parse(&options, 0, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--kernel: missing"));
	run_options_free(&options);
}

static void needs_a_value(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(PARSE(&options, &err, "--memory"), -EINVAL);
	assert_non_null(strstr(err.text, "--memory: needs a value"));
	run_options_free(&options);
}

static void has_flags(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(PARSE(&options, &err, "--print-config"), 0);
	assert_true(options.print_config);
	run_options_free(&options);
	assert_int_equal(PARSE(&options, &err, "--print-config=on"), -EINVAL);
	assert_string_equal(err.text, "--print-config=on: takes no value; write --print-config");
	run_options_free(&options);
	assert_int_equal(PARSE(&options, &err, "--help="), -EINVAL);
	assert_non_null(strstr(err.text, "write --help"));
	run_options_free(&options);
}

static void bounds_the_disks(void **state)
{
	const char *args[2 * (16 + 1)];
	struct run_options options;
	struct error err = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(args); i += 2) {
		args[i] = "--disk";
		args[i + 1] = "path=x";
	}
	assert_int_equal(run_options_parse(&options, ARRAY_SIZE(args), args, &err), -EINVAL);
	assert_non_null(strstr(err.text, "at most 16"));
	run_options_free(&options);
}

static void takes_kinds_of_disks(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(PARSE(&options, &err, "--disk", "path=a", "--disk",
				 "path=b,model=ide,readonly=off,iops=500,bw=50M+4M+1G,cache=direct",
				 "--disk", "path=c,model=virtio,poll=on,iops=1000000"),
		0);
	assert_int_equal(disk(&options, 0)->model, DISK_VIRTIO);
	assert_int_equal(disk(&options, 0)->iops.amount, 0);
	assert_false(disk(&options, 0)->poll);
	assert_int_equal(disk(&options, 1)->model, DISK_IDE);
	assert_int_equal(disk(&options, 1)->iops.amount, 500);
	assert_int_equal(disk(&options, 1)->bw.amount, 50 << 20);
	assert_int_equal(disk(&options, 1)->bw.burst, 4 << 20);
	assert_int_equal(disk(&options, 1)->bw.once, 1 << 30);
	assert_int_equal(disk(&options, 1)->cache, BLOCK_CACHE_DIRECT);
	assert_int_equal(disk(&options, 2)->model, DISK_VIRTIO);
	assert_true(disk(&options, 2)->poll);
	assert_int_equal(disk(&options, 2)->iops.amount, 1000000);
	run_options_free(&options);
}

static void takes_kinds_of_nets(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(
		PARSE(&options, &err, "--net", "user,model=e1000", "--net",
			"tap,ifname=t,model=e1000,offloads=on,mac=52:54:00:12:34:56", "--net",
			"tap,ifname=u,model=virtio,vhost=on", "--net", "user,poll=on"),
		0);
	assert_int_equal(net(&options, 0)->model, NET_MODEL_E1000);
	assert_int_equal(net(&options, 1)->model, NET_MODEL_E1000);
	assert_true(net(&options, 1)->mac.given);
	assert_int_equal(net(&options, 2)->model, NET_MODEL_VIRTIO);
	assert_true(net(&options, 2)->vhost);
	assert_int_equal(net(&options, 3)->model, NET_MODEL_VIRTIO);
	assert_true(net(&options, 3)->poll);
	run_options_free(&options);
}

/* One controller: four drives, wherever they stand among the others. */
static void bounds_the_ide_disks(void **state)
{
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(
		PARSE(&options, &err, "--disk", "path=a,model=ide", "--disk", "path=b,model=ide",
			"--disk", "path=c", "--disk", "path=d,model=ide", "--disk",
			"path=e,model=ide", "--disk", "path=f"),
		0);
	run_options_free(&options);
	assert_int_equal(
		PARSE(&options, &err, "--disk", "path=a,model=ide", "--disk", "path=b,model=ide",
			"--disk", "path=c", "--disk", "path=d,model=ide", "--disk",
			"path=e,model=ide", "--disk", "path=f,model=ide"),
		-EINVAL);
	assert_non_null(strstr(err.text, "at most 4"));
	run_options_free(&options);
}

static void user_words_win(void **state)
{
	struct machine_config config;
	char line[512], short_line[16];
	struct error err = {0};

	(void)state;
	machine_config_init(&config);
	config.cmdline = strdup("root=/dev/vda panic=5 quiet reboot=k");
	assert_int_equal(machine_cmdline(&config, 3000000, line, sizeof(line), &err), 0);
	assert_non_null(strstr(line, "console=ttyS0 "));
	assert_null(strstr(line, "panic=-1"));
	assert_non_null(strstr(line, " i8042.nokbd "));
	assert_non_null(strstr(line, " tsc_early_khz=3000000 "));
	assert_non_null(strstr(line, " pmtmr=0 "));
	assert_non_null(strstr(line, "panic=5 quiet reboot=k"));
	/* Linux takes both, one behind the other. */
	assert_non_null(strstr(line, "reboot=panic_warm "));
	assert_non_null(strstr(line, " tsc=reliable "));
	/* One that may move to another frequency is told of none. */
	config.profile = PROFILE_MIGRATABLE;
	assert_int_equal(machine_cmdline(&config, 3000000, line, sizeof(line), &err), 0);
	assert_null(strstr(line, "tsc"));
	assert_null(strstr(line, "pmtmr"));
	config.profile = PROFILE_HOST;
	config.pv &= ~PV_CLOCK;
	free(config.cmdline);
	config.cmdline = strdup("console=tty0");
	assert_int_equal(machine_cmdline(&config, 3000000, line, sizeof(line), &err), 0);
	assert_null(strstr(line, "ttyS0"));
	assert_non_null(strstr(line, " tsc_early_khz=3000000 "));
	assert_null(strstr(line, "pmtmr"));
	assert_int_equal(machine_cmdline(&config, 0, line, sizeof(line), &err), 0);
	assert_null(strstr(line, "tsc_early_khz"));
	config.keyboard = true;
	assert_int_equal(machine_cmdline(&config, 0, line, sizeof(line), &err), 0);
	assert_null(strstr(line, "i8042.nokbd"));
	assert_int_equal(machine_cmdline(&config, 0, short_line, sizeof(short_line), &err), -E2BIG);
	machine_config_free(&config);
}

/* Who turns kvmclock off has the PM timer, and the TSC's frequency. */
static void clocks_are_told(void **state)
{
	static const char *const without[] = {
		"no-kvmclock", "nopv", "clocksource=acpi_pm", "pmtmr=0x608", "quiet no-kvmclock"};
	struct machine_config config;
	char line[512];

	(void)state;
	machine_config_init(&config);
	for (unsigned i = 0; i < ARRAY_SIZE(without); i++) {
		free(config.cmdline);
		config.cmdline = strdup(without[i]);
		assert_int_equal(machine_cmdline(&config, 2600000, line, sizeof(line), NULL), 0);
		assert_null(strstr(line, "pmtmr=0 "));
		assert_non_null(strstr(line, " tsc_early_khz=2600000 "));
	}
	/* That is of spinlocks alone. */
	free(config.cmdline);
	config.cmdline = strdup("nopvspin");
	assert_int_equal(machine_cmdline(&config, 2600000, line, sizeof(line), NULL), 0);
	assert_non_null(strstr(line, " pmtmr=0 "));
	free(config.cmdline);
	config.cmdline = strdup("tsc_early_khz=1");
	assert_int_equal(machine_cmdline(&config, 2600000, line, sizeof(line), NULL), 0);
	assert_null(strstr(line, "=2600000"));
	machine_config_free(&config);
}

/* What comes from elsewhere brings its machine along, and only finds its places here. */
static void waits_for_a_machine(void **state)
{
	static const char *const wrong[][4] = {{"--incoming", "unix:/x", "--memory", "1G"},
		{"--incoming", "unix:/x", "--cpus", "2"}, {"--plain", "on", "--kernel", "k"},
		{"--cert", "c", "--kernel", "k"}, {"--incoming", "unix:/x", "--balloon", "id=a"}};
	const char *const args[] = {"--incoming", "unix:/x", "--disk", "path=/here", "--net",
		"tap,ifname=t9", "--kernel", "k", "--stats", "s", "--cert", "c", "--key", "y",
		"--ca", "a"};
	struct run_options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(run_options_parse(&options, ARRAY_SIZE(args), args, &err), 0);
	assert_string_equal(options.incoming, "unix:/x");
	assert_string_equal(options.cert, "c");
	assert_int_equal(options.config.device_count, 2);
	run_options_free(&options);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(run_options_parse(&options, 4, wrong[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "leave"));
		run_options_free(&options);
	}
}

/* Words that no process could follow are a wrong command line, before anything is made. */
static void knows_wrong_words(void **state)
{
	static const char *const wrong[][6] = {
		{"--incoming", "x", "--plain", "on", "no address", "--incoming x"},
		{"--incoming", "tcp:h", "--plain", "on", "no address", "--incoming tcp:h"},
		{"--incoming", "tcp:10.0.0.1:1", "--log", "info", "needs TLS",
			"--incoming tcp:10.0.0.1:1"},
		{"--incoming", "unix:/x", "--cert", "c", "all three", "--incoming"},
		{"--user", "me", "--kernel", "k", "--user me", "in numbers"},
		{"--allow", "/nowhere", "--kernel", "k", "--allow /nowhere",
			"neither a directory"}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct run_options options;
		struct error err = {0};

		assert_int_equal(run_options_parse(&options, 4, wrong[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, wrong[i][4]));
		assert_non_null(strstr(err.text, wrong[i][5]));
		run_options_free(&options);
	}
}

/* In a file of a machine. */
static void tell_of_process(const char *name)
{
	struct machine_config config;
	struct error err = {0};
	char text[128], wanted[160];

	snprintf(text, sizeof(text), "{\"duet\": 1,\n\"%s\": \"x\"}", name);
	snprintf(wanted, sizeof(wanted), "vm.json:2: %s: is an option of duet run's command line",
		name);
	machine_config_init(&config);
	assert_int_equal(
		machine_config_read(&config, text, strlen(text), "vm.json", &err), -EINVAL);
	if (!strstr(err.text, wanted))
		fail_msg("%s", err.text);
	machine_config_free(&config);
}

/* Those are no options of a machine, and there are no others. */
static void tells_options_of_the_process(void **state)
{
	unsigned count = 0;

	(void)state;
	for (unsigned i = 0; i < run_fields.count; i++)
		tell_of_process(run_fields.fields[i].name);
	tell_of_process("print-config");
	tell_of_process("help");
	while (process_options[count])
		count++;
	assert_int_equal(count, run_fields.count + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_everything),
		cmocka_unit_test(refuses),
		cmocka_unit_test(refuses_pairs),
		cmocka_unit_test(spells_pci_addresses),
		cmocka_unit_test(takes_a_bare_balloon),
		cmocka_unit_test(needs_a_kernel),
		cmocka_unit_test(needs_a_value),
		cmocka_unit_test(has_flags),
		cmocka_unit_test(bounds_the_disks),
		cmocka_unit_test(takes_kinds_of_disks),
		cmocka_unit_test(takes_kinds_of_nets),
		cmocka_unit_test(bounds_the_ide_disks),
		cmocka_unit_test(waits_for_a_machine),
		cmocka_unit_test(knows_wrong_words),
		cmocka_unit_test(tells_options_of_the_process),
		cmocka_unit_test(user_words_win),
		cmocka_unit_test(clocks_are_told),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
