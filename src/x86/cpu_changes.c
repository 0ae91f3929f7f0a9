/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/cpu_changes.h"

#include "base/checked.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_MAX 24 /* characters between colons */
#define PARTS    6

const char *const cpu_registers[5] = {"eax", "ebx", "ecx", "edx", NULL};

struct parts {
	char text[PARTS][PART_MAX];
	unsigned count;
};

static bool split(struct parts *parts, const char *text, size_t length)
{
	const char *end = text + length;

	for (parts->count = 0; parts->count < PARTS; text++) {
		size_t part = strcspn(text, ":+");

		if (part >= PART_MAX)
			return false;
		memcpy(parts->text[parts->count], text, part);
		parts->text[parts->count++][part] = 0;
		text += part;
		if (text == end)
			return true;
	}
	return false;
}

static bool number(const char *text, uint64_t most, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 16);
	return isxdigit((unsigned char)*text) && !*end && !errno && *value <= most;
}

static bool find_register(const char *name, unsigned *reg)
{
	for (*reg = 0; cpu_registers[*reg]; ++*reg)
		if (strcmp(cpu_registers[*reg], name) == 0)
			return true;
	return false;
}

/* The last two parts. */
static bool read_bits(struct cpu_change *change, const struct parts *parts, uint64_t most)
{
	return number(parts->text[parts->count - 2], most, &change->filter) &&
	       number(parts->text[parts->count - 1], most, &change->value) && change->filter &&
	       !(change->value & ~change->filter);
}

static bool read_change(struct cpu_change *change, const struct parts *parts)
{
	uint64_t index, subleaf = 0;
	const bool msr = strcmp(parts->text[0], "msr") == 0;

	*change = (struct cpu_change){.msr = msr};
	if (parts->count != (msr ? 4 : 6) || !number(parts->text[1], UINT32_MAX, &index))
		return false;
	change->index = (uint32_t)index;
	if (msr)
		return read_bits(change, parts, UINT64_MAX);
	if (strcmp(parts->text[0], "cpuid") != 0 || !number(parts->text[2], UINT32_MAX, &subleaf))
		return false;
	change->subleaf = (uint32_t)subleaf;
	return find_register(parts->text[3], &change->reg) && read_bits(change, parts, UINT32_MAX);
}

int cpu_changes_parse(struct cpu_change changes[CPU_CHANGES_MAX], unsigned *count, const char *text,
	struct error *err)
{
	*count = 0;
	while (text && *text) {
		size_t length = strcspn(text, "+");
		struct parts parts;

		if (*count == CPU_CHANGES_MAX)
			return error_set(err, EINVAL, "more than %d changes", CPU_CHANGES_MAX);
		if (!split(&parts, text, length) || !read_change(&changes[*count], &parts))
			return error_set(err, EINVAL,
				"%.*s: is no change; write "
				"cpuid:LEAF:SUBLEAF:REGISTER:FILTER:VALUE "
				"or msr:INDEX:FILTER:VALUE, in hexadecimal, with no bit in VALUE "
				"that FILTER has not",
				(int)min_u64(length, 100), text);
		++*count;
		text += length;
		text += *text == '+';
	}
	return 0;
}

const char *cpu_change_format(const struct cpu_change *change, char text[CPU_CHANGE_TEXT_SIZE])
{
	if (change->msr)
		snprintf(text, CPU_CHANGE_TEXT_SIZE, "msr:0x%x:0x%" PRIx64 ":0x%" PRIx64,
			change->index, change->filter, change->value);
	else
		snprintf(text, CPU_CHANGE_TEXT_SIZE, "cpuid:0x%x:0x%x:%s:0x%" PRIx64 ":0x%" PRIx64,
			change->index, change->subleaf, cpu_registers[change->reg], change->filter,
			change->value);
	return text;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, const struct cpu_change *change)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		/* A leaf that has no subleaves answers to any. */
		if (entry->function == change->index &&
			(entry->index == change->subleaf ||
				!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return entry;
	}
	return NULL;
}

int cpu_changes_cpuid(struct kvm_cpuid2 *cpuid, const struct cpu_change *changes, unsigned count,
	struct error *err)
{
	for (unsigned i = 0; i < count; i++) {
		const struct cpu_change *change = &changes[i];
		struct kvm_cpuid_entry2 *entry = change->msr ? NULL : find(cpuid, change);
		uint32_t *registers[4], lacking;

		if (change->msr || (!entry && !change->value))
			continue;
		if (!entry)
			return error_set(err, ENOTSUP,
				"CPUID leaf 0x%x, 0x%x: this host has none; leave it out",
				change->index, change->subleaf);
		registers[0] = &entry->eax;
		registers[1] = &entry->ebx;
		registers[2] = &entry->ecx;
		registers[3] = &entry->edx;
		lacking = (uint32_t)change->value & ~*registers[change->reg];
		if (lacking)
			return error_set(err, ENOTSUP,
				"CPUID leaf 0x%x, 0x%x: the guest's CPU has no bits 0x%x of %s; "
				"bits can only be taken away",
				change->index, change->subleaf, lacking,
				cpu_registers[change->reg]);
		*registers[change->reg] &= ~(uint32_t)(change->filter & ~change->value);
	}
	return 0;
}
