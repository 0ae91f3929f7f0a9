/* SPDX-License-Identifier: Apache-2.0 */
/* Exits to user space and what becomes of them: ports, memory-mapped registers, the end of a vCPU,
 * the ring of coalesced writes, statistics. */
#include "tiny.h"

#include "base/bytes.h"

#include <string.h>

#define DONE 0xe6, TINY_DONE /* out %al, $TINY_DONE */

static void check_access(
	const struct access *access, bool write, uint64_t offset, unsigned size, uint64_t value)
{
	CHECK(access->write == write);
	CHECK(access->offset == offset);
	CHECK(access->size == size);
	CHECK(!write || access->value == value);
}

static void test_port_sizes(void)
{
	static const uint8_t code[] = {
		0xba,
		0x04,
		0x03, /* mov $0x304, %dx */
		0xb0,
		0x12,
		0xee, /* mov $0x12, %al; out %al, %dx */
		0xb8,
		0x56,
		0x34,
		0xef, /* mov $0x3456, %ax; out %ax, %dx */
		0x66,
		0xb8,
		0xef,
		0xbe,
		0xad,
		0xde, /* mov $0xdeadbeef, %eax */
		0x66,
		0xef, /* out %eax, %dx */
		0xec,
		0xa2,
		0x00,
		0x20, /* in %dx, %al; mov %al, 0x2000 */
		0xed,
		0xa3,
		0x02,
		0x20, /* in %dx, %ax; mov %ax, 0x2002 */
		0x66,
		0xed,
		0x66,
		0xa3,
		0x04,
		0x20, /* in %dx, %eax; mov %eax, 0x2004 */
		0xe4,
		0x99,
		0xa2,
		0x08,
		0x20, /* in $0x99, %al; mov %al, 0x2008 */
		DONE,
	};
	struct tiny tiny;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	tiny.answer = 0xcafef00d;
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	CHECK(tiny.logged == 6);
	check_access(&tiny.log[0], true, 4, 1, 0x12);
	check_access(&tiny.log[1], true, 4, 2, 0x3456);
	check_access(&tiny.log[2], true, 4, 4, 0xdeadbeef);
	check_access(&tiny.log[3], false, 4, 1, 0);
	check_access(&tiny.log[4], false, 4, 2, 0);
	check_access(&tiny.log[5], false, 4, 4, 0);
	CHECK(*tiny_ram(&tiny, 0x2000) == 0x0d);
	CHECK(load_le16(tiny_ram(&tiny, 0x2002)) == 0xf00d);
	CHECK(load_le32(tiny_ram(&tiny, 0x2004)) == 0xcafef00d);
	CHECK(*tiny_ram(&tiny, 0x2008) == 0xff);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_PORT) == 7);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_UNCLAIMED) == 1);
	tiny_close(&tiny);
	tiny_ok("port sizes");
}

static void test_port_strings(void)
{
	static const uint8_t code[] = {
		0xba,
		0x00,
		0x03,
		0xfc, /* mov $0x300, %dx; cld */
		0xbe,
		0x00,
		0x21,
		0xb9,
		0x05,
		0x00, /* mov $0x2100, %si; mov $5, %cx */
		0xf3,
		0x6e, /* rep outsb */
		0xbf,
		0x00,
		0x22,
		0xb9,
		0x03,
		0x00, /* mov $0x2200, %di; mov $3, %cx */
		0xf3,
		0x6d, /* rep insw */
		DONE,
	};
	struct tiny tiny;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	tiny_load(&tiny, 0x2100, "hello", 5);
	tiny.answer = 0x4241;
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	/* KVM may read ahead of what the guest asks for, but only by whole elements of this. */
	CHECK(tiny.logged == 8);
	for (unsigned i = 0; i < 5; i++)
		check_access(&tiny.log[i], true, 0, 1, (uint8_t) "hello"[i]);
	for (unsigned i = 5; i < 8; i++)
		check_access(&tiny.log[i], false, 0, 2, 0);
	CHECK(!memcmp(tiny_ram(&tiny, 0x2200), "ABABAB\0", 7));
	tiny_close(&tiny);
	tiny_ok("port strings");
}

