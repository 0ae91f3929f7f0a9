// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lock bench: threads, each bound to a CPU, that take one lock and let it go. In debugfs:
 *
 *   echo call threads=8 hold=2000 outside=2000 ms=1000 > /sys/kernel/debug/duet-locks
 *   cat /sys/kernel/debug/duet-locks
 *
 * The write returns when it is over. Kinds:
 *   tas        test and set: a waiter spins
 *   queued     the kernel's spinlock: its native queue, or with PV waiting and kicking, as it runs
 *   hypercall  test and set whose waiter, after `threshold`, yields to the holder's vCPU by KVM's own
 *   call       likewise by duet's fast call: it is content to be off its CPU for `patience`
 * Times are nanoseconds but for ms. hold and outside are work, not time: they take longer for a
 * thread whose vCPU loses its CPU meanwhile.
 */
#include "duet.h"
#include "stolen.h"

#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/kthread.h>
#include <linux/kvm_para.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/processor.h>

#define THREADS_MAX    64U
#define WORK_MAX       1000000U /* ns; preemption is off that long */
#define MS_MAX         60000U
#define LINE_MAX       256
#define CALIBRATION    20000U /* loops */
#define CHECK_EVERY    32     /* spins between looks at the clock */

struct bench;

/* A thread's own, on cache lines of its own. */
struct bench_worker {
	struct bench *bench;
	struct task_struct *task;
	u64 operations, waited, worst, yields, refused;
} ____cacheline_aligned_in_smp;

struct bench_kind {
	const char *name;
	void (*lock)(struct bench *bench, struct bench_worker *worker);
	void (*unlock)(struct bench *bench);
	/* Lets the holder's vCPU run; 0 or a negative errno. Null for those that spin. */
	int (*yield)(struct bench *bench, unsigned int holder);
	/* 0, or why it cannot be had here. */
	int (*available)(struct duet *duet);
};

struct bench {
	const struct bench_kind *kind;
	struct duet *duet;
	unsigned int threads, hold, outside, ms, threshold, patience;
	unsigned int hold_loops, outside_loops;
	struct completion go;
	bool over;

	spinlock_t queued ____cacheline_aligned_in_smp;
	atomic_t word; /* 0: free; else the holder's CPU, plus one */
	u64 inside;    /* what the lock guards */

	struct bench_worker workers[];
};

static struct dentry *bench_file;
static DEFINE_MUTEX(bench_mutex); /* one at a time; of the result too */
static char bench_result[512];

static void queued_lock(struct bench *bench, struct bench_worker *worker)
{
	spin_lock(&bench->queued);
}

static void queued_unlock(struct bench *bench)
{
	spin_unlock(&bench->queued);
}

static bool word_try(struct bench *bench)
{
	int free = 0;

	return atomic_read(&bench->word) == 0 &&
	       atomic_try_cmpxchg_acquire(&bench->word, &free, smp_processor_id() + 1);
}

static void word_unlock(struct bench *bench)
{
	atomic_set_release(&bench->word, 0);
}

static void tas_lock(struct bench *bench, struct bench_worker *worker)
{
	while (!word_try(bench))
		cpu_relax();
}

/* True: it has the lock. False: the threshold is over. */
static bool spin_until(struct bench *bench, u64 until)
{
	int spins;

	do {
		for (spins = 0; spins < CHECK_EVERY; spins++) {
			if (word_try(bench))
				return true;
			cpu_relax();
		}
	} while (ktime_get_mono_fast_ns() < until);
	return false;
}

/* A holder that runs will be done soon: only one without a CPU is worth an exit. */
static void yield_lock(struct bench *bench, struct bench_worker *worker)
{
	while (!spin_until(bench, ktime_get_mono_fast_ns() + bench->threshold)) {
		int holder = atomic_read(&bench->word) - 1;

		if (holder < 0 || holder == smp_processor_id() || !duet_cpu_preempted(holder))
			continue;
		worker->yields++;
		if (bench->kind->yield(bench, holder) < 0)
			worker->refused++;
	}
}

static int yield_by_hypercall(struct bench *bench, unsigned int holder)
{
	return kvm_hypercall1(KVM_HC_SCHED_YIELD, duet_vcpu(holder)) == 0 ? 0 : -EIO;
}

static int yield_by_call(struct bench *bench, unsigned int holder)
{
	const u64 arguments[] = {duet_vcpu(holder), bench->patience};

	return duet_call(bench->duet, DUET_COOP_YIELD, arguments, ARRAY_SIZE(arguments), NULL);
}

static int hypercall_available(struct duet *duet)
{
	u32 base = hypervisor_cpuid_base("KVMKVMKVM\0\0\0", 0);

	if (!base || !(cpuid_eax(base | KVM_CPUID_FEATURES) & BIT(KVM_FEATURE_PV_SCHED_YIELD)))
		return -EOPNOTSUPP;
	return 0;
}

