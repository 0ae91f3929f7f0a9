/* SPDX-License-Identifier: Apache-2.0 */
#include "tiny.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <string.h>

#define SKIP             77
#define TIME_LIMIT_S     30
#define APIC_SVR         0xf0
#define APIC_SVR_ENABLED 0x1ff
#define APIC_BASE_X2APIC 0xc00ULL

static uint64_t record_read(struct tiny *tiny, bool port, uint64_t offset, unsigned size)
{
	const struct access access = {.offset = offset, .size = size, .port = port};

	if (tiny->logged < 64)
		tiny->log[tiny->logged++] = access;
	if (tiny->touched)
		tiny->touched(tiny, &access);
	return tiny->answer;
}

static void record_write(
	struct tiny *tiny, bool port, uint64_t offset, unsigned size, uint64_t value)
{
	const struct access access = {
		.offset = offset, .value = value, .size = size, .write = true, .port = port};

	if (tiny->logged < 64)
		tiny->log[tiny->logged++] = access;
	if (tiny->touched)
		tiny->touched(tiny, &access);
}

static uint64_t port_read(void *tiny, uint64_t offset, unsigned size)
{
	return record_read(tiny, true, offset, size);
}

static void port_write(void *tiny, uint64_t offset, unsigned size, uint64_t value)
{
	record_write(tiny, true, offset, size, value);
}

static uint64_t mmio_read(void *tiny, uint64_t offset, unsigned size)
{
	return record_read(tiny, false, offset, size);
}

static void mmio_write(void *tiny, uint64_t offset, unsigned size, uint64_t value)
{
	record_write(tiny, false, offset, size, value);
}

static void done_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct tiny *tiny = opaque;

	tiny->done = (int)value;
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};
static const struct bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write};
static const struct bus_ops done_ops = {.write = done_write};

static void must(int ret, const struct error *err)
{
	if (ret >= 0)
		return;
	printf("failed: %s\n", err->text);
	exit(1);
}

static void open_host(struct tiny *tiny)
{
	struct error err = {0};

	if (kvm_host_open(&tiny->host, &err) < 0) {
		printf("skipped: %s\n", err.text);
		exit(SKIP);
	}
}

static void map_devices(struct tiny *tiny)
{
	tiny->done_range = (struct bus_range){.name = "done", .ops = &done_ops, .device = tiny};
	tiny->port_range = (struct bus_range){.name = "test", .ops = &port_ops, .device = tiny};
	tiny->mmio_range = (struct bus_range){.name = "test", .ops = &mmio_ops, .device = tiny};
	CHECK(bus_new(&tiny->ports, "ports") == 0);
	CHECK(bus_new(&tiny->mmio, "mmio") == 0);
	CHECK(bus_map(tiny->ports, &tiny->done_range, TINY_DONE, 1) == 0);
	CHECK(bus_map(tiny->ports, &tiny->port_range, TINY_TEST, TINY_TEST_SIZE) == 0);
	CHECK(bus_map(tiny->mmio, &tiny->mmio_range, TINY_MMIO, TINY_MMIO_SIZE) == 0);
}

static void real_mode(struct kvm_segment *segment, uint64_t base)
{
	segment->base = base;
	segment->selector = (uint16_t)(base >> 4);
}

static void set_registers(struct tiny *tiny)
{
	const struct kvm_regs regs = {.rip = TINY_CODE, .rflags = 2, .rsp = TINY_STACK};
	struct kvm_sregs sregs;
	struct error err = {0};

	CHECK(kvm_vcpu_get_sregs(tiny->vcpu, &sregs) == 0);
	real_mode(&sregs.cs, 0);
	real_mode(&sregs.ds, 0);
	real_mode(&sregs.es, 0);
	real_mode(&sregs.ss, 0);
	real_mode(&sregs.fs, TINY_MMIO);
	must(kvm_vcpu_set_registers(tiny->vcpu, &regs, &sregs, &err), &err);
}

