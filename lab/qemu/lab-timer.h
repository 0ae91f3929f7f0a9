/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of the lab's QEMU, included by hw/intc/apic.c: a timer's interrupt that got lost comes again.
 *
 * Linux sets the next one from the handler of the last. Where that never ran, its CPU has no more
 * timers for as long as it lives, and whoever waits for RCU there waits for ever. Seen once in some
 * thousand guests: the APIC had given it to the CPU, its end had been signalled, and the handler had
 * not counted it. Why is not known: so each CPU's last interrupts are told with the loss.
 */
#define LAB_PATIENCE_NS (100 * SCALE_MS)
#define LAB_NOTES       32
#define LAB_CPUS        64

/* An interrupt that a CPU took, or whose end it signalled. */
typedef struct LabNote {
    int64_t when;
    uint64_t pc, sp;
    uint32_t flags, flags2, eflags;
    int vector;
    bool ended;
} LabNote;

static LabNote lab_notes[LAB_CPUS][LAB_NOTES];
static unsigned lab_noted[LAB_CPUS];
static int64_t lab_handled[LAB_CPUS]; /* the timer's, last; on a busy machine that may be late */

static void lab_note(const APICCommonState *s, int vector, bool ended)
{
    const CPUX86State *env = &s->cpu->env;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    unsigned cpu = s->initial_apic_id;

    if (cpu < LAB_CPUS) {
        if (vector == (s->lvt[APIC_LVT_TIMER] & 0xff)) {
            lab_handled[cpu] = now;
        }
        lab_notes[cpu][lab_noted[cpu]++ % LAB_NOTES] = (LabNote){
            .when = now,
            .pc = env->eip,
            .sp = env->regs[R_ESP],
            .flags = env->hflags,
            .flags2 = env->hflags2,
            .eflags = env->eflags,
            .vector = vector,
            .ended = ended,
        };
    }
}

static void lab_tell(const APICCommonState *s)
{
    unsigned cpu = s->initial_apic_id;

    error_report("lab: CPU %u lost its timer's interrupt of %" PRId64 " ns; it comes again",
                 cpu, s->next_time);
    for (unsigned i = 0; i < LAB_NOTES; i++) {
        const LabNote *note = &lab_notes[cpu][(lab_noted[cpu] + i) % LAB_NOTES];

        error_report("lab: %" PRId64 " ns: %s %#x, pc %#" PRIx64 ", sp %#" PRIx64
                     ", flags %#x %#x %#x", note->when, note->ended ? "end of" : "takes",
                     note->vector, note->pc, note->sp, note->flags, note->flags2, note->eflags);
    }
}

/* Neither on its way, nor with a handler that has just begun. */
static bool lab_timer_is_lost(APICCommonState *s)
{
    int vector = s->lvt[APIC_LVT_TIMER] & 0xff;
    unsigned cpu = s->initial_apic_id;

    return cpu < LAB_CPUS && !apic_get_bit(s->irr, vector) && !apic_get_bit(s->isr, vector) &&
           qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - lab_handled[cpu] >= LAB_PATIENCE_NS;
}

/* After it was given. Whatever is written to the timer meanwhile takes this look's place. */
static void lab_timer_given(APICCommonState *s)
{
    if (s->timer_expiry == -1) {
        timer_mod(s->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + LAB_PATIENCE_NS);
    }
}

/* Whether this is such a look: there is nothing that the timer itself has to do. */
static bool lab_timer_looks(APICCommonState *s)
{
    if (s->timer_expiry != -1) {
        return false;
    }
    if (lab_timer_is_lost(s)) {
        lab_tell(s);
        apic_local_deliver(s, APIC_LVT_TIMER);
    }
    lab_timer_given(s);
    return true;
}