static int call_available(struct duet *duet)
{
	return duet_has(duet, DUET_COOP_F_YIELD) ? 0 : -EOPNOTSUPP;
}

static const struct bench_kind bench_kinds[] = {
	{.name = "tas", .lock = tas_lock, .unlock = word_unlock},
	{.name = "queued", .lock = queued_lock, .unlock = queued_unlock},
	{.name = "hypercall", .lock = yield_lock, .unlock = word_unlock,
	 .yield = yield_by_hypercall, .available = hypercall_available},
	{.name = "call", .lock = yield_lock, .unlock = word_unlock, .yield = yield_by_call,
	 .available = call_available},
};

static void work(unsigned int loops)
{
	unsigned int i;

	for (i = 0; i < loops; i++)
		asm volatile("" : "+r"(i));
}

/* Loops that take @ns on a CPU that is not taken away: the shortest of some tries. */
static unsigned int loops_of(unsigned int ns)
{
	u64 start, best = U64_MAX;
	int tries;

	for (tries = 0; tries < 16; tries++) {
		start = ktime_get_mono_fast_ns();
		work(CALIBRATION);
		best = min(best, ktime_get_mono_fast_ns() - start);
	}
	return div64_u64((u64)ns * CALIBRATION, max(best, 1ULL));
}

static void operate(struct bench *bench, struct bench_worker *worker)
{
	u64 start, waited;

	preempt_disable();
	start = ktime_get_mono_fast_ns();
	bench->kind->lock(bench, worker);
	waited = ktime_get_mono_fast_ns() - start;
	bench->inside++;
	work(bench->hold_loops);
	bench->kind->unlock(bench);
	preempt_enable();
	worker->operations++;
	worker->waited += waited;
	worker->worst = max(worker->worst, waited);
}

static int bench_thread(void *opaque)
{
	struct bench_worker *worker = opaque;
	struct bench *bench = worker->bench;

	wait_for_completion(&bench->go);
	while (!READ_ONCE(bench->over)) {
		operate(bench, worker);
		work(bench->outside_loops);
		cond_resched();
	}
	/* Whoever made it waits for its end. */
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* Thread i on the i-th CPU that is there, and round again. */
static int make_threads(struct bench *bench)
{
	int cpu = -1;
	unsigned int i;

	for (i = 0; i < bench->threads; i++) {
		struct bench_worker *worker = &bench->workers[i];
		struct task_struct *task;

		cpu = cpumask_next(cpu, cpu_online_mask);
		if (cpu >= nr_cpu_ids)
			cpu = cpumask_first(cpu_online_mask);
		worker->bench = bench;
		task = kthread_create(bench_thread, worker, "duet-lock/%u", i);
		if (IS_ERR(task))
			return PTR_ERR(task);
		kthread_bind(task, cpu);
		worker->task = task;
		wake_up_process(task);
	}
	return 0;
}

static int run_threads(struct bench *bench)
{
	int ret = make_threads(bench);
	unsigned int i;

	if (ret)
		bench->over = true;
	complete_all(&bench->go);
	if (!ret)
		schedule_timeout_interruptible(msecs_to_jiffies(bench->ms));
	WRITE_ONCE(bench->over, true);
	for (i = 0; i < bench->threads; i++)
		if (bench->workers[i].task)
			kthread_stop(bench->workers[i].task);
	if (!ret && signal_pending(current))
		ret = -EINTR;
	return ret;
}

/* Whether the kernel's spinlock waits and kicks; what it does else is its native queue, or test and
 * set where it knows that it is a guest and the host offers no better. */
static bool queued_is_pv(void)
{
#ifdef CONFIG_PARAVIRT_SPINLOCKS
	return pv_ops.lock.queued_spin_lock_slowpath != native_queued_spin_lock_slowpath;
#else
	return false;
#endif
}

static int tell_result(struct bench *bench)
{
	u64 operations = 0, waited = 0, worst = 0, yields = 0, refused = 0, least = U64_MAX;
	unsigned int i;

	for (i = 0; i < bench->threads; i++) {
		const struct bench_worker *worker = &bench->workers[i];

		operations += worker->operations;
		waited += worker->waited;
		yields += worker->yields;
		refused += worker->refused;
		worst = max(worst, worker->worst);
		least = min(least, worker->operations);
	}
	snprintf(bench_result, sizeof(bench_result),
		 "{\"kind\": \"%s\", \"pv\": %s, \"threads\": %u, \"hold_ns\": %u, \"outside_ns\": %u, "
		 "\"ms\": %u, \"operations\": %llu, \"least\": %llu, \"mean_wait_ns\": %llu, "
		 "\"worst_wait_ns\": %llu, \"yields\": %llu, \"refused\": %llu}\n",
		 bench->kind->name, queued_is_pv() ? "true" : "false", bench->threads, bench->hold,
		 bench->outside, bench->ms, operations, least,
		 operations ? div64_u64(waited, operations) : 0, worst, yields, refused);
	/* Two at once inside lose a count. */
	return bench->inside == operations ? 0 : -EIO;
}

/* "name=number". */
static int parse_number(struct bench *bench, const char *word)
{
	const struct {
		const char *name;
		unsigned int *value, least, most;
	} numbers[] = {
		{"threads=", &bench->threads, 1, THREADS_MAX},
		{"hold=", &bench->hold, 0, WORK_MAX},
		{"outside=", &bench->outside, 0, WORK_MAX},
		{"ms=", &bench->ms, 1, MS_MAX},
		{"threshold=", &bench->threshold, 0, WORK_MAX},
		{"patience=", &bench->patience, 0, UINT_MAX},
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		size_t length = strlen(numbers[i].name);

		if (strncmp(word, numbers[i].name, length))
			continue;
		if (kstrtouint(word + length, 10, numbers[i].value) ||
		    *numbers[i].value < numbers[i].least || *numbers[i].value > numbers[i].most)
			return -EINVAL;
		return 0;
	}
	return -EINVAL;
}

static const struct bench_kind *find_kind(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bench_kinds); i++)
		if (strcmp(name, bench_kinds[i].name) == 0)
			return &bench_kinds[i];
	return NULL;
}

