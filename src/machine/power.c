/* SPDX-License-Identifier: Apache-2.0 */
/* What ends or resets a machine: the guest's wishes, and the owner's. */
#include "base/bytes.h"
#include "machine/internal.h"
#include "x86/layout.h"

#include <errno.h>

/*
 * Linux writes this word before each restart: 0x1234 (warm) when it was told so, else 0. With
 * reboot=panic_warm on the command line only a panic is warm, so the word tells the two apart
 * without a device or a driver in the guest. At the start it is neither: so a triple fault by which
 * a guest restarts (reboot=t) is told from one that happened to it.
 */
#define WARM_START_WORD  0x472
#define WARM_START_MAGIC 0x1234
#define WARM_START_UNSET 0xd0e7

/* Where a PC's BIOS is entered, and guests jump to that restart by it (reboot=b): mov al, 0xfe;
 * out 0x64, al; then hlt for ever. */
static const uint8_t reset_vector[] = {0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd};

int machine_prepare_restart(struct machine *machine, struct error *err)
{
	uint8_t word[2];
	int ret;

	store_le16(word, WARM_START_UNSET);
	ret = memory_write(&machine->memory, GPA(WARM_START_WORD), word, sizeof(word));
	if (ret == 0)
		ret = memory_write(&machine->memory, GPA(LAYOUT_RESET_VECTOR), reset_vector,
			sizeof(reset_vector));
	return ret < 0 ? error_set(err, ENOMEM, "--memory: no RAM below 1 MiB; give more") : 0;
}

void machine_end(struct machine *machine, enum machine_end end, const char *format, ...)
{
	va_list args;

	/* First, and not after the wish: by then the main thread may have let go of them again. */
	machine_halt_vcpus(machine);
	va_start(args, format);
	lifecycle_end(&machine->life, end, format, args);
	va_end(args);
}

void machine_ask_reset(struct machine *machine)
{
	if (machine->config.on_reset == RESET_EXIT) {
		machine_end(machine, MACHINE_RESET, "the guest asked for a reset");
		return;
	}
	machine_halt_vcpus(machine);
	lifecycle_ask_reset(&machine->life);
}

void machine_kill(struct machine *machine, const char *why)
{
	machine_end(machine, MACHINE_KILLED, "%s", why);
	lifecycle_kill(&machine->life);
}

void machine_starve(struct machine *machine, const char *why)
{
	machine_end(machine, MACHINE_FAILED, "%s", why);
	lifecycle_kill(&machine->life);
}

bool machine_press_power(struct machine *machine)
{
	return machine->life.state >= MACHINE_BUILT && acpi_pm_power_button(machine->pm);
}

int machine_press_ctrl_alt_del(struct machine *machine)
{
	if (!machine->config.keyboard)
		return -ENOTSUP;
	/* What rests may be about to be saved. */
	if (machine->life.state != MACHINE_RUNNING)
		return -EAGAIN;
	return keyboard_ctrl_alt_del(machine->keyboard) ? 0 : -EAGAIN;
}

enum machine_end machine_outcome(const struct machine *machine, const char **why)
{
	*why = machine->life.end_text;
	return (enum machine_end)(atomic_load(&machine->life.end) - 1);
}

static void power_off(void *opaque)
{
	machine_end(opaque, MACHINE_POWERED_OFF, "the guest powered off");
}

static unsigned warm_start_word(struct machine *machine)
{
	uint8_t word[2] = {0};

	memory_read(&machine->memory, GPA(WARM_START_WORD), word, sizeof(word));
	return load_le16(word);
}

static void guest_reset(void *opaque)
{
	struct machine *machine = opaque;

	if (warm_start_word(machine) == WARM_START_MAGIC)
		machine_end(machine, MACHINE_PANICKED,
			"the guest kernel panicked; its last lines on the console say why");
	else
		machine_ask_reset(machine);
}

void machine_triple_fault(struct machine *machine, unsigned vcpu)
{
	const unsigned word = warm_start_word(machine);

	/* The guest has said before that it restarts: as on a PC, a triple fault is a way to. */
	if (word == WARM_START_MAGIC || word == 0)
		guest_reset(machine);
	else
		machine_end(machine, MACHINE_TRIPLE_FAULT,
			"vCPU %u shut down after a triple fault: the guest's kernel went wrong, or "
			"is not made for this machine",
			vcpu);
}

const struct power_events machine_power_events = {
	.power_off = power_off,
	.reset = guest_reset,
};
