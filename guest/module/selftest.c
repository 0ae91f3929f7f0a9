// SPDX-License-Identifier: GPL-2.0-only
/* `modprobe duet selftest=1`: the channel itself, by calls and requests that must succeed and by
 * such that must not. */
#include <linux/cpu.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "core.h"

#define ROUNDS 100
#define NO_FUNCTION 0xfffffff0

static int wrong(struct duet *duet, const char *what, u64 number, int found)
{
	dev_err(&duet->vdev->dev, "selftest: %s (%llu): %d\n", what, number, found);
	return found < 0 ? found : -EIO;
}

/* Fast calls */

struct here {
	struct duet *duet;
	int error;
	u64 nanoseconds; /* of a call */
};

static void nop_here(void *data)
{
	struct here *here = data;
	u64 began = ktime_get_ns(), values[4];
	unsigned int i;

	for (i = 0; i < ROUNDS && !here->error; i++) {
		u64 argument = 0x0123456789abcdef * i;

		here->error = duet_call(here->duet, DUET_COOP_NOP, &argument, 1, values);
		if (!here->error && values[0] != argument)
			here->error = -EBADMSG;
	}
	here->nanoseconds = (ktime_get_ns() - began) / ROUNDS;
}

static int test_calls(struct duet *duet)
{
	struct here here = {.duet = duet};
	unsigned int cpu;
	int error = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		if (!duet_page(duet, cpu))
			continue;
		error = smp_call_function_single(cpu, nop_here, &here, true);
		if (!error)
			error = here.error;
		if (error) {
			wrong(duet, "fast calls on CPU", cpu, error);
			break;
		}
	}
	cpus_read_unlock();
	if (!error)
		dev_info(&duet->vdev->dev, "selftest: a fast call takes %llu ns\n", here.nanoseconds);
	return error;
}

static int expect_call(struct duet *duet, u32 function, u64 argument, int expected)
{
	int status = duet_call(duet, function, &argument, 1, NULL);

	return status == expected ? 0 : wrong(duet, "status of fast call", function, status);
}

/* An argument that nothing can be: a vCPU, an address or a counter. What is not negotiated says so
 * before it looks at arguments. */
static int expect_refusal(struct duet *duet, u32 function)
{
	u64 argument = ~0ULL << 12;
	int status = duet_call(duet, function, &argument, 1, NULL);

	return status < 0 && status != -EPROTO ? 0 :
		wrong(duet, "fast call with a wrong argument", function, status);
}

static int test_wrong_calls(struct duet *duet)
{
	static const u32 functions[] = {
		DUET_COOP_YIELD, DUET_COOP_COPY, DUET_COOP_COUNTER_OPEN, DUET_COOP_COUNTER_READ,
		DUET_COOP_COUNTER_CLOSE, DUET_COOP_BATCH,
	};
	unsigned int i;
	int error = expect_call(duet, NO_FUNCTION, 0, -DUET_COOP_ENOSYS);

	if (!error)
		error = expect_call(duet, DUET_COOP_SHARE, 0, -DUET_COOP_ENOSYS);
	for (i = 0; i < ARRAY_SIZE(functions) && !error; i++)
		error = expect_refusal(duet, functions[i]);
	return error;
}

/* Requests */

/* By the queue, and as the module's parts do. */
typedef int way_of_request(struct duet *duet, const struct duet_coop_request *requests,
			   struct duet_coop_answer *answers, unsigned int count);

struct batch_test {
	way_of_request *ask;
	struct duet_coop_request requests[DUET_COOP_BATCH_MAX];
	struct duet_coop_answer answers[DUET_COOP_BATCH_MAX];
};

static int test_batch(struct duet *duet, struct batch_test *test, unsigned int count)
{
	unsigned int i;
	int error;

	for (i = 0; i < count; i++)
		test->requests[i] = (struct duet_coop_request){
			.function = DUET_COOP_NOP, .arguments = {count * 1000ULL + i}};
	error = test->ask(duet, test->requests, test->answers, count);
	if (error)
		return wrong(duet, "batch of", count, error);
	for (i = 0; i < count; i++)
		if (test->answers[i].status || test->answers[i].values[0] != count * 1000ULL + i)
			return wrong(duet, "answer", i, test->answers[i].status);
	return 0;
}

static int test_batches(struct duet *duet, struct batch_test *test)
{
	unsigned int count;
	u64 began = 0;
	int error = 0;

	for (count = 1; count <= DUET_COOP_BATCH_MAX && !error; count *= 2) {
		began = ktime_get_ns();
		error = test_batch(duet, test, count);
	}
	if (!error)
		dev_info(&duet->vdev->dev, "selftest: a batch of %u takes %llu ns\n",
			 DUET_COOP_BATCH_MAX, ktime_get_ns() - began);
	return error;
}

/* What a wrong request says, and that the right ones about it are answered all the same. */
static int test_wrong_requests(struct duet *duet, struct batch_test *test)
{
	static const u32 functions[] = {DUET_COOP_NOP, NO_FUNCTION, DUET_COOP_YIELD, DUET_COOP_SHARE,
					DUET_COOP_NOP};
	static const bool good[] = {true, false, false, false, true};
	unsigned int i;
	int error;

	for (i = 0; i < ARRAY_SIZE(functions); i++)
		test->requests[i] = (struct duet_coop_request){
			.function = functions[i], .arguments = {~0ULL << 12, 1}};
	error = test->ask(duet, test->requests, test->answers, ARRAY_SIZE(functions));
	if (error)
		return wrong(duet, "batch with wrong requests", 0, error);
	for (i = 0; i < ARRAY_SIZE(functions); i++)
		if (good[i] != (test->answers[i].status == 0))
			return wrong(duet, "status of request", i, test->answers[i].status);
	return 0;
}

static int test_requests(struct duet *duet, way_of_request *ask)
{
	struct batch_test *test = kzalloc(sizeof(*test), GFP_KERNEL);
	int error;

	if (!test)
		return -ENOMEM;
	test->ask = ask;
	error = test_batches(duet, test);
	if (!error)
		error = test_wrong_requests(duet, test);
	kfree(test);
	return error;
}

int duet_selftest(struct duet *duet)
{
	int error = test_calls(duet);

	if (!error)
		error = test_wrong_calls(duet);
	if (!error)
		error = test_requests(duet, duet_request_queued);
	return error ? error : test_requests(duet, duet_request);
}
