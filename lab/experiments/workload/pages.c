/* SPDX-License-Identifier: Apache-2.0 */
#include "pages.h"
#include "workload.h"

#include <sys/mman.h>

#define MULTIPLIER 0x9e3779b97f4a7c15U

uint64_t *pages_new(size_t count)
{
	uint64_t *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (pages == MAP_FAILED)
		fail("memory");
	/* A page is a page: what is counted must not depend on which kernel found huge ones. */
	madvise(pages, count * PAGE, MADV_NOHUGEPAGE);
	return pages;
}

uint64_t *page_at(uint64_t *pages, size_t page)
{
	return pages + page * (PAGE / sizeof(*pages));
}

void page_write(uint64_t *pages, size_t page)
{
	*page_at(pages, page) = page * MULTIPLIER;
}

uint64_t pages_touch(uint64_t *pages, size_t count, size_t touches, uint64_t *random)
{
	uint64_t wrong = 0;

	while (touches--) {
		size_t page = draw(random, count);

		wrong += *page_at(pages, page) != page * MULTIPLIER;
	}
	return wrong;
}
