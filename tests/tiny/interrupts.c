/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and doorbells: irqfd through an MSI route, lines through either irqchip, the EOI of a
 * level-triggered interrupt, ioeventfd. */
#include "tiny.h"

#include "emulated/board.h"
#include "x86/layout.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define VECTOR      0x40
#define PIN         5
#define MSI_ADDRESS 0xfee00000ULL /* APIC id 0, physical */
#define DONE        0xe6, TINY_DONE

/* sti; 1: hlt; jmp 1b */
static const uint8_t idle[] = {0xfb, 0xf4, 0xeb, 0xfd};

/* Touches the device, ends the interrupt through x2APIC and says so. */
static const uint8_t handler[] = {
	0x66, 0x50, 0x66, 0x51, 0x66, 0x52,             /* push %eax, %ecx, %edx */
	0xba, 0x00, 0x03, 0xec,                         /* mov $0x300, %dx; in %dx, %al */
	0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00,             /* mov $0x80b, %ecx: EOI */
	0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, 0x0f, 0x30, /* wrmsr of 0 */
	0xb0, 0x07, DONE,                               /* mov $7, %al */
	0x66, 0x5a, 0x66, 0x59, 0x66, 0x58,             /* pop %edx, %ecx, %eax */
	0xcf,                                           /* iret */
};

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	CHECK(fd >= 0);
	return fd;
}

static uint64_t taken(int fd)
{
	eventfd_t value = 0;

	return eventfd_read(fd, &value) == 0 ? value : 0;
}

static void open_idle(struct tiny *tiny, enum kvm_vm_irqchip irqchip)
{
	tiny_open(tiny, irqchip);
	tiny_load(tiny, TINY_CODE, idle, sizeof(idle));
	tiny_load(tiny, TINY_HANDLER, handler, sizeof(handler));
	tiny_set_vector(tiny, VECTOR, TINY_HANDLER);
	tiny_set_vector(tiny, VECTOR + 1, TINY_HANDLER);
	tiny_enable_lapic(tiny);
}

static void test_irqfd(enum kvm_vm_irqchip irqchip, const char *name)
{
	struct tiny tiny;
	struct bus_host *host;
	unsigned gsi, other;
	int fd = new_eventfd(), dead = new_eventfd();

	open_idle(&tiny, irqchip);
	host = kvm_vm_bus_host(tiny.vm);
	/* KVM refuses this message, with its x2APIC API; that is nobody else's concern. */
	CHECK(host->ops->msi_add(host, 1ULL << 32 | MSI_ADDRESS, VECTOR + 9, &other) == 0);
	if (host->ops->irqfd_attach(host, other, dead) == 0)
		host->ops->irqfd_detach(host, other, dead);
	CHECK(host->ops->msi_add(host, MSI_ADDRESS, VECTOR, &gsi) == 0);
	CHECK(gsi >= LAYOUT_IRQ_PINS && gsi != other);
	CHECK(host->ops->irqfd_attach(host, gsi, fd) == 0);
	CHECK(eventfd_write(fd, 1) == 0);
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	CHECK(tiny.done == 7 && tiny.logged == 1);
	/* Another vector while attached, and the route of a removed neighbour must not matter. */
	host->ops->msi_remove(host, other);
	CHECK(host->ops->msi_change(host, gsi, MSI_ADDRESS, VECTOR + 1) == 0);
	tiny_set_vector(&tiny, VECTOR, 0x1900); /* would run into zeroes */
	CHECK(eventfd_write(fd, 1) == 0);
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	CHECK(tiny.done == 7 && tiny.logged == 2);
	host->ops->irqfd_detach(host, gsi, fd);
	CHECK(eventfd_write(fd, 1) == 0);
	CHECK(taken(fd) == 1); /* nobody in the kernel took it */
	close(fd);
	close(dead);
	tiny_close(&tiny);
	tiny_ok(name);
}

static int send_msi(void *opaque, uint64_t address, uint32_t data)
{
	return kvm_vm_signal_msi(opaque, address, data);
}

static int set_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked)
{
	return kvm_vm_route_pin(opaque, pin, address, data, masked);
}

static void set_line(void *ioapic, unsigned pin, bool level)
{
	ioapic_set_line(ioapic, pin, level);
}

static void eoi(void *ioapic, unsigned vector)
{
	ioapic_eoi(ioapic, vector);
}

static void ioapic_write(struct tiny *tiny, unsigned index, uint32_t value)
{
	bus_write(tiny->mmio, LAYOUT_IOAPIC, 4, index);
	bus_write(tiny->mmio, LAYOUT_IOAPIC + 0x10, 4, value);
}

