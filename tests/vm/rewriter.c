/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a guest: writes to each of its pages in turn, without an end, and before each write compares
 * what it has written there before. "rewriter PAGES" says "compared N." for every time through, and
 * "memory failed" when a page is not as it left it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define WORDS 512
/* Of which so few are looked at and written that it is their number which takes the time. */
#define STEP 64

static uint64_t word(uint64_t page, uint64_t round, uint64_t i)
{
	return (page << 32 ^ round) * 0x9e3779b97f4a7c15 + i;
}

static int is_as_left(const uint64_t *at, uint64_t page, uint64_t round)
{
	for (uint64_t i = 0; i < WORDS; i += STEP)
		if (at[i] != word(page, round, i))
			return 0;
	return 1;
}

int main(int count, char **args)
{
	const uint64_t pages = count > 1 ? strtoull(args[1], NULL, 10) : 0;
	uint64_t *memory = aligned_alloc(4096, pages * 4096);

	for (uint64_t round = 0; memory; round++) {
		for (uint64_t page = 0; page < pages; page++) {
			uint64_t *at = memory + page * WORDS;

			if (round && !is_as_left(at, page, round - 1))
				printf("memory failed: page %llu\n", (unsigned long long)page);
			for (uint64_t i = 0; i < WORDS; i += STEP)
				at[i] = word(page, round, i);
		}
		printf("compared %llu.\n", (unsigned long long)round);
		fflush(stdout);
	}
	return 1;
}
