/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/memory.h"

#include <string.h>

/* Which the compiler makes vectors of; the first settles it for nearly every page that holds
 * something. */
#define STEP   64
#define INLINE static inline __attribute__((always_inline))

INLINE bool is_zero(const uint8_t *at)
{
	uint64_t words[STEP / 8], any = 0;

	memcpy(words, at, sizeof(words));
	for (unsigned i = 0; i < STEP / 8; i++)
		any |= words[i];
	return any == 0;
}

INLINE bool all_zero(const uint8_t *at)
{
	for (unsigned i = 0; i < MEMORY_PAGE; i += STEP)
		if (!is_zero(at + i))
			return false;
	return true;
}

__attribute__((target("avx2"))) static bool all_zero_avx2(const uint8_t *at)
{
	return all_zero(at);
}

bool memory_page_is_zero(const void *page)
{
	return __builtin_cpu_supports("avx2") ? all_zero_avx2(page) : all_zero(page);
}