static int parse(struct bench *bench, char *line)
{
	char *word = strsep(&line, " ");
	int ret = 0;

	bench->kind = find_kind(word);
	if (!bench->kind)
		return -EINVAL;
	while (!ret && (word = strsep(&line, " ")))
		ret = *word ? parse_number(bench, word) : 0;
	if (!ret && bench->kind->available)
		ret = bench->kind->available(bench->duet);
	return ret;
}

static struct bench *bench_new(struct duet *duet)
{
	struct bench *bench = kvzalloc(struct_size(bench, workers, THREADS_MAX), GFP_KERNEL);

	if (!bench)
		return NULL;
	bench->duet = duet;
	bench->threads = min(num_online_cpus(), THREADS_MAX);
	bench->hold = bench->outside = 2000;
	bench->ms = 1000;
	bench->threshold = 2000;
	bench->patience = 8000000;
	init_completion(&bench->go);
	spin_lock_init(&bench->queued);
	return bench;
}

static int run_bench(struct duet *duet, char *line)
{
	struct bench *bench = bench_new(duet);
	int ret;

	if (!bench)
		return -ENOMEM;
	ret = parse(bench, line);
	if (!ret) {
		bench->hold_loops = loops_of(bench->hold);
		bench->outside_loops = loops_of(bench->outside);
		ret = run_threads(bench);
	}
	if (!ret)
		ret = tell_result(bench);
	kvfree(bench);
	return ret;
}

static ssize_t bench_write(struct file *file, const char __user *user, size_t length, loff_t *at)
{
	struct duet *duet;
	char line[LINE_MAX];
	int ret;

	if (length >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, length))
		return -EFAULT;
	line[length] = '\0';
	ret = mutex_lock_interruptible(&bench_mutex);
	if (ret)
		return ret;
	duet = duet_get();
	ret = duet ? run_bench(duet, strim(line)) : -ENODEV;
	if (duet)
		duet_put(duet);
	mutex_unlock(&bench_mutex);
	return ret ? ret : length;
}

static ssize_t bench_read(struct file *file, char __user *user, size_t length, loff_t *at)
{
	ssize_t ret;

	mutex_lock(&bench_mutex);
	ret = simple_read_from_buffer(user, length, at, bench_result, strlen(bench_result));
	mutex_unlock(&bench_mutex);
	return ret;
}

static const struct file_operations bench_operations = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = bench_read,
	.write = bench_write,
	.llseek = default_llseek,
};

static int locks_start(struct duet *duet)
{
	bench_file = debugfs_create_file("duet-locks", 0600, NULL, NULL, &bench_operations);
	/* A kernel without debugfs has no bench, and nobody misses it. */
	return IS_ERR(bench_file) ? -EOPNOTSUPP : 0;
}

static void locks_stop(struct duet *duet)
{
	debugfs_remove(bench_file);
	bench_file = NULL;
}

/* Every kind that can be had, for a moment: no count is lost. */
static int locks_selftest(struct duet *duet)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bench_kinds); i++) {
		char line[LINE_MAX];
		int ret;

		snprintf(line, sizeof(line), "%s ms=20", bench_kinds[i].name);
		mutex_lock(&bench_mutex);
		ret = run_bench(duet, line);
		mutex_unlock(&bench_mutex);
		if (ret && ret != -EOPNOTSUPP) {
			dev_err(&duet->vdev->dev, "locks: %s: %d\n", bench_kinds[i].name, ret);
			return ret;
		}
	}
	return 0;
}

const struct duet_part duet_locks = {
	.name = "locks",
	.feature = DUET_NO_FEATURE,
	.start = locks_start,
	.stop = locks_stop,
	.selftest = locks_selftest,
};
