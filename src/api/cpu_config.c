/* SPDX-License-Identifier: Apache-2.0 */
/* Firecracker's CPU templates: bits of CPUID and of MSRs, as the configuration keeps them. */
#include "api/private.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "x86/cpu_changes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct cpu_fields {
	const json_t *cpuid, *msr, *capabilities;
};
struct leaf_fields {
	const char *leaf, *subleaf;
	struct given_number flags;
	const json_t *modifiers;
};
struct bits_fields {
	const char *addr, *bitmap;
	struct given_word reg;
};

#define IN_CPU(member) offsetof(struct cpu_fields, member)
static const struct member cpu_members[] = {
	{.name = "kvm_capabilities", .kind = MEMBER_ANY, .offset = IN_CPU(capabilities)},
	{.name = "cpuid_modifiers", .kind = MEMBER_ANY, .offset = IN_CPU(cpuid)},
	{.name = "msr_modifiers", .kind = MEMBER_ANY, .offset = IN_CPU(msr)},
};
#define IN_LEAF(member) offsetof(struct leaf_fields, member)
static const struct member leaf_members[] = {
	{.name = "leaf", .kind = MEMBER_TEXT, .needed = true, .offset = IN_LEAF(leaf)},
	{.name = "subleaf", .kind = MEMBER_TEXT, .needed = true, .offset = IN_LEAF(subleaf)},
	{.name = "flags",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN_LEAF(flags),
		.most = UINT32_MAX},
	{.name = "modifiers", .kind = MEMBER_ANY, .needed = true, .offset = IN_LEAF(modifiers)},
};
#define IN_BITS(member) offsetof(struct bits_fields, member)
static const struct member register_members[] = {
	{.name = "register",
		.kind = MEMBER_WORD,
		.needed = true,
		.offset = IN_BITS(reg),
		.words = cpu_registers},
	{.name = "bitmap", .kind = MEMBER_TEXT, .needed = true, .offset = IN_BITS(bitmap)},
};
static const struct member msr_members[] = {
	{.name = "addr", .kind = MEMBER_TEXT, .needed = true, .offset = IN_BITS(addr)},
	{.name = "bitmap", .kind = MEMBER_TEXT, .needed = true, .offset = IN_BITS(bitmap)},
};
const struct body cpu_body = BODY("CustomCpuTemplate", cpu_members, cpu_fields);
static const struct body leaf_body = BODY("CpuidLeafModifier", leaf_members, leaf_fields);
static const struct body register_body =
	BODY("CpuidRegisterModifier", register_members, bits_fields);
static const struct body msr_body = BODY("RegisterModifier", msr_members, bits_fields);

struct changes {
	struct cpu_change of[CPU_CHANGES_MAX];
	unsigned count;
};

/* "0x1f", "0b101", "31" */
static int read_index(uint32_t *index, const char *text, struct error *err)
{
	const bool prefixed = text[0] == '0' && (text[1] == 'x' || text[1] == 'b');
	const char *digits = prefixed ? text + 2 : text;
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(digits, &end, !prefixed ? 10 : text[1] == 'x' ? 16 : 2);
	if (!*digits || strspn(digits, "0123456789abcdefABCDEF") != strlen(digits) || *end ||
		errno || value > UINT32_MAX)
		return error_set(err, EINVAL, "Failed to parse string [%.64s] as a number", text);
	*index = (uint32_t)value;
	return 0;
}

/* "0bxx01_x1": from the right; x stays as it is. */
static int read_bitmap(
	struct cpu_change *change, const char *text, unsigned width, struct error *err)
{
	const char *first = strncmp(text, "0b", 2) == 0 ? text + 2 : text;
	unsigned bit = 0;

	for (const char *at = first + strlen(first); at > first;) {
		const char digit = *--at;

		if (digit == '_')
			continue;
		if (bit == width || !strchr("01x", digit))
			return error_set(err, EINVAL,
				"Failed to parse string [%.80s] as a bitmap of %u bits", text,
				width);
		change->filter |= (uint64_t)(digit != 'x') << bit;
		change->value |= (uint64_t)(digit == '1') << bit;
		bit++;
	}
	return 0;
}

/* One that changes nothing is left out. */
static int note(struct changes *changes, const struct cpu_change *change, struct error *err)
{
	if (!change->filter)
		return 0;
	if (changes->count == CPU_CHANGES_MAX)
		return error_set(err, E2BIG, "more than %d changes", CPU_CHANGES_MAX);
	changes->of[changes->count++] = *change;
	return 0;
}

static int read_register(struct changes *changes, const struct cpu_change *leaf,
	const json_t *value, struct error *err)
{
	struct cpu_change change = *leaf;
	struct bits_fields fields;
	int ret = body_read(&register_body, &fields, value, err);

	change.reg = fields.reg.value;
	if (ret == 0)
		ret = read_bitmap(&change, fields.bitmap, 32, err);
	return ret < 0 ? ret : note(changes, &change, err);
}

