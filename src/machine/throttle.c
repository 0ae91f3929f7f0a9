/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs that are kept out of the guest for a share of the time, so that memory that is copied
 * meanwhile is written to more slowly than it is copied. */
#include "base/clock.h"
#include "machine/internal.h"

#include <string.h>

#define PERIOD_NS 10000000ULL

void machine_throttle_tick(struct loop_timer *timer)
{
	struct machine *machine = container_of(timer, struct machine, throttle.timer);
	uint64_t now = clock_ns();

	/* By the end of this timer's next turn all are back, whoever was late. Who is not held is
	 * not disturbed either. */
	for (unsigned i = 0; i < machine->config.cpus; i++) {
		const unsigned percent = machine->throttle.percent[i];

		if (!percent)
			continue;
		atomic_store(&machine->vcpus[i].out_until, now + PERIOD_NS * percent / 100);
		machine_kick_vcpu(&machine->vcpus[i]);
	}
	loop_timer_at(machine->owner.loop, timer, now + PERIOD_NS);
}

static bool holds_any(const struct machine *machine)
{
	for (unsigned i = 0; i < machine->config.cpus; i++)
		if (machine->throttle.percent[i])
			return true;
	return false;
}

void machine_throttle(struct machine *machine, const uint8_t percent[MACHINE_CPUS_MAX])
{
	memset(machine->throttle.percent, 0, sizeof(machine->throttle.percent));
	for (unsigned i = 0; percent && i < machine->config.cpus; i++)
		machine->throttle.percent[i] =
			percent[i] < MACHINE_THROTTLE_MAX ? percent[i] : MACHINE_THROTTLE_MAX;
	if (!holds_any(machine))
		loop_timer_stop(&machine->throttle.timer);
	else if (!loop_timer_set(&machine->throttle.timer))
		machine_throttle_tick(&machine->throttle.timer);
}

void machine_stay_out(struct machine_vcpu *vcpu)
{
	uint64_t until = atomic_exchange(&vcpu->out_until, 0);

	if (until)
		gate_hold(&vcpu->machine->gate, until);
}
