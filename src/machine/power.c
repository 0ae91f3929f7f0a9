/* SPDX-License-Identifier: Apache-2.0 */
/* What ends or resets a machine: the guest's wishes, and the owner's. */
#include "base/bytes.h"
#include "machine/internal.h"

/*
 * Linux writes this word before each restart: 0x1234 (warm) when it was told so, else 0. With
 * reboot=panic_warm on the command line only a panic is warm, so the word tells the two apart
 * without a device or a driver in the guest.
 */
#define WARM_START_WORD  0x472
#define WARM_START_MAGIC 0x1234

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

bool machine_press_power(struct machine *machine)
{
	return machine->life.state >= MACHINE_BUILT && acpi_pm_power_button(machine->pm);
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

static void guest_reset(void *opaque)
{
	struct machine *machine = opaque;
	uint8_t word[2] = {0};

	if (memory_read(&machine->memory, GPA(WARM_START_WORD), word, sizeof(word)) == 0 &&
		load_le16(word) == WARM_START_MAGIC)
		machine_end(machine, MACHINE_PANICKED,
			"the guest kernel panicked; its last lines on the console say why");
	else
		machine_ask_reset(machine);
}

const struct power_events machine_power_events = {
	.power_off = power_off,
	.reset = guest_reset,
};
