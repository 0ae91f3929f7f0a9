/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include "base/checked.h"
#include "cli/size.h"
#include "cli/suboptions.h"
#include "x86/cpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_MIN (16ULL << 20)
#define MEMORY_MAX (1ULL << 40)

static int set_kernel(struct run_options *options, const char *value, struct error *err)
{
	(void)err;
	options->config.kernel = value;
	return 0;
}

static int set_initrd(struct run_options *options, const char *value, struct error *err)
{
	(void)err;
	options->config.initrd = value;
	return 0;
}

static int set_cmdline(struct run_options *options, const char *value, struct error *err)
{
	(void)err;
	options->config.cmdline = value;
	return 0;
}

static int set_cpus(struct run_options *options, const char *value, struct error *err)
{
	uint64_t number;

	if (parse_number(value, 1, MACHINE_CPUS_MAX, &number) < 0)
		return error_set(err, EINVAL, "--cpus %s: give a number from 1 to %d", value,
			MACHINE_CPUS_MAX);
	options->config.cpus = (unsigned)number;
	return 0;
}

static int set_memory(struct run_options *options, const char *value, struct error *err)
{
	uint64_t bytes = 0;
	int ret = parse_size(value, &bytes);

	if (ret == -EINVAL)
		return error_set(err, EINVAL,
			"--memory %s: not a size; write for example 512M or 4G", value);
	if (ret < 0 || bytes > MEMORY_MAX)
		return error_set(err, EINVAL, "--memory %s: too large; at most 1T", value);
	if (bytes < MEMORY_MIN)
		return error_set(err, EINVAL, "--memory %s: too small; at least 16M", value);
	if (bytes % (1ULL << 20))
		return error_set(err, EINVAL, "--memory %s: must be a multiple of 1M", value);
	options->config.memory = bytes;
	return 0;
}

static int set_pv(struct run_options *options, const char *value, struct error *err)
{
	return pv_parse(value, &options->config.pv, err);
}

static int set_stats(struct run_options *options, const char *value, struct error *err)
{
	(void)err;
	options->config.stats = value;
	return 0;
}

static int set_log(struct run_options *options, const char *value, struct error *err)
{
	if (!log_level_parse(value, &options->log))
		return error_set(
			err, EINVAL, "--log %s: choose one of error, warning, info, debug", value);
	return 0;
}

static int set_cache(struct run_options *options, const char *value, struct error *err)
{
	(void)err;
	options->config.cache = strcmp(value, "off") == 0 ? NULL : value;
	return 0;
}

static int set_passt(struct run_options *options, const char *value, struct error *err)
{
	(void)err;
	options->config.passt = value;
	return 0;
}

/* Picks one of two words. */
static int choose(const char *option, const char *value, const char *first, const char *second,
	struct error *err)
{
	if (strcmp(value, first) == 0)
		return 0;
	if (strcmp(value, second) == 0)
		return 1;
	return error_set(err, EINVAL, "%s %s: choose %s or %s", option, value, first, second);
}

static int set_unpack(struct run_options *options, const char *value, struct error *err)
{
	int chosen = choose("--kernel-unpack", value, "host", "guest", err);

	options->config.unpack = chosen == 1 ? KERNEL_UNPACK_GUEST : KERNEL_UNPACK_HOST;
	return chosen < 0 ? chosen : 0;
}

static int set_irqchip(struct run_options *options, const char *value, struct error *err)
{
	int chosen = choose("--irqchip", value, "kernel", "split", err);

	options->config.irqchip = chosen == 1 ? KVM_VM_IRQCHIP_SPLIT : KVM_VM_IRQCHIP_KERNEL;
	return chosen < 0 ? chosen : 0;
}

static int set_console(struct run_options *options, const char *value, struct error *err)
{
	int chosen = choose("--console", value, "serial", "virtio", err);

	options->config.console = chosen == 1 ? CONSOLE_VIRTIO : CONSOLE_SERIAL;
	return chosen < 0 ? chosen : 0;
}

