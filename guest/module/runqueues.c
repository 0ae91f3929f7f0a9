// SPDX-License-Identifier: GPL-2.0-only
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "runqueues.h"

#define ROUNDS 20

static unsigned long base; /* of all run queues, without their CPUs' offsets; 0: not known yet */

static struct {
	raw_spinlock_t lock;
	unsigned int count;
	unsigned long *queues; /* nr_cpu_ids of them; null: nobody learns */
} seen = {.lock = __RAW_SPIN_LOCK_UNLOCKED(seen.lock)};

static void look(unsigned long queue)
{
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&seen.lock, flags);
	if (seen.queues) {
		for (i = 0; i < seen.count && seen.queues[i] != queue; i++)
			;
		if (i == seen.count && i < nr_cpu_ids)
			seen.queues[seen.count++] = queue;
	}
	raw_spin_unlock_irqrestore(&seen.lock, flags);
}

static int cpu_of(unsigned long queue, unsigned long from)
{
	unsigned int cpu = raw_smp_processor_id();

	if (queue - per_cpu_offset(cpu) == from)
		return cpu;
	for_each_possible_cpu(cpu)
		if (queue - per_cpu_offset(cpu) == from)
			return cpu;
	return -1;
}

int duet_runqueue_cpu(const struct rq *rq)
{
	unsigned long from = READ_ONCE(base);

	if (from)
		return cpu_of((unsigned long)rq, from);
	look((unsigned long)rq);
	return -1;
}

static void nothing(struct work_struct *work)
{
}

static void wake_each(void)
{
	static DECLARE_WORK(work, nothing);
	unsigned int cpu;

	for_each_online_cpu(cpu) {
		schedule_work_on(cpu, &work);
		flush_work(&work);
	}
}

/* When one queue of each online CPU is there, the lowest is of the CPU with the lowest offset. */
static unsigned long found(void)
{
	unsigned long offset = ULONG_MAX, queue = ULONG_MAX;
	unsigned int i;
	int cpu;

	if (seen.count != num_online_cpus())
		return 0;
	for_each_online_cpu(cpu)
		offset = min(offset, per_cpu_offset(cpu));
	for (i = 0; i < seen.count; i++)
		queue = min(queue, seen.queues[i]);
	for (i = 0; i < seen.count; i++) {
		cpu = cpu_of(seen.queues[i], queue - offset);
		if (cpu < 0 || !cpu_online(cpu))
			return 0;
	}
	return queue - offset;
}

/* No CPU comes or goes meanwhile. */
static void learn(void)
{
	unsigned int round;

	cpus_read_lock();
	for (round = 0; round < ROUNDS && seen.count < num_online_cpus(); round++) {
		wake_each();
		/* 6.12 may leave a thread that has just blocked in its queue for a moment. */
		msleep(5);
	}
	raw_spin_lock_irq(&seen.lock);
	WRITE_ONCE(base, found());
	raw_spin_unlock_irq(&seen.lock);
	cpus_read_unlock();
}

int duet_runqueues_learn(void)
{
	unsigned long *queues;

	if (base)
		return 0;
	queues = kcalloc(nr_cpu_ids, sizeof(*queues), GFP_KERNEL);
	if (!queues)
		return -ENOMEM;
	raw_spin_lock_irq(&seen.lock);
	seen.count = 0;
	seen.queues = queues;
	raw_spin_unlock_irq(&seen.lock);
	learn();
	raw_spin_lock_irq(&seen.lock);
	seen.queues = NULL;
	raw_spin_unlock_irq(&seen.lock);
	kfree(queues);
	return base ? 0 : -EOPNOTSUPP;
}
