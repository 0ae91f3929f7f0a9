/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/boost.h"

#include "base/checked.h"
#include "base/log.h"
#include "base/schedule.h"
#include "machine/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/*
 * #syscalls vcpu: nanosleep clock_nanosleep
 * #syscalls vcpu: prctl(0 = PR_SET_TIMERSLACK)
 */

/* Lower than any user sets; the kernel's own threads are at -20. */
#define BOOST_NICE_LEAST (-19)
/* Nanoseconds by which a sleep may be late; a thread's usual slack is 50 us, more than the shortest
 * patience. */
#define BOOST_SLACK 1000U

void boost_init(struct boost *boost)
{
	*boost = (struct boost){.lenders = 0};
	pthread_mutex_init(&boost->lock, NULL);
}

void boost_destroy(struct boost *boost)
{
	pthread_mutex_destroy(&boost->lock);
}

static bool can_nice(const struct schedule *before)
{
	struct schedule tried = *before;

	tried.nice = before->nice > BOOST_NICE_LEAST ? before->nice - 1 : before->nice;
	tried.slice_ns = LENT_SLICE_NS;
	return schedule_set(0, &tried) == 0;
}

/* A kernel without slices takes the value and forgets it. */
static bool can_slice(const struct schedule *before)
{
	struct schedule tried = *before;

	tried.slice_ns = LENT_SLICE_NS;
	return schedule_set(0, &tried) == 0 && schedule_get(0, &tried) &&
	       tried.slice_ns == LENT_SLICE_NS;
}

static uint64_t usual_slice(const struct schedule *before)
{
	struct schedule usual = *before;

	usual.slice_ns = 0;
	return schedule_set(0, &usual) == 0 && schedule_get(0, &usual) ? usual.slice_ns : 0;
}

struct boost_means boost_find_means(void)
{
	struct boost_means means = {.nice = false};
	struct schedule before;

	if (!schedule_get(0, &before) || !schedule_is_fair(&before))
		return means;
	means.usual_slice_ns = usual_slice(&before);
	means.slice = can_slice(&before);
	means.nice = can_nice(&before);
	if (before.slice_ns == means.usual_slice_ns)
		before.slice_ns = 0;
	schedule_set(0, &before);
	return means;
}

int boost_nice(int nice, unsigned lenders)
{
	/* The weight of one level, in 1/1024 of the level below; the kernel's table rounds to it.
	 */
	enum {
		STEP = 1280
	};
	uint64_t lent = 1024, weight = 1024;

	while (lent * 2 <= 1024ULL * (lenders + 1))
		lent *= 2;
	while (nice > BOOST_NICE_LEAST && weight * STEP / 1024 <= lent) {
		weight = weight * STEP / 1024;
		nice--;
	}
	return nice;
}

/* What its owner has set is kept, each part of it, also when that was done while it was raised. */
static void follow_owner(
	struct boost *boost, const struct schedule *now, const struct boost_means *means)
{
	const struct schedule *ours = boost->raised ? &boost->given : NULL;

	boost->before.policy = now->policy;
	boost->before.flags = now->flags;
	if (!ours || now->nice != ours->nice)
		boost->before.nice = now->nice;
	/* The usual one is to be given back as nobody's choice, which it was. */
	if (!ours || now->slice_ns != ours->slice_ns)
		boost->before.slice_ns = now->slice_ns == means->usual_slice_ns ? 0 : now->slice_ns;
}

static void apply(struct boost *boost, int tid, const struct boost_means *means)
{
	struct schedule now, wanted;

	if (!schedule_get(tid, &now) || !schedule_is_fair(&now))
		return;
	follow_owner(boost, &now, means);
	wanted = boost->before;
	if (means->nice)
		wanted.nice = boost_nice(boost->before.nice, boost->lenders);
	if (means->slice)
		wanted.slice_ns = LENT_SLICE_NS;
	/* RLIMIT_NICE may allow a loan and not two: what one has raised stays to be taken back. */
	if (schedule_set(tid, &wanted) < 0)
		return;
	boost->raised = true;
	boost->given = wanted;
}