static int read_leaf(struct changes *changes, const json_t *value, struct error *err)
{
	struct cpu_change leaf = {0};
	struct leaf_fields fields;
	int ret = body_read(&leaf_body, &fields, value, err);

	if (ret == 0)
		ret = read_index(&leaf.index, fields.leaf, err);
	if (ret == 0)
		ret = read_index(&leaf.subleaf, fields.subleaf, err);
	if (ret == 0 && !json_is_array(fields.modifiers))
		return error_set(err, EINVAL, "modifiers: must be an array");
	for (size_t i = 0; ret == 0 && i < json_array_size(fields.modifiers); i++)
		ret = read_register(changes, &leaf, json_array_get(fields.modifiers, i), err);
	return ret;
}

static int read_msr(struct changes *changes, const json_t *value, struct error *err)
{
	struct cpu_change change = {.msr = true};
	struct bits_fields fields;
	int ret = body_read(&msr_body, &fields, value, err);

	if (ret == 0)
		ret = read_index(&change.index, fields.addr, err);
	if (ret == 0)
		ret = read_bitmap(&change, fields.bitmap, 64, err);
	return ret < 0 ? ret : note(changes, &change, err);
}

static int no_capabilities(struct changes *changes, const json_t *value, struct error *err)
{
	(void)changes;
	(void)value;
	return error_set(
		err, ENOTSUP, "duet asks KVM for what it needs by itself; leave the list empty");
}

static int read_list(struct changes *changes, const char *name, const json_t *array,
	int (*read)(struct changes *changes, const json_t *value, struct error *err),
	struct error *err)
{
	int ret = 0;

	if (array && !json_is_array(array))
		ret = error_set(err, EINVAL, "must be an array");
	for (size_t i = 0; ret == 0 && i < json_array_size(array); i++)
		ret = read(changes, json_array_get(array, i), err);
	return ret < 0 ? error_prefix(err, "Configure CPU error: %s: ", name) : 0;
}

/* As --cpu-config has them; null with @count of 0, or for want of memory. */
static char *text_of(const struct changes *changes)
{
	char *text = changes->count ? malloc(changes->count * CPU_CHANGE_TEXT_SIZE) : NULL;
	size_t used = 0;

	for (unsigned i = 0; text && i < changes->count; i++) {
		if (i)
			text[used++] = '+';
		cpu_change_format(&changes->of[i], text + used);
		used += strlen(text + used);
	}
	return text;
}

int put_cpu_config(struct call *call)
{
	const struct cpu_fields *fields = call->fields;
	struct machine_config *config = call->api->options.config;
	_cleanup_free_ struct changes *changes = calloc(1, sizeof(*changes));
	char *text;
	int ret;

	if (!changes)
		return error_errno(&call->err, ENOMEM, "Configure CPU error");
	ret = read_list(
		changes, "kvm_capabilities", fields->capabilities, no_capabilities, &call->err);
	if (ret == 0)
		ret = read_list(changes, "cpuid_modifiers", fields->cpuid, read_leaf, &call->err);
	if (ret == 0)
		ret = read_list(changes, "msr_modifiers", fields->msr, read_msr, &call->err);
	if (ret < 0)
		return ret;
	text = text_of(changes);
	if (!text && changes->count)
		return error_errno(&call->err, ENOMEM, "Configure CPU error");
	free(config->cpu_config);
	config->cpu_config = text;
	return 0;
}

static json_t *bitmap_json(const struct cpu_change *change, unsigned width)
{
	char text[67] = "0b";

	for (unsigned i = 0; i < width; i++) {
		const unsigned bit = width - 1 - i;

		text[2 + i] = !(change->filter >> bit & 1) ? 'x'
			      : (change->value >> bit & 1) ? '1'
							   : '0';
	}
	text[2 + width] = 0;
	return json_string(text);
}

static json_t *change_json(const struct cpu_change *change)
{
	char index[16], subleaf[16];

	snprintf(index, sizeof(index), "0x%x", change->index);
	snprintf(subleaf, sizeof(subleaf), "0x%x", change->subleaf);
	if (change->msr)
		return json_pack("{s:s, s:o}", "addr", index, "bitmap", bitmap_json(change, 64));
	return json_pack("{s:s, s:s, s:i, s:[{s:s, s:o}]}", "leaf", index, "subleaf", subleaf,
		"flags", change->subleaf ? 1 : 0, "modifiers", "register",
		cpu_registers[change->reg], "bitmap", bitmap_json(change, 32));
}

json_t *cpu_config_json(const struct api *api)
{
	_cleanup_free_ struct changes *changes = calloc(1, sizeof(*changes));
	json_t *cpuid = json_array(), *msrs = json_array();

	if (changes)
		cpu_changes_parse(changes->of, &changes->count, api_config(api)->cpu_config, NULL);
	for (unsigned i = 0; changes && i < changes->count; i++)
		json_array_append_new(
			changes->of[i].msr ? msrs : cpuid, change_json(&changes->of[i]));
	if (changes && changes->count)
		return json_pack("{s:[], s:o, s:o}", "kvm_capabilities", "cpuid_modifiers", cpuid,
			"msr_modifiers", msrs);
	json_decref(cpuid);
	json_decref(msrs);
	return json_null();
}