static void test_mmio(void)
{
	static const uint8_t code[] = {
		0x64,
		0xc6,
		0x06,
		0x10,
		0x00,
		0x5a, /* movb $0x5a, %fs:0x10 */
		0x64,
		0xc7,
		0x06,
		0x20,
		0x00,
		0x34,
		0x12, /* movw $0x1234, %fs:0x20 */
		0x66,
		0x64,
		0xc7,
		0x06,
		0xfe,
		0x0f, /* movl $0x44332211, %fs:0xffe */
		0x11,
		0x22,
		0x33,
		0x44,
		0x64,
		0x66,
		0xa1,
		0x40,
		0x00, /* mov %fs:0x40, %eax */
		0x66,
		0xa3,
		0x00,
		0x20, /* mov %eax, 0x2000 */
		0x64,
		0xa0,
		0x00,
		0x30, /* mov %fs:0x3000, %al: nobody */
		0xa2,
		0x08,
		0x20, /* mov %al, 0x2008 */
		DONE,
	};
	struct tiny tiny;
	uint32_t crossing = 0;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	tiny.answer = 0x89abcdef;
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	CHECK(tiny.logged >= 4);
	check_access(&tiny.log[0], true, 0x10, 1, 0x5a);
	check_access(&tiny.log[1], true, 0x20, 2, 0x1234);
	/* The page-crossing write comes in pieces that together make it up. */
	for (unsigned i = 2; i < tiny.logged - 1; i++) {
		CHECK(tiny.log[i].write && tiny.log[i].offset >= 0xffe);
		crossing |= (uint32_t)tiny.log[i].value << (8 * (tiny.log[i].offset - 0xffe));
	}
	CHECK(crossing == 0x44332211);
	check_access(&tiny.log[tiny.logged - 1], false, 0x40, 4, 0);
	CHECK(load_le32(tiny_ram(&tiny, 0x2000)) == 0x89abcdef);
	CHECK(*tiny_ram(&tiny, 0x2008) == 0xff);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_UNCLAIMED) == 1);
	tiny_close(&tiny);
	tiny_ok("mmio");
}

static void test_halt(void)
{
	static const uint8_t code[] = {0xf4};
	struct tiny tiny;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	CHECK(tiny_run(&tiny) == KVM_RUN_HALTED);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_HALT) == 1);
	tiny_close(&tiny);
	tiny_ok("halt");
}

static void test_triple_fault(void)
{
	static const uint8_t code[] = {
		0x0f, 0x01, 0x1e, 0x00, 0x20, /* lidt 0x2000: limit 0 */
		0x0f, 0x0b,                   /* ud2 */
	};
	struct tiny tiny;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	CHECK(tiny_run(&tiny) == KVM_RUN_SHUTDOWN);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_SHUTDOWN) == 1);
	tiny_close(&tiny);
	tiny_ok("triple fault");
}

static void test_coalesced(void)
{
	static const uint8_t code[] = {
		0xba,
		0x20,
		0x03,
		0xb0,
		0x41, /* mov $0x320, %dx; mov $'A', %al */
		0xb9,
		0x0a,
		0x00, /* mov $10, %cx */
		0xee,
		0xfe,
		0xc0,
		0xe2,
		0xfb, /* 1: out %al, %dx; inc %al; loop 1b */
		0xba,
		0x00,
		0x03,
		0xee, /* mov $0x300, %dx; out %al, %dx */
		DONE,
	};
	struct tiny tiny;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	if (kvm_vm_coalesce(tiny.vm, true, 0x320, 1) < 0) {
		printf("coalesced ports: this KVM has none\n");
		tiny_close(&tiny);
		return;
	}
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	CHECK(tiny.logged == 11);
	for (unsigned i = 0; i < 10; i++)
		check_access(&tiny.log[i], true, 0x20, 1, 'A' + i);
	check_access(&tiny.log[10], true, 0, 1, 'A' + 10);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_PORT) == 2);
	tiny_close(&tiny);
	tiny_ok("coalesced ports");
}

static void test_statistics(void)
{
	static const uint8_t code[] = {DONE};
	static struct kvm_stat stats[256];
	struct tiny tiny;
	bool found = false; /* a software back end names its counters but need not count */
	int count;

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	count = kvm_vcpu_stats(tiny.vcpu, stats, 256);
	if (!tiny.host.binary_stats)
		CHECK(count == -ENOTSUP);
	for (int i = 0; i < count; i++)
		found |= !strcmp(stats[i].name, "io_exits");
	CHECK(found || !tiny.host.binary_stats);
	tiny_close(&tiny);
	tiny_ok("statistics");
}

int main(void)
{
	test_port_sizes();
	test_port_strings();
	test_mmio();
	test_halt();
	test_triple_fault();
	test_coalesced();
	test_statistics();
	return 0;
}