static void open_vm(struct tiny *tiny, const struct kvm_vm_options *options, uint64_t more)
{
	struct error err = {0};

	memset(tiny, 0, sizeof(*tiny));
	tiny->done = -1;
	alarm(TIME_LIMIT_S); /* a test that hangs ends by the signal */
	open_host(tiny);
	must(kvm_vm_new(&tiny->vm, &tiny->host, options, &err), &err);
	memory_init(&tiny->memory);
	must(memory_add(&tiny->memory, GPA(0), TINY_RAM, MEMORY_ANONYMOUS, "low", &err), &err);
	if (more)
		must(memory_add(
			     &tiny->memory, GPA(TINY_MORE), more, MEMORY_ANONYMOUS, "more", &err),
			&err);
	must(kvm_vm_map_memory(tiny->vm, &tiny->memory, &err), &err);
	map_devices(tiny);
	must(kvm_vcpu_new(&tiny->vcpu, tiny->vm, 0, tiny->ports, tiny->mmio, &err), &err);
	must(kvm_vcpu_set_runnable(tiny->vcpu, true, &err), &err);
	set_registers(tiny);
}

void tiny_open(struct tiny *tiny, enum kvm_vm_irqchip irqchip)
{
	const struct kvm_vm_options options = {
		.irqchip = irqchip, .cpus = 1, .reserved_gpa = 0xfeffc000};

	open_vm(tiny, &options, 0);
}

static void flat(struct kvm_segment *segment, uint8_t type)
{
	*segment = (struct kvm_segment){.limit = UINT32_MAX,
		.selector = 8,
		.type = type,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1};
}

void tiny_open_flat(struct tiny *tiny, bool ring)
{
	const struct kvm_vm_options options = {.irqchip = KVM_VM_IRQCHIP_NONE,
		.cpus = 1,
		.reserved_gpa = 0xfeffc000,
		.dirty_ring = ring};
	struct kvm_sregs sregs;

	open_vm(tiny, &options, (uint64_t)TINY_MORE_PAGES * MEMORY_PAGE);
	CHECK(kvm_vcpu_get_sregs(tiny->vcpu, &sregs) == 0);
	flat(&sregs.cs, 0xb);
	flat(&sregs.ds, 3);
	flat(&sregs.es, 3);
	flat(&sregs.ss, 3);
	sregs.cr0 |= 1;
	CHECK(kvm_ioctl(tiny->vcpu->fd, KVM_SET_SREGS, &sregs) == 0);
}

void tiny_close(struct tiny *tiny)
{
	kvm_vcpu_free(tiny->vcpu);
	kvm_vm_free(tiny->vm);
	kvm_host_close(&tiny->host);
	memory_free(&tiny->memory);
	bus_free(tiny->ports);
	bus_free(tiny->mmio);
}

uint8_t *tiny_ram(struct tiny *tiny, uint32_t address)
{
	uint8_t *ram = memory_begin(&tiny->memory, GPA(address), 1);

	CHECK(ram);
	return ram;
}

void tiny_load(struct tiny *tiny, uint32_t address, const void *code, size_t length)
{
	CHECK(memory_write(&tiny->memory, GPA(address), code, length) == 0);
}

enum kvm_run_result tiny_run(struct tiny *tiny)
{
	enum kvm_run_result result = KVM_RUN_AGAIN;

	tiny->done = -1;
	while (result == KVM_RUN_AGAIN && tiny->done < 0)
		result = kvm_vcpu_run(tiny->vcpu);
	if (result == KVM_RUN_ERROR)
		printf("%s\n", kvm_vcpu_error(tiny->vcpu));
	return result;
}

void tiny_enable_lapic(struct tiny *tiny)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + KVM_CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	struct error err = {0};

	CHECK(cpuid);
	must(kvm_host_supported_cpuid(&tiny->host, cpuid, KVM_CPUID_ENTRIES, &err), &err);
	must(kvm_vcpu_set_cpuid(tiny->vcpu, cpuid, true, &err), &err);
	CHECK(kvm_ioctl(tiny->vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	sregs.apic_base |= APIC_BASE_X2APIC;
	CHECK(kvm_ioctl(tiny->vcpu->fd, KVM_SET_SREGS, &sregs) == 0);
	CHECK(kvm_ioctl(tiny->vcpu->fd, KVM_GET_LAPIC, &lapic) == 0);
	store_le32(lapic.regs + APIC_SVR, APIC_SVR_ENABLED);
	CHECK(kvm_ioctl(tiny->vcpu->fd, KVM_SET_LAPIC, &lapic) == 0);
}

void tiny_set_vector(struct tiny *tiny, unsigned vector, uint32_t handler)
{
	store_le16(tiny_ram(tiny, vector * 4), (uint16_t)handler);
	store_le16(tiny_ram(tiny, vector * 4 + 2), 0);
}

void tiny_ok(const char *name)
{
	printf("%s: ok\n", name);
	fflush(stdout);
}