static int set_ring(struct run_options *options, const char *value, struct error *err)
{
	int chosen = choose("--ring", value, "split", "packed", err);

	options->config.packed = chosen == 1;
	return chosen < 0 ? chosen : 0;
}

static int set_entropy(struct run_options *options, const char *value, struct error *err)
{
	int chosen = choose("--entropy", value, "on", "off", err);

	options->config.entropy = chosen == 0;
	return chosen < 0 ? chosen : 0;
}

static int set_reset(struct run_options *options, const char *value, struct error *err)
{
	int chosen = choose("--on-reset", value, "restart", "exit", err);

	options->config.restart = chosen == 0;
	return chosen < 0 ? chosen : 0;
}

static const struct {
	const char *name;
	int (*set)(struct run_options *options, const char *value, struct error *err);
	bool repeats;
} table[] = {
	{"--kernel", set_kernel, false},
	{"--initrd", set_initrd, false},
	{"--cmdline", set_cmdline, false},
	{"--cpus", set_cpus, false},
	{"--memory", set_memory, false},
	{"--disk", suboptions_disk, true},
	{"--net", suboptions_net, true},
	{"--device", suboptions_device, true},
	{"--pv", set_pv, false},
	{"--stats", set_stats, false},
	{"--log", set_log, false},
	{"--kernel-unpack", set_unpack, false},
	{"--cache", set_cache, false},
	{"--irqchip", set_irqchip, false},
	{"--console", set_console, false},
	{"--entropy", set_entropy, false},
	{"--ring", set_ring, false},
	{"--on-reset", set_reset, false},
	{"--passt", set_passt, false},
};

/* The row of @arg ("--name" or "--name=value"); @value points behind the '=' or is null. */
static int find(const char *arg, const char **value)
{
	size_t length = strcspn(arg, "=");

	*value = arg[length] ? arg + length + 1 : NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
		if (strlen(table[i].name) == length && strncmp(arg, table[i].name, length) == 0)
			return (int)i;
	}
	return -1;
}

static int parse_one(struct run_options *options, unsigned count, const char *const *args,
	unsigned *at, uint32_t *seen, struct error *err)
{
	const char *value;
	int row = find(args[*at], &value);

	if (row < 0)
		return error_set(err, EINVAL, "%s: unknown option; see duet run --help", args[*at]);
	if (*seen >> row & 1 && !table[row].repeats)
		return error_set(err, EINVAL, "%s: given twice; give it once", table[row].name);
	*seen |= 1U << row;
	if (!value) {
		if (*at + 1 == count)
			return error_set(err, EINVAL, "%s: needs a value; see duet run --help",
				table[row].name);
		value = args[++*at];
	}
	if (!*value && table[row].set != set_cmdline)
		return error_set(err, EINVAL, "%s: the value is empty; see duet run --help",
			table[row].name);
	return table[row].set(options, value, err);
}

int run_options_parse(struct run_options *options, unsigned count, const char *const *args,
	const char *cache, struct error *err)
{
	uint32_t seen = 0;
	int ret = 0;

	*options = (struct run_options){.log = LOG_LEVEL_WARNING};
	machine_config_defaults(&options->config);
	options->config.cache = cache;
	options->copies = calloc(count + 1, sizeof(*options->copies));
	if (!options->copies)
		return error_errno(err, ENOMEM, "command line");
	for (unsigned at = 0; ret == 0 && at < count; at++) {
		if (strcmp(args[at], "--help") == 0 || strcmp(args[at], "-h") == 0) {
			options->help = true;
			return 0;
		}
		ret = parse_one(options, count, args, &at, &seen, err);
	}
	if (ret == 0 && !options->config.kernel)
		ret = error_set(err, EINVAL,
			"--kernel: missing; name a Linux bzImage or vmlinux, for example "
			"--kernel /boot/vmlinuz-$(uname -r)");
	return ret;
}

void run_options_free(struct run_options *options)
{
	for (unsigned i = 0; i < options->copy_count; i++)
		free(options->copies[i]);
	free(options->copies);
	options->copies = NULL;
	options->copy_count = 0;
}
