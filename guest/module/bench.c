// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the channel costs, for whoever counts instructions around it: the debugfs file duet-channel
 * takes a way and how often, and the write returns when it is done. Interrupts stay on.
 */
#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "core.h"

#define LINE_MAX   64
#define COUNT_MAX  100000
#define EMPTY_PORT 0x80 /* for codes of a start-up, which nobody listens to */

struct way {
	const char *name;
	/* Once; @batch: of requests. */
	int (*go)(struct duet *duet, struct duet_coop_request *requests,
		  struct duet_coop_answer *answers, unsigned int batch);
};

static struct dentry *bench_file;

static int write_port(struct duet *duet, struct duet_coop_request *requests,
		      struct duet_coop_answer *answers, unsigned int batch)
{
	outb(0, EMPTY_PORT);
	return 0;
}

static int call(struct duet *duet, struct duet_coop_request *requests,
		struct duet_coop_answer *answers, unsigned int batch)
{
	return duet_call(duet, DUET_COOP_NOP, NULL, 0, NULL);
}

static int last_of(const struct duet_coop_answer *answers, unsigned int batch, int error)
{
	return error ? error : answers[batch - 1].status ? -EIO : 0;
}

static int request(struct duet *duet, struct duet_coop_request *requests,
		   struct duet_coop_answer *answers, unsigned int batch)
{
	return last_of(answers, batch, duet_request_queued(duet, requests, answers, batch));
}

static int batch_call(struct duet *duet, struct duet_coop_request *requests,
		      struct duet_coop_answer *answers, unsigned int batch)
{
	return last_of(answers, batch, duet_request(duet, requests, answers, batch));
}

static int read_page(struct duet *duet, struct duet_coop_request *requests,
		     struct duet_coop_answer *answers, unsigned int batch)
{
	struct duet_coop_page *page = duet_page(duet, raw_smp_processor_id());

	if (!page)
		return -ENODEV;
	READ_ONCE(page->host.away_ns);
	return 0;
}

static const struct way ways[] = {
	{"port", write_port},
	{"call", call},
	{"request", request},
	{"batch", batch_call},
	{"page", read_page},
};

static const struct way *find_way(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (strcmp(ways[i].name, name) == 0)
			return &ways[i];
	return NULL;
}

static int repeat(struct duet *duet, const struct way *way, unsigned int count, unsigned int batch)
{
	struct duet_coop_request *requests = kcalloc(batch, sizeof(*requests), GFP_KERNEL);
	struct duet_coop_answer *answers = kcalloc(batch, sizeof(*answers), GFP_KERNEL);
	int error = requests && answers ? 0 : -ENOMEM;

	while (!error && count--) {
		error = way->go(duet, requests, answers, batch);
		cond_resched();
	}
	kfree(requests);
	kfree(answers);
	return error;
}

/* WAY COUNT [BATCH] */
static int run(struct duet *duet, const char *line)
{
	unsigned int count, batch = 1;
	const struct way *way;
	char name[16];
	int words = sscanf(line, "%15s %u %u", name, &count, &batch);

	way = words < 2 ? NULL : find_way(name);
	if (!way || count > COUNT_MAX || !batch || batch > DUET_COOP_BATCH_MAX)
		return -EINVAL;
	return repeat(duet, way, count, batch);
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
	duet = duet_get();
	if (!duet)
		return -ENODEV;
	ret = run(duet, line);
	duet_put(duet);
	return ret ? ret : length;
}

static const struct file_operations bench_operations = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = bench_write,
};

static int bench_start(struct duet *duet)
{
	bench_file = debugfs_create_file("duet-channel", 0200, NULL, NULL, &bench_operations);
	/* A kernel without debugfs has no bench, and nobody misses it. */
	return IS_ERR(bench_file) ? -EOPNOTSUPP : 0;
}

static void bench_stop(struct duet *duet)
{
	debugfs_remove(bench_file);
	bench_file = NULL;
}

/* Each way works, and what is none is refused. */
static int bench_selftest(struct duet *duet)
{
	static const char *const wrong[] = {"", "call", "none 1", "call 100001", "request 1 0",
					    "request 1 257"};
	unsigned int i;
	int error = 0;

	for (i = 0; i < ARRAY_SIZE(ways) && !error; i++)
		error = repeat(duet, &ways[i], 2, 3);
	for (i = 0; i < ARRAY_SIZE(wrong) && !error; i++)
		error = run(duet, wrong[i]) == -EINVAL ? 0 : -EIO;
	if (error)
		dev_err(&duet->vdev->dev, "selftest: bench: %d\n", error);
	return error;
}

const struct duet_part duet_bench = {
	.name = "bench",
	.feature = DUET_NO_FEATURE,
	.start = bench_start,
	.stop = bench_stop,
	.selftest = bench_selftest,
};