static void take_back(struct boost *boost, int tid, const struct boost_means *means)
{
	struct schedule now;

	if (schedule_get(tid, &now) && schedule_is_fair(&now)) {
		follow_owner(boost, &now, means);
		schedule_set(tid, &boost->before);
	}
	boost->raised = false;
}

void boost_lend(struct boost *boost, int tid, const struct boost_means *means)
{
	pthread_mutex_lock(&boost->lock);
	boost->lenders++;
	if (means->nice || means->slice)
		apply(boost, tid, means);
	pthread_mutex_unlock(&boost->lock);
	atomic_fetch_add_explicit(&boost->loans, 1, memory_order_relaxed);
}

/* What the lenders that are left lend comes to the same: two system calls less. */
static bool stays(const struct boost *boost, const struct boost_means *means)
{
	return !means->nice || boost_nice(boost->before.nice, boost->lenders) == boost->given.nice;
}

/* With lenders left the weight is theirs alone: nobody lends what he uses himself. */
void boost_return(struct boost *boost, int tid, const struct boost_means *means)
{
	pthread_mutex_lock(&boost->lock);
	boost->lenders--;
	if (boost->raised && boost->lenders == 0)
		take_back(boost, tid, means);
	else if (boost->raised && !stays(boost, means))
		apply(boost, tid, means);
	pthread_mutex_unlock(&boost->lock);
}

static void tell_means(const struct boost_means *means)
{
	log_info("directed yields: waiting vCPUs sleep and lend %s; the holder's slice is %s",
		means->nice ? "their weight" : "nothing (that needs CAP_SYS_NICE or ulimit -e 40)",
		means->slice ? "a short one" : "as it is (a short one needs Linux 6.12)");
}

/* On the first waiter's thread, which may be somebody's holder itself: nobody else is to change
 * its schedule meanwhile. */
static void find_means(struct machine *machine, struct machine_vcpu *waiter)
{
	pthread_mutex_lock(&machine->boost_lock);
	if (!machine->boost_known) {
		pthread_mutex_lock(&waiter->boost.lock);
		machine->boost_means = boost_find_means();
		pthread_mutex_unlock(&waiter->boost.lock);
		tell_means(&machine->boost_means);
		atomic_store(&machine->boost_known, true);
	}
	pthread_mutex_unlock(&machine->boost_lock);
}

static void sleep_for(struct machine_vcpu *waiter, uint64_t ns)
{
	const struct timespec time = {.tv_nsec = (long)ns};

	if (!waiter->prompt)
		waiter->prompt = prctl(PR_SET_TIMERSLACK, BOOST_SLACK, 0, 0, 0) == 0;
	/* A kick ends it. One that came just before is seen when the vCPU runs again, after
	 * BOOST_PATIENCE_MAX at most. */
	nanosleep(&time, NULL);
}

int machine_boost(struct machine *machine, unsigned waiter, unsigned holder, uint64_t patience_ns)
{
	struct machine_vcpu *from, *to;
	int tid;

	if (waiter >= machine->config.cpus || holder >= machine->config.cpus || waiter == holder)
		return -EINVAL;
	from = &machine->vcpus[waiter];
	to = &machine->vcpus[holder];
	tid = atomic_load(&to->tid);
	if (tid == 0 || patience_ns < BOOST_PATIENCE_MIN)
		return -EAGAIN;
	if (!atomic_load(&machine->boost_known))
		find_means(machine, from);
	boost_lend(&to->boost, tid, &machine->boost_means);
	sleep_for(from, min_u64(patience_ns, BOOST_PATIENCE_MAX));
	boost_return(&to->boost, tid, &machine->boost_means);
	return 0;
}
