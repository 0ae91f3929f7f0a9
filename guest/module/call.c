// SPDX-License-Identifier: GPL-2.0-only
/* Fast calls: arguments in this CPU's page, one port write, results in the same page. */
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/string.h>

#include "duet.h"

/* No status of the device's is this: what stays in the page when nothing answers. */
#define UNANSWERED 1

u32 duet_vcpu(unsigned int cpu)
{
	return cpu_physical_id(cpu);
}

struct duet_coop_page *duet_page(struct duet *duet, unsigned int cpu)
{
	u32 vcpu = duet_vcpu(cpu);

	return vcpu < duet->vcpus ? &duet->pages[vcpu] : NULL;
}

/* The device's status as one of ours: it may say anything. */
static int status_of(s32 status)
{
	switch (status) {
	case 0:
	case -DUET_COOP_EPERM:
	case -DUET_COOP_EIO:
	case -DUET_COOP_EAGAIN:
	case -DUET_COOP_ENOMEM:
	case -DUET_COOP_EFAULT:
	case -DUET_COOP_EINVAL:
	case -DUET_COOP_ENOSPC:
	case -DUET_COOP_ENOSYS:
	case -DUET_COOP_ENOTSUP:
		return status; /* Linux's own numbers */
	default:
		return -EPROTO;
	}
}

static int call_here(struct duet *duet, u32 function, const u64 *arguments, unsigned int count,
		     u64 *values)
{
	unsigned int cpu = smp_processor_id();
	struct duet_coop_page *page = duet_page(duet, cpu);
	struct duet_coop_call_part *call;
	unsigned int i;

	if (!page)
		return -ENODEV;
	call = &page->call;
	WRITE_ONCE(call->function, function);
	WRITE_ONCE(call->status, UNANSWERED);
	for (i = 0; i < ARRAY_SIZE(call->arguments); i++)
		WRITE_ONCE(call->arguments[i], i < count ? arguments[i] : 0);
	/* outb() is no barrier for the compiler. */
	barrier();
	outb(0, duet->call_port + duet_vcpu(cpu));
	barrier();
	for (i = 0; values && i < ARRAY_SIZE(call->values); i++)
		values[i] = READ_ONCE(call->values[i]);
	return status_of(READ_ONCE(call->status));
}

int duet_call(struct duet *duet, u32 function, const u64 *arguments, unsigned int count,
	      u64 *values)
{
	unsigned long flags;
	int status;

	if (count > ARRAY_SIZE(((struct duet_coop_call_part *)0)->arguments))
		return -EINVAL;
	if (READ_ONCE(duet->gone))
		return -ENODEV;
	/* A call from an interrupt would fill the page anew under this one. */
	local_irq_save(flags);
	status = call_here(duet, function, arguments, count, values);
	local_irq_restore(flags);
	return status;
}
