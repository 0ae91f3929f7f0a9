/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state that belongs to the VM as a whole: its clock and the in-kernel interrupt chips. */
#include "kvm/internal.h"

#include "state/state.h"

#include <string.h>

/*
 * #syscalls main: ioctl(KVM_GET_IRQCHIP) ioctl(KVM_SET_IRQCHIP)
 * #syscalls main: ioctl(KVM_GET_PIT2) ioctl(KVM_SET_PIT2)
 */

#define CHIPS 3 /* KVM_IRQCHIP_PIC_MASTER, PIC_SLAVE, IOAPIC are 0, 1, 2 */

static int save_chips(struct kvm_vm *vm, struct state_writer *writer)
{
	struct kvm_pit_state2 pit;
	int ret;

	for (uint32_t id = 0; id < CHIPS; id++) {
		struct kvm_irqchip chip = {.chip_id = id};

		ret = kvm_ioctl(vm->fd, KVM_GET_IRQCHIP, &chip);
		if (ret < 0)
			return ret;
		state_put_bytes(writer, &chip.chip, sizeof(chip.chip));
	}
	if (!vm->options.pit)
		return 0;
	memset(&pit, 0, sizeof(pit));
	ret = kvm_ioctl(vm->fd, KVM_GET_PIT2, &pit);
	if (ret == 0)
		state_put_bytes(writer, &pit, sizeof(pit));
	return ret;
}

int kvm_vm_save(struct kvm_vm *vm, struct state_writer *writer)
{
	int ret = kvm_clock_save(vm, writer);

	if (ret < 0)
		return ret;
	state_put_u8(writer, (uint8_t)vm->options.irqchip);
	state_put_bool(writer, vm->options.pit);
	return vm->options.irqchip == KVM_VM_IRQCHIP_KERNEL ? save_chips(vm, writer) : 0;
}

static int restore_chips(struct kvm_vm *vm, struct state_reader *reader, struct error *err)
{
	struct kvm_pit_state2 pit;
	int ret = 0;

	for (uint32_t id = 0; id < CHIPS && ret == 0; id++) {
		struct kvm_irqchip chip = {.chip_id = id};

		state_get_bytes(reader, &chip.chip, sizeof(chip.chip));
		ret = reader->failed ? -EINVAL : kvm_ioctl(vm->fd, KVM_SET_IRQCHIP, &chip);
	}
	if (ret == 0 && vm->options.pit) {
		state_get_bytes(reader, &pit, sizeof(pit));
		ret = reader->failed ? -EINVAL : kvm_ioctl(vm->fd, KVM_SET_PIT2, &pit);
	}
	return ret < 0 ? error_errno(err, -ret, "saved VM: interrupt controllers") : 0;
}

static int restore_rest(struct kvm_vm *vm, struct state_reader *reader, struct error *err)
{
	const unsigned irqchip = state_get_u8(reader);
	const bool pit = state_get_bool(reader);

	if (reader->failed || irqchip != (unsigned)vm->options.irqchip || pit != vm->options.pit)
		return error_set(
			err, EINVAL, "saved VM: its interrupt controllers are not this machine's");
	return vm->options.irqchip == KVM_VM_IRQCHIP_KERNEL ? restore_chips(vm, reader, err) : 0;
}

int kvm_vm_restore(struct kvm_vm *vm, struct state_reader *reader, struct error *err)
{
	int ret = kvm_clock_restore(vm, reader, err);

	return ret < 0 ? ret : restore_rest(vm, reader, err);
}

int kvm_vm_restore_fresh(struct kvm_vm *vm, struct state_reader *reader, struct error *err)
{
	int ret = kvm_clock_make_fresh(vm, reader, err);

	return ret < 0 ? ret : restore_rest(vm, reader, err);
}
