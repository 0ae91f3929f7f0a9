/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU saved in the middle of its work goes on in another VM; broken streams are refused, or make
 * a vCPU that can be run. */
#include "damage.h"
#include "tiny.h"

#include "base/bytes.h"
#include "state/state.h"

#include <string.h>

#define ROUNDS 100

#define DONE 0xe6, TINY_DONE

/* Counts in %ecx and in memory, shows %cl after each step. */
static const uint8_t counting[] = {
	0x66, 0x41,             /* 1: inc %ecx */
	0xff, 0x06, 0x00, 0x20, /* incw 0x2000 */
	0x88, 0xc8, DONE,       /* mov %cl, %al */
	0xeb, 0xf4,             /* jmp 1b */
};

static unsigned msr_list(const struct kvm_host *host, uint32_t *msrs)
{
	int count = kvm_host_msrs(host, msrs, KVM_MSRS_MAX);

	CHECK(count > 0);
	return (unsigned)count;
}

static void save(struct tiny *tiny, struct state_writer *writer)
{
	static uint32_t msrs[KVM_MSRS_MAX];
	unsigned count = msr_list(&tiny->host, msrs);

	state_writer_init(writer);
	state_section_begin(writer, "vm", 1);
	CHECK(kvm_vm_save(tiny->vm, writer) == 0);
	state_section_close(writer);
	state_section_begin(writer, "vcpu", 1);
	CHECK(kvm_vcpu_save(tiny->vcpu, msrs, count, writer) == 0);
	state_section_close(writer);
	CHECK(state_writer_finish(writer) == 0);
}

static int restore(struct tiny *tiny, const void *bytes, size_t length, struct error *err)
{
	static uint32_t msrs[KVM_MSRS_MAX];
	unsigned count = msr_list(&tiny->host, msrs);
	struct state_reader reader;

	if (state_reader_init(&reader, bytes, length, err) < 0 ||
		state_section_next(&reader, err) != 1)
		return -EINVAL;
	if (kvm_vm_restore(tiny->vm, &reader, err) < 0 || state_section_end(&reader, err) < 0)
		return -EINVAL;
	if (state_section_next(&reader, err) != 1 ||
		kvm_vcpu_restore(tiny->vcpu, msrs, count, &reader, err) < 0)
		return -EINVAL;
	if (state_section_end(&reader, err) < 0)
		return -EINVAL;
	return state_section_next(&reader, err) == 0 ? 0 : -EINVAL;
}

static void pause_vcpu(struct tiny *tiny)
{
	enum kvm_run_result result;

	kvm_vcpu_kick(tiny->vcpu);
	do {
		result = kvm_vcpu_run(tiny->vcpu);
	} while (result == KVM_RUN_AGAIN);
	CHECK(result == KVM_RUN_KICKED);
}

/* In a VM of its own: what a vCPU has taken of one does not make the next one easier. */
static bool is_taken(enum kvm_vm_irqchip irqchip, const void *bytes, size_t length)
{
	struct error err = {0};
	struct tiny tiny;
	bool taken;

	tiny_open(&tiny, irqchip);
	tiny_enable_lapic(&tiny);
	taken = restore(&tiny, bytes, length, &err) == 0;
	/* However it goes: an entry that the CPU refuses is an end with words, too. */
	if (taken) {
		kvm_vcpu_kick(tiny.vcpu);
		kvm_vcpu_run(tiny.vcpu);
	}
	tiny_close(&tiny);
	return taken;
}

static void test_altered(enum kvm_vm_irqchip irqchip, const struct state_writer *writer)
{
	uint8_t *bytes = malloc(writer->length);
	unsigned refused = 0;
	uint64_t seed = 7;

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct damage_place place;

		memcpy(bytes, writer->bytes, writer->length);
		CHECK(damage_find(bytes, writer->length, round % 2, &place));
		damage_section(bytes, &place, &seed);
		refused += !is_taken(irqchip, bytes, writer->length);
	}
	CHECK(refused > 0 && refused < ROUNDS);
	free(bytes);
}

static void test_move(enum kvm_vm_irqchip irqchip, const char *name)
{
	struct tiny from, to;
	struct state_writer writer;
	struct error err = {0};

	tiny_open(&from, irqchip);
	tiny_load(&from, TINY_CODE, counting, sizeof(counting));
	tiny_enable_lapic(&from);
	for (int step = 1; step <= 3; step++)
		CHECK(tiny_run(&from) == KVM_RUN_AGAIN && from.done == step);
	pause_vcpu(&from);
	save(&from, &writer);
	tiny_open(&to, irqchip);
	tiny_enable_lapic(&to);
	tiny_load(&to, 0, tiny_ram(&from, 0), TINY_RAM);
	if (restore(&to, writer.bytes, writer.length, &err) < 0) {
		printf("%s: failed: %s\n", name, err.text);
		exit(1);
	}
	CHECK(tiny_run(&to) == KVM_RUN_AGAIN && to.done == 4);
	CHECK(load_le16(tiny_ram(&to, 0x2000)) == 4);
	/* A cut stream is an error, not a crash. */
	for (size_t length = 0; length < writer.length; length += 97)
		CHECK(restore(&to, writer.bytes, length, &err) < 0);
	test_altered(irqchip, &writer);
	state_writer_free(&writer);
	tiny_close(&from);
	tiny_close(&to);
	tiny_ok(name);
}

int main(void)
{
	test_move(KVM_VM_IRQCHIP_KERNEL, "state, in-kernel irqchip");
	test_move(KVM_VM_IRQCHIP_SPLIT, "state, split irqchip");
	return 0;
}
