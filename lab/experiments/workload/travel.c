/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that must not notice that its guest goes to another host: memory that is written at a given
 * rate, blocks of a disk that are written and read back, and a connection over which something goes
 * all the time. All of it is checked at the end, to the byte.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MIB     ((size_t)1 << 20)
#define PAGE    ((size_t)4096)
#define WORDS   (PAGE / sizeof(uint64_t))
#define BLOCKS  256U /* of a page's size */
#define TURN_NS 10000000U
#define MESSAGE 64U

struct travel {
	uint64_t *memory;
	size_t pages;
	uint64_t *writes; /* to each page, since it was filled */
	uint64_t total, random;
	int disk, tcp;
	uint64_t *buffer;
	uint64_t generations[BLOCKS], blocks, wrong_blocks, sent;
	uint64_t begun, last, gap;
};

static uint64_t mixed(uint64_t a, uint64_t b)
{
	uint64_t value = (a << 32 ^ b) * 0x9e3779b97f4a7c15U;

	return value ^ value >> 29;
}

/* ---- memory ---- */

/* The Nth write to a page goes to its word N, and after the last one to the first again. */
static uint64_t expected(uint64_t page, uint64_t word, uint64_t writes)
{
	uint64_t last = writes < word ? 0 : writes - (writes - word) % WORDS;

	return mixed(page, last ? last + WORDS : word);
}

static void fill(struct travel *travel)
{
	for (size_t page = 0; page < travel->pages; page++)
		for (size_t word = 0; word < WORDS; word++)
			travel->memory[page * WORDS + word] = expected(page, word, 0);
}

static void write_page(struct travel *travel)
{
	uint64_t page = draw(&travel->random, travel->pages), nth = ++travel->writes[page];

	travel->memory[page * WORDS + nth % WORDS] = mixed(page, nth + WORDS);
	travel->total++;
}

static uint64_t wrong_pages(const struct travel *travel)
{
	uint64_t wrong = 0;

	for (size_t page = 0; page < travel->pages; page++) {
		size_t word = 0;

		while (word < WORDS && travel->memory[page * WORDS + word] ==
					       expected(page, word, travel->writes[page]))
			word++;
		wrong += word < WORDS;
	}
	return wrong;
}

/* ---- the disk and the connection ---- */

static bool is_right(struct travel *travel, uint64_t block)
{
	size_t word = 0;

	if (pread(travel->disk, travel->buffer, PAGE, (off_t)(block * PAGE)) != (ssize_t)PAGE)
		return false;
	while (word < WORDS && travel->buffer[word] == mixed(block, travel->generations[block]))
		word++;
	return word == WORDS;
}

/* One is written, and another that was written before is read. */
static void use_disk(struct travel *travel)
{
	uint64_t block = draw(&travel->random, BLOCKS), other = draw(&travel->random, BLOCKS);

	if (travel->disk < 0)
		return;
	travel->generations[block]++;
	for (size_t word = 0; word < WORDS; word++)
		travel->buffer[word] = mixed(block, travel->generations[block]);
	if (pwrite(travel->disk, travel->buffer, PAGE, (off_t)(block * PAGE)) != (ssize_t)PAGE)
		travel->wrong_blocks++;
	if (travel->generations[other] && !is_right(travel, other))
		travel->wrong_blocks++;
	travel->blocks++;
}

static void check_disk(struct travel *travel)
{
	for (uint64_t block = 0; block < BLOCKS; block++)
		if (travel->generations[block] && !is_right(travel, block))
			travel->wrong_blocks++;
}

static void talk(struct travel *travel)
{
	static const char message[MESSAGE] = "on the way";

	if (travel->tcp < 0)
		return;
	if (send(travel->tcp, message, sizeof(message), MSG_NOSIGNAL) < 0)
		fail("the connection");
	travel->sent += sizeof(message);
}

/* The peer's one byte says that it has read all to the end. */
static bool arrived(const struct travel *travel)
{
	char byte;

	return travel->tcp < 0 ||
	       (shutdown(travel->tcp, SHUT_WR) == 0 && read(travel->tcp, &byte, 1) == 1);
}

/* ---- the way ---- */

/* What is late is caught up with: the rate holds over all of the way, not in each turn. */
static void turn(struct travel *travel, uint64_t rate)
{
	uint64_t now = now_ns(), due = (now - travel->begun) / 1000U * rate / 1000000U;

	if (now - travel->last > travel->gap)
		travel->gap = now - travel->last;
	travel->last = now;
	for (uint64_t most = rate / 10 + 1; travel->total < due && most; most--)
		write_page(travel);
	use_disk(travel);
	talk(travel);
}

static void prepare(struct travel *travel, char **args)
{
	travel->pages = number(args[1]) * (MIB / PAGE);
	travel->memory = mmap(NULL, travel->pages * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	travel->writes = calloc(travel->pages, sizeof(*travel->writes));
	travel->buffer = aligned_alloc(PAGE, PAGE);
	if (travel->memory == MAP_FAILED || !travel->writes || !travel->buffer)
		fail("memory");
	fill(travel);
	travel->disk = travel->tcp = -1;
	if (strcmp(args[3], "-") == 0)
		return;
	travel->disk = open(args[3], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (travel->disk < 0)
		fail(args[3]);
	travel->tcp = connected(&args[4], SOCK_STREAM);
	setsockopt(travel->tcp, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

int travel(char **args)
{
	const uint64_t rate = number(args[2]);
	const struct timespec pause = {.tv_nsec = TURN_NS};
	struct travel state = {.random = 1};
	uint64_t ended;

	prepare(&state, args);
	puts("travelling");
	fflush(stdout);
	state.begun = state.last = now_ns();
	while (access(args[0], F_OK) < 0) {
		turn(&state, rate);
		nanosleep(&pause, NULL);
	}
	ended = now_ns();
	check_disk(&state);
	printf("{\"pages\": %zu, \"writes\": %" PRIu64 ", \"wrong_pages\": %" PRIu64
	       ", \"blocks\": %" PRIu64 ", \"wrong_blocks\": %" PRIu64 ", \"sent\": %" PRIu64
	       ", \"arrived\": %s, \"ns\": %" PRIu64 ", \"gap_ns\": %" PRIu64 "}\n",
		state.pages, state.total, wrong_pages(&state), state.blocks, state.wrong_blocks,
		state.sent, arrived(&state) ? "true" : "false", ended - state.begun, state.gap);
	return 0;
}
