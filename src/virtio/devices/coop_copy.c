/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk copy of guest pages. */
#include "virtio/devices/coop_copy.h"

#include "base/checked.h"

#include <duet/coop.h>
#include <errno.h>
#include <immintrin.h>

/* Past the caches: the source was just used and stays there, the copy is seldom read soon, and a
 * line that is written whole is not read from memory first (docs/decisions.md). Page by page and
 * upwards: where runs overlap, no page is half of each. */
static void copy_by_sse2(void *to, const void *from, uint64_t pages)
{
	const __m128i *in = from;
	__m128i *out = to;

	for (uint64_t i = 0; i < pages * MEMORY_PAGE / sizeof(*in); i += 4) {
		__m128i a = _mm_load_si128(in + i), b = _mm_load_si128(in + i + 1);
		__m128i c = _mm_load_si128(in + i + 2), d = _mm_load_si128(in + i + 3);

		_mm_stream_si128(out + i, a);
		_mm_stream_si128(out + i + 1, b);
		_mm_stream_si128(out + i + 2, c);
		_mm_stream_si128(out + i + 3, d);
	}
}

/* Two lines at a time: four are twice as slow, for they are written in turns. */
__attribute__((target("avx2"))) static void copy_by_avx2(void *to, const void *from, uint64_t pages)
{
	const __m256i *in = from;
	__m256i *out = to;

#pragma GCC unroll 4
	for (uint64_t i = 0; i < pages * MEMORY_PAGE / sizeof(*in); i += 4) {
		__m256i a = _mm256_load_si256(in + i), b = _mm256_load_si256(in + i + 1);
		__m256i c = _mm256_load_si256(in + i + 2), d = _mm256_load_si256(in + i + 3);

		_mm256_stream_si256(out + i, a);
		_mm256_stream_si256(out + i + 1, b);
		_mm256_stream_si256(out + i + 2, c);
		_mm256_stream_si256(out + i + 3, d);
	}
}

static void copy_pages(void *to, const void *from, uint64_t pages)
{
	if (__builtin_cpu_supports("avx2"))
		copy_by_avx2(to, from, pages);
	else
		copy_by_sse2(to, from, pages);
	/* Streaming stores have no order of their own: the guest and the dirty log come after. */
	_mm_sfence();
}

static int check_run(const struct memory *memory, const struct duet_coop_copy_run *run)
{
	uint64_t length = run->pages * MEMORY_PAGE;

	if (!run->pages || run->from % MEMORY_PAGE || run->to % MEMORY_PAGE)
		return -EINVAL;
	if (!memory_begin(memory, GPA(run->from), length) ||
		!memory_begin(memory, GPA(run->to), length))
		return -EFAULT;
	return 0;
}

static int check_list(const struct memory *memory, const struct duet_coop_copy *list)
{
	int ret = 0;

	if (!list->count || list->count > DUET_COOP_COPY_RUNS)
		return -EINVAL;
	if (list->skip >= list->runs[0].pages)
		return -EINVAL;
	for (uint32_t i = 0; i < list->count && ret == 0; i++)
		ret = check_run(memory, &list->runs[i]);
	return ret;
}

/* @run has been checked; pages from number @first on. */
static void copy_run(
	struct memory *memory, const struct duet_coop_copy_run *run, uint64_t first, uint64_t pages)
{
	const uint8_t *from =
		memory_begin(memory, GPA(run->from + first * MEMORY_PAGE), pages * MEMORY_PAGE);
	uint8_t *to = memory_begin(memory, GPA(run->to + first * MEMORY_PAGE), pages * MEMORY_PAGE);

	copy_pages(to, from, pages);
	memory_end(memory, to, pages * MEMORY_PAGE);
}

int coop_copy_each(
	struct memory *memory, gpa_t gpa, uint64_t *pages_done, coop_copied *copied, void *opaque)
{
	struct duet_coop_copy list;
	uint64_t left = COOP_COPY_PAGES, first;
	int ret;

	*pages_done = 0;
	if (gpa.value % MEMORY_PAGE)
		return -EINVAL;
	ret = memory_read(memory, gpa, &list, sizeof(list));
	if (ret == 0)
		ret = check_list(memory, &list);
	if (ret < 0)
		return ret;
	first = list.skip;
	for (uint32_t i = 0; i < list.count && left; i++, first = 0) {
		const struct duet_coop_copy_run *run = &list.runs[i];
		uint64_t pages = min_u64(run->pages - first, left);

		copy_run(memory, run, first, pages);
		if (copied)
			copied(opaque, GPA(run->to + first * MEMORY_PAGE), pages * MEMORY_PAGE);
		left -= pages;
	}
	*pages_done = COOP_COPY_PAGES - left;
	return 0;
}
