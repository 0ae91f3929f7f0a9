/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on numbers a guest, a file or a user chose. Pure functions, any thread. */
#ifndef DUET_BASE_CHECKED_H
#define DUET_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define container_of(pointer, type, member)                                                        \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* True when the result does not fit; then *@sum is not to be used. */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *sum)
{
	return __builtin_add_overflow(a, b, sum);
}

static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *product)
{
	return __builtin_mul_overflow(a, b, product);
}

/* Whether [@start, @start + @length) lies in [0, @limit), without overflow. */
static inline bool range_within(uint64_t start, uint64_t length, uint64_t limit)
{
	return length <= limit && start <= limit - length;
}

static inline bool is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

/* @alignment is a power of two; the caller knows that @value is far from 2^64. */
static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#endif
