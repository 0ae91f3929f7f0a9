/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/sharing_list.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

void sharing_list_free(struct sharing_list *list)
{
	free(list->parts);
	*list = (struct sharing_list){0};
}

int sharing_list_add(struct sharing_list *list, uint64_t gpa, uint64_t length)
{
	if (!length)
		return 0;
	if (list->count == list->room) {
		const unsigned room = list->room ? 2 * list->room : 64;
		struct memory_part *more = reallocarray(list->parts, room, sizeof(*more));

		if (!more) {
			sharing_list_free(list);
			return -ENOMEM;
		}
		list->parts = more;
		list->room = room;
	}
	list->parts[list->count++] = (struct memory_part){.gpa = gpa, .length = length};
	return 0;
}

static int by_place(const void *one, const void *other)
{
	const struct memory_part *a = one, *b = other;

	return a->gpa < b->gpa ? -1 : a->gpa > b->gpa;
}

void sharing_list_join(struct sharing_list *list)
{
	unsigned last = 0;

	if (!list->count)
		return;
	qsort(list->parts, list->count, sizeof(*list->parts), by_place);
	for (unsigned i = 1; i < list->count; i++) {
		struct memory_part *part = &list->parts[last], *next = &list->parts[i];
		const uint64_t end = part->gpa + part->length, other = next->gpa + next->length;

		if (next->gpa > end)
			list->parts[++last] = *next;
		else if (other > end)
			part->length = other - part->gpa;
	}
	list->count = last + 1;
}

int sharing_list_unite(struct sharing_list *list, const struct sharing_list *more)
{
	for (unsigned i = 0; i < more->count; i++) {
		int ret = sharing_list_add(list, more->parts[i].gpa, more->parts[i].length);

		if (ret < 0)
			return ret;
	}
	sharing_list_join(list);
	return 0;
}

/* Of one run; @from is the first of @without that may reach into it. */
static int each_but(const struct memory_part *part, const struct sharing_list *without,
	unsigned from, int (*visit)(void *opaque, uint64_t gpa, uint64_t length), void *opaque)
{
	const uint64_t end = part->gpa + part->length;
	uint64_t at = part->gpa;
	int ret = 0;

	for (unsigned i = from; ret >= 0 && i < without->count && without->parts[i].gpa < end;
		i++) {
		const struct memory_part *hole = &without->parts[i];

		if (hole->gpa > at)
			ret = visit(opaque, at, hole->gpa - at);
		at = hole->gpa + hole->length;
	}
	return ret >= 0 && at < end ? visit(opaque, at, end - at) : ret;
}

int sharing_list_each_but(const struct sharing_list *list, const struct sharing_list *without,
	int (*visit)(void *opaque, uint64_t gpa, uint64_t length), void *opaque)
{
	unsigned from = 0;
	int ret = 0;

	for (unsigned i = 0; ret >= 0 && i < list->count; i++) {
		while (from < without->count &&
			without->parts[from].gpa + without->parts[from].length <=
				list->parts[i].gpa)
			from++;
		ret = each_but(&list->parts[i], without, from, visit, opaque);
	}
	return ret < 0 ? ret : 0;
}

static int by_length(const void *one, const void *other)
{
	const struct memory_part *a = one, *b = other;

	return a->length > b->length ? -1 : a->length < b->length;
}

uint64_t sharing_list_cut(struct sharing_list *list, unsigned most)
{
	uint64_t gone = 0;

	if (list->count <= most)
		return 0;
	qsort(list->parts, list->count, sizeof(*list->parts), by_length);
	while (list->count > most)
		gone += list->parts[--list->count].length;
	qsort(list->parts, list->count, sizeof(*list->parts), by_place);
	return gone;
}

uint64_t sharing_list_bytes(const struct sharing_list *list)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < list->count; i++)
		sum += list->parts[i].length;
	return sum;
}

struct memory_part *sharing_list_find(
	const struct sharing_list *list, uint64_t gpa, uint64_t length)
{
	const struct memory_part key = {.gpa = gpa};
	struct memory_part *found =
		list->count ? bsearch(&key, list->parts, list->count, sizeof(key), by_place) : NULL;

	return found && found->length == length ? found : NULL;
}