static uint64_t ioapic_read(struct tiny *tiny, unsigned index)
{
	uint64_t value;

	bus_write(tiny->mmio, LAYOUT_IOAPIC, 4, index);
	bus_read(tiny->mmio, LAYOUT_IOAPIC + 0x10, 4, &value);
	return value;
}

/* The handler's IN lowers the line, like the status register of a device. */
static void lower_line(struct tiny *tiny, const struct access *access)
{
	struct bus_host *host = kvm_vm_bus_host(tiny->vm);

	if (tiny->logged != 2) /* the second time it stays up: the EOI must bring it again */
		host->ops->set_line(host, PIN, false);
}

static void test_split_level(void)
{
	struct tiny tiny;
	struct device *ioapic;
	struct bus_host *host;
	struct error err = {0};

	open_idle(&tiny, KVM_VM_IRQCHIP_SPLIT);
	CHECK(ioapic_new(&ioapic,
		      &(struct ioapic_host){
			      .send_msi = send_msi, .set_route = set_route, .opaque = tiny.vm},
		      &err) == 0);
	CHECK(ioapic->ops->realize(ioapic, &(struct device_place){.mmio = tiny.mmio}, &err) == 0);
	kvm_vm_set_ioapic(tiny.vm, set_line, ioapic);
	kvm_vm_set_eoi(tiny.vm, eoi, ioapic);
	host = kvm_vm_bus_host(tiny.vm);
	tiny.touched = lower_line;
	ioapic_write(&tiny, 0x11 + 2 * PIN, 0);
	ioapic_write(&tiny, 0x10 + 2 * PIN, 0x8000 | VECTOR); /* level, not masked */
	host->ops->set_line(host, PIN, true);
	CHECK(ioapic_read(&tiny, 0x10 + 2 * PIN) & 0x4000); /* remote IRR */
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN && tiny.done == 7 && tiny.logged == 1);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_MSI_EOI) == 1);
	CHECK(!(ioapic_read(&tiny, 0x10 + 2 * PIN) & 0x4000));
	host->ops->set_line(host, PIN, true);
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN && tiny.logged == 2);
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN && tiny.logged == 3);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_MSI_EOI) == 3);
	ioapic->ops->free(ioapic);
	tiny_close(&tiny);
	tiny_ok("split irqchip, level and EOI");
}

static void test_doorbells(void)
{
	static const uint8_t code[] = {
		0xba,
		0x10,
		0x03,
		0xee,
		0xef,
		0x66,
		0xef, /* mov $0x310, %dx; out, three sizes */
		0x64,
		0xc7,
		0x06,
		0x00,
		0x01,
		0x03,
		0x00, /* movw $3, %fs:0x100 */
		0x64,
		0xc7,
		0x06,
		0x00,
		0x01,
		0x04,
		0x00, /* movw $4, %fs:0x100 */
		DONE,
	};
	struct tiny tiny;
	struct bus_host *host;
	int any = new_eventfd(), matching = new_eventfd();

	tiny_open(&tiny, KVM_VM_IRQCHIP_KERNEL);
	tiny_load(&tiny, TINY_CODE, code, sizeof(code));
	host = kvm_vm_bus_host(tiny.vm);
	CHECK(host->ops->doorbell_add(host, true, 0x310, 0, false, 0, any) == 0);
	CHECK(host->ops->doorbell_add(host, false, TINY_MMIO + 0x100, 2, true, 3, matching) == 0);
	CHECK(tiny_run(&tiny) == KVM_RUN_AGAIN);
	CHECK(taken(any) == (tiny.host.ioeventfd_any_length ? 3 : 2));
	CHECK(taken(matching) == 1);
	CHECK(tiny.log[tiny.logged - 1].value == 4); /* the value that did not match */
	CHECK(!tiny.host.ioeventfd_any_length || tiny.logged == 1);
	host->ops->doorbell_remove(host, true, 0x310, 0, false, 0, any);
	host->ops->doorbell_remove(host, false, TINY_MMIO + 0x100, 2, true, 3, matching);
	CHECK(host->ops->doorbell_add(host, true, 0x310, 0, false, 0, any) == 0);
	close(any);
	close(matching);
	tiny_close(&tiny);
	tiny_ok("doorbells");
}

int main(void)
{
	test_doorbells();
	test_irqfd(KVM_VM_IRQCHIP_KERNEL, "irqfd, in-kernel irqchip");
	test_irqfd(KVM_VM_IRQCHIP_SPLIT, "irqfd, split irqchip");
	test_split_level();
	return 0;
}
