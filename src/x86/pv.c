/* SPDX-License-Identifier: Apache-2.0 */
#include "x86/cpu.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Bits of KVM_CPUID_FEATURES EAX (Documentation/virt/kvm/x86/cpuid.rst). */
enum {
	KVM_CLOCKSOURCE = 1 << 0,
	KVM_NOP_IO_DELAY = 1 << 1,
	KVM_CLOCKSOURCE2 = 1 << 3,
	KVM_ASYNC_PF = 1 << 4,
	KVM_STEAL_TIME = 1 << 5,
	KVM_EOI = 1 << 6,
	KVM_UNHALT = 1 << 7,
	KVM_TLB_FLUSH = 1 << 9,
	KVM_ASYNC_PF_VMEXIT = 1 << 10,
	KVM_SEND_IPI = 1 << 11,
	KVM_POLL_CONTROL = 1 << 12,
	KVM_SCHED_YIELD = 1 << 13,
	KVM_ASYNC_PF_INT = 1 << 14,
	KVM_MSI_EXT_DEST_ID = 1 << 15,
	KVM_CLOCKSOURCE_STABLE = 1 << 24,
};

static const struct {
	const char *name;
	enum pv_feature feature;
	uint32_t bits;
} features[] = {
	{"clock", PV_CLOCK, KVM_CLOCKSOURCE | KVM_CLOCKSOURCE2 | KVM_CLOCKSOURCE_STABLE},
	{"steal", PV_STEAL, KVM_STEAL_TIME},
	{"eoi", PV_EOI, KVM_EOI},
	{"unhalt", PV_UNHALT, KVM_UNHALT},
	{"tlbflush", PV_TLBFLUSH, KVM_TLB_FLUSH},
	{"ipi", PV_IPI, KVM_SEND_IPI},
	{"yield", PV_YIELD, KVM_SCHED_YIELD},
	{"asyncpf", PV_ASYNCPF, KVM_ASYNC_PF | KVM_ASYNC_PF_VMEXIT | KVM_ASYNC_PF_INT},
	{"poll", PV_POLL, KVM_POLL_CONTROL},
};

static int parse_name(const char *name, size_t length, unsigned *feature, struct error *err)
{
	char all[80];

	if (length == 4 && !memcmp(name, "none", length))
		return error_set(err, EINVAL, "none: stands alone; name nothing beside it");
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
		if (strlen(features[i].name) == length && !memcmp(features[i].name, name, length)) {
			*feature = features[i].feature;
			return 0;
		}
	return error_set(err, EINVAL, "%.*s: no such feature; there are %s; or none", (int)length,
		name, pv_format(PV_ALL, all, sizeof(all)));
}

int pv_parse(const char *text, unsigned *set, struct error *err)
{
	/* "-x" takes from what there is; the first plain name starts an empty set. */
	bool exact = false;
	unsigned result = *set;

	if (strcmp(text, "none") == 0) {
		*set = 0;
		return 0;
	}
	for (;;) {
		size_t length = strcspn(text, ",");
		bool remove = text[0] == '-';
		unsigned feature = 0;
		int ret = parse_name(text + remove, length - remove, &feature, err);

		if (ret < 0)
			return ret;
		if (!remove && !exact)
			result = 0;
		exact = exact || !remove;
		result = remove ? result & ~feature : result | feature;
		if (text[length] == '\0')
			break;
		text += length + 1;
	}
	*set = result;
	return 0;
}

const char *pv_format(unsigned set, char *buffer, unsigned size)
{
	unsigned at = 0;

	snprintf(buffer, size, "none");
	for (unsigned i = 0; i < ARRAY_SIZE(features) && at < size; i++)
		if (set & features[i].feature)
			at += (unsigned)snprintf(
				buffer + at, size - at, "%s%s", at ? "," : "", features[i].name);
	return buffer;
}

uint32_t pv_cpuid_bits(unsigned set)
{
	/* Not --pv's to switch: no delays by port 0x80, which would exit; APIC ids above 255. */
	uint32_t bits = KVM_NOP_IO_DELAY | KVM_MSI_EXT_DEST_ID;

	for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
		if (set & features[i].feature)
			bits |= features[i].bits;
	return bits;
}
