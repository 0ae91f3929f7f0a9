/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs that are kept out of the guest for a share of the time, so that memory that is copied
 * meanwhile is written to more slowly than it is copied. */
#include "base/clock.h"
#include "machine/internal.h"

#define PERIOD_NS 10000000ULL

void machine_throttle_tick(struct loop_timer *timer)
{
	struct machine *machine = container_of(timer, struct machine, throttle.timer);
	uint64_t now = clock_ns(), until = now + PERIOD_NS * machine->throttle.percent / 100;

	/* By the end of this timer's next turn all are back, whoever was late. */
	for (unsigned i = 0; i < machine->config.cpus; i++)
		atomic_store(&machine->vcpus[i].out_until, until);
	machine_kick_vcpus(machine);
	loop_timer_at(machine->owner.loop, timer, now + PERIOD_NS);
}

void machine_throttle(struct machine *machine, unsigned percent)
{
	if (percent > MACHINE_THROTTLE_MAX)
		percent = MACHINE_THROTTLE_MAX;
	machine->throttle.percent = percent;
	if (!percent)
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
