/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "base/checked.h"
#include "machine/internal.h"

#include <stdarg.h>
#include <stdio.h>

/*
 * Linux writes this word before each restart: 0x1234 (warm) when it was told so, else 0. With
 * reboot=panic_warm on the command line only a panic is warm, so the word tells the two apart
 * without a device or a driver in the guest.
 */
#define WARM_START_WORD  0x472
#define WARM_START_MAGIC 0x1234

static void stop_main(struct loop_task *task)
{
	struct machine *machine = container_of(task, struct machine, end_task);

	loop_stop(machine->main);
}

void machine_end(struct machine *machine, enum machine_end end, const char *format, ...)
{
	int running = 0;
	va_list args;

	if (!atomic_compare_exchange_strong(&machine->end, &running, (int)end + 1))
		return;
	va_start(args, format);
	vsnprintf(machine->end_text, sizeof(machine->end_text), format, args);
	va_end(args);
	atomic_store(&machine->ending, true);
	loop_post(machine->main, &machine->end_task);
}

void machine_power_init(struct machine *machine)
{
	machine->end_task.run = stop_main;
}

static void power_off(void *opaque)
{
	machine_end(opaque, MACHINE_POWERED_OFF, "the guest powered off");
}

static void reset(void *opaque)
{
	struct machine *machine = opaque;
	uint8_t word[2] = {0};

	if (memory_read(&machine->memory, GPA(WARM_START_WORD), word, sizeof(word)) == 0 &&
		load_le16(word) == WARM_START_MAGIC)
		machine_end(machine, MACHINE_PANICKED,
			"the guest kernel panicked; its last lines on the console say why");
	else
		machine_end(machine, MACHINE_RESET, "the guest asked for a reset");
}

const struct power_events machine_power_events = {
	.power_off = power_off,
	.reset = reset,
};
