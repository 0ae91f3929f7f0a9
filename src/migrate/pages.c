/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/pages.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define WITH_BYTES 1U /* of a run */
#define COMPRESSED 1U /* of the body */

static uint8_t *run_at(struct pages_batch *batch, unsigned index)
{
	return batch->head + PAGES_HEAD + (size_t)index * PAGES_RUN;
}

static void begin_run(struct pages_batch *batch, gpa_t gpa, uint32_t kind)
{
	uint8_t *run = run_at(batch, batch->runs++);

	store_le64(run, gpa.value);
	store_le32(run + 8, 1);
	store_le32(run + 12, kind);
}

/* Longer by a page, if it goes on there. */
static bool go_on(struct pages_batch *batch, gpa_t gpa, uint32_t kind)
{
	uint8_t *run;
	uint32_t pages;

	if (!batch->runs)
		return false;
	run = run_at(batch, batch->runs - 1);
	pages = load_le32(run + 8);
	if (load_le32(run + 12) != kind || load_le64(run) + pages * MEMORY_PAGE != gpa.value)
		return false;
	store_le32(run + 8, pages + 1);
	return true;
}

bool pages_add(struct pages_batch *batch, gpa_t gpa, const void *page, struct pages_seen *seen)
{
	uint32_t kind = memory_page_is_zero(page) ? 0 : WITH_BYTES;

	if (kind && batch->filled == PAGES_BATCH)
		return false;
	if (!go_on(batch, gpa, kind)) {
		if (batch->runs == PAGES_RUNS)
			return false;
		begin_run(batch, gpa, kind);
	}
	batch->pages++;
	if (kind) {
		memcpy(batch->data + batch->filled++ * MEMORY_PAGE, page, MEMORY_PAGE);
		seen->full++;
	} else {
		seen->zero++;
	}
	return true;
}

size_t pages_finish(struct pages_batch *batch, struct compressor *compressor, const uint8_t **data,
	size_t *length)
{
	size_t plain = batch->filled * MEMORY_PAGE;
	size_t packed =
		compressor && plain ? compressor_pack(compressor, batch->data, plain, data) : 0;

	if (!packed)
		*data = batch->data;
	*length = packed ? packed : plain;
	store_le32(batch->head, batch->runs);
	store_le32(batch->head + 4, packed ? COMPRESSED : 0);
	return PAGES_HEAD + (size_t)batch->runs * PAGES_RUN;
}

struct run {
	gpa_t gpa;
	uint64_t length; /* bytes */
	uint32_t kind;
};

static int open_run(
	struct run *run, const struct memory *memory, const uint8_t *bytes, struct error *err)
{
	run->gpa = GPA(load_le64(bytes));
	run->length = load_le32(bytes + 8) * MEMORY_PAGE;
	run->kind = load_le32(bytes + 12);
	if (run->gpa.value % MEMORY_PAGE || !run->length || run->kind > WITH_BYTES)
		return error_set(err, EPROTO, "a run of pages that is none");
	if (!memory_begin(memory, run->gpa, run->length))
		return error_set(err, EFAULT,
			"pages at 0x%llx, 0x%llx bytes: this machine has no memory there",
			(unsigned long long)run->gpa.value, (unsigned long long)run->length);
	return 0;
}

/* @from null: zeroes. */
static int put(struct memory *memory, struct memory_late *late, const struct run *run,
	const uint8_t *from, struct error *err)
{
	int ret;

	if (late)
		return memory_late_put(late, run->gpa, from, run->length, err);
	ret = from ? memory_write(memory, run->gpa, from, run->length)
		   : memory_discard(memory, run->gpa, run->length);
	return ret < 0 ? error_errno(err, -ret, from ? "pages" : "pages of zeroes") : 0;
}

/* @left: bytes of data that are still to come. */
static int apply_run(struct memory *memory, struct memory_late *late, const struct run *run,
	const uint8_t **data, size_t *left, struct error *err)
{
	int ret;

	if (run->kind != WITH_BYTES)
		return put(memory, late, run, NULL, err);
	if (run->length > *left)
		return error_set(err, EPROTO, "a run of pages without its bytes");
	ret = put(memory, late, run, *data, err);
	*data += run->length;
	*left -= run->length;
	return ret;
}

/* Bytes of all runs that have some; more than there may be: a number that is too large. */
static size_t bytes_of(const uint8_t *runs, uint32_t count)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < count; i++)
		if (load_le32(runs + (size_t)i * PAGES_RUN + 12) == WITH_BYTES)
			pages += load_le32(runs + (size_t)i * PAGES_RUN + 8);
	return (size_t)(pages * MEMORY_PAGE);
}

/* The bytes of pages in the place of their frame. */
static int unpack(struct decompressor **decompressor, size_t wanted, const uint8_t **data,
	size_t *length, struct error *err)
{
	int ret = *decompressor ? 0 : decompressor_new(decompressor, err);

	if (ret == 0)
		ret = decompressor_unpack(*decompressor, *data, *length, wanted, data, err);
	*length = wanted;
	return ret;
}

int pages_apply(struct memory *memory, struct memory_late *late, const uint8_t *body, size_t length,
	struct decompressor **decompressor, struct pages_seen *seen, struct error *err)
{
	uint32_t runs = length >= PAGES_HEAD ? load_le32(body) : PAGES_RUNS + 1;
	size_t head = PAGES_HEAD + (size_t)runs * PAGES_RUN, left;
	const uint8_t *data;
	int ret = 0;

	if (runs > PAGES_RUNS || head > length || load_le32(body + 4) > COMPRESSED)
		return error_set(err, EPROTO, "a message of pages with a broken head");
	data = body + head;
	left = length - head;
	if (load_le32(body + 4) == COMPRESSED)
		ret = unpack(decompressor, bytes_of(body + PAGES_HEAD, runs), &data, &left, err);
	for (uint32_t i = 0; ret == 0 && i < runs; i++) {
		struct run run;

		ret = open_run(&run, memory, body + PAGES_HEAD + (size_t)i * PAGES_RUN, err);
		if (ret == 0)
			ret = apply_run(memory, late, &run, &data, &left, err);
		if (ret == 0)
			*(run.kind ? &seen->full : &seen->zero) += run.length / MEMORY_PAGE;
	}
	if (ret == 0 && left)
		ret = error_set(err, EPROTO, "%zu bytes of pages that belong to no run", left);
	return ret;
}

unsigned pages_match(const uint8_t *body, size_t length, const uint64_t *gpas, unsigned count)
{
	const uint32_t runs = length >= PAGES_HEAD ? load_le32(body) : 0;
	unsigned matched = 0;

	if (runs > PAGES_RUNS || PAGES_HEAD + (size_t)runs * PAGES_RUN > length)
		return 0;
	for (uint32_t i = 0; i < runs; i++) {
		const uint8_t *run = body + PAGES_HEAD + (size_t)i * PAGES_RUN;
		const uint64_t gpa = load_le64(run);
		const uint32_t pages = load_le32(run + 8);

		if (pages > count - matched)
			return 0;
		for (uint32_t page = 0; page < pages; page++)
			if (gpas[matched++] != gpa + page * MEMORY_PAGE)
				return 0;
	}
	return matched;
}
