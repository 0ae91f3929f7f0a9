/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a program's own whose pages are checked when they are touched. */
#ifndef LAB_PAGES_H
#define LAB_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define MIB        ((size_t)1 << 20)
#define PAGE       ((size_t)4096)
#define PAGES(mib) ((mib) * (MIB / PAGE))

/* Room for so many, of which each takes memory when it is written. */
uint64_t *pages_new(size_t count);
uint64_t *page_at(uint64_t *pages, size_t page);
/* What it holds from now on; the rest of the page is the caller's. */
void page_write(uint64_t *pages, size_t page);
/* So many touches of pages below @count, drawn by chance. Returns how many held something else. */
uint64_t pages_touch(uint64_t *pages, size_t count, size_t touches, uint64_t *random);

#endif
