/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a block device, at random places or one after the other, a fixed number of them under
 * way at a time. */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX 64
#define WARMUP    32

struct requests {
	aio_context_t context;
	struct iocb blocks[DEPTH_MAX];
	int fd;
	uint16_t opcode;
	size_t depth, bytes;
	uint64_t places; /* requests that fit on the device */
	uint64_t random;
	int in_order;
	char *buffers;
};

static uint64_t next_place(struct requests *requests)
{
	if (requests->in_order)
		return requests->random++ % requests->places;
	return draw(&requests->random, requests->places);
}

static void submit(struct requests *requests, size_t slot)
{
	struct iocb *block = &requests->blocks[slot];

	*block = (struct iocb){.aio_data = slot,
		.aio_lio_opcode = requests->opcode,
		.aio_fildes = (uint32_t)requests->fd,
		.aio_buf = (uintptr_t)(requests->buffers + slot * requests->bytes),
		.aio_nbytes = requests->bytes,
		.aio_offset = (int64_t)(next_place(requests) * requests->bytes)};
	if (syscall(SYS_io_submit, requests->context, 1L, &block) != 1)
		fail("io_submit");
}

/* @count requests, at most the depth of them at once. */
static void run(struct requests *requests, size_t count)
{
	struct io_event events[DEPTH_MAX];
	const size_t step = requests->depth;
	size_t begun = 0, done = 0;

	while (begun < requests->depth && begun < count)
		submit(requests, begun++);
	while (done < count) {
		long got = syscall(
			SYS_io_getevents, requests->context, 1L, (long)DEPTH_MAX, events, NULL);

		if (got < 1)
			fail("io_getevents");
		for (long i = 0; i < got; i++) {
			errno = EIO;
			if (events[i].res != (int64_t)requests->bytes)
				fail("a request");
			if (begun < count) {
				submit(requests, events[i].data);
				begun++;
			}
		}
		if (done / step != (done + (size_t)got) / step)
			LAB_MARK(MARK_STEP);
		done += (size_t)got;
	}
}

int disk(char **args)
{
	const int writing = strcmp(args[1], "write") == 0;
	const size_t count = number(args[3]);
	struct requests requests = {.opcode = writing ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.depth = number(args[2]),
		.bytes = number(args[4]),
		.in_order = strcmp(args[1], "sequential") == 0,
		.random = 1};
	uint64_t size, start;

	errno = EINVAL;
	if (requests.depth < 1 || requests.depth > DEPTH_MAX)
		fail("depth");
	requests.fd = open(args[0], (writing ? O_RDWR : O_RDONLY) | O_DIRECT);
	if (requests.fd < 0 || ioctl(requests.fd, BLKGETSIZE64, &size) < 0)
		fail(args[0]);
	requests.places = size / requests.bytes;
	if (posix_memalign((void **)&requests.buffers, 4096, requests.depth * requests.bytes) ||
		syscall(SYS_io_setup, DEPTH_MAX, &requests.context) < 0)
		fail("io_setup");
	memset(requests.buffers, 0x5a, requests.depth * requests.bytes);
	run(&requests, WARMUP);
	start = now_ns();
	LAB_MARK(MARK_START);
	run(&requests, count);
	LAB_MARK(MARK_END);
	printf("{\"count\": %zu, \"step\": %zu, \"bytes\": %zu, \"warmup\": %d, \"ns\": %llu}\n",
		count, requests.depth, count * requests.bytes, WARMUP,
		(unsigned long long)(now_ns() - start));
	return 0;
}
