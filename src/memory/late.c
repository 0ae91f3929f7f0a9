/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/thread.h"
#include "memory/late_private.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* #syscalls arrive: poll read write */

#define STACK_SIZE (128U << 10)
#define AT_ONCE    16 /* faults that are read */

static uint64_t bit_of(uint64_t page)
{
	return 1ULL << page % 64;
}

/* Number of the page that @gpa is in, which is memory's, and its region. */
static uint64_t page_at(
	const struct memory_late *late, gpa_t gpa, const struct memory_region **found)
{
	const struct memory_region *region = memory_region_at(late->memory, gpa, NULL);

	*found = region;
	return region ? region->first_page + (gpa.value - region->base.value) / MEMORY_PAGE : 0;
}

static void tell(const struct memory_late *late)
{
	/* The counter of an eventfd does not get full by ones. */
	eventfd_write(late->word, 1);
}

/* ---- which pages ---- */

void memory_late_lack(struct memory_late *late, gpa_t gpa, uint64_t bits)
{
	const struct memory_region *region;
	uint64_t page = page_at(late, gpa, &region), *word = &late->lacking[page / 64];

	if (!region)
		return;
	pthread_mutex_lock(&late->lock);
	atomic_fetch_add(&late->left, (unsigned)__builtin_popcountll(bits & ~*word));
	*word |= bits;
	pthread_mutex_unlock(&late->lock);
}

uint64_t memory_late_lacking(struct memory_late *late, gpa_t gpa)
{
	const struct memory_region *region;
	uint64_t page = page_at(late, gpa, &region), bits = 0;

	pthread_mutex_lock(&late->lock);
	if (region)
		bits = late->lacking[page / 64];
	pthread_mutex_unlock(&late->lock);
	return bits;
}

uint64_t memory_late_left(const struct memory_late *late)
{
	return atomic_load(&late->left);
}

uint64_t memory_arriving(const struct memory *memory)
{
	const struct memory_late *late = atomic_load_explicit(&memory->late, memory_order_acquire);

	return late ? memory_late_left(late) : 0;
}

/* From @page on, within @last: pages that lack, all or none of them; how many. */
static uint64_t run_from(
	const struct memory_late *late, uint64_t page, uint64_t last, bool *lacking)
{
	const uint64_t first = page;

	*lacking = late->lacking[page / 64] & bit_of(page);
	while (page < last && !!(late->lacking[page / 64] & bit_of(page)) == *lacking) {
		const bool whole = page % 64 == 0 && last - page >= 64 &&
				   late->lacking[page / 64] == (*lacking ? ~0ULL : 0);

		page += whole ? 64 : 1;
	}
	return page - first;
}

static void forget(struct memory_late *late, uint64_t page, uint64_t count)
{
	for (uint64_t at = page; at < page + count; at++)
		late->lacking[at / 64] &= ~bit_of(at);
	if (count && atomic_fetch_sub(&late->left, count) == count)
		tell(late);
}

void memory_late_drop(
	struct memory *memory, const struct memory_region *region, uint64_t offset, uint64_t length)
{
	struct memory_late *late = atomic_load_explicit(&memory->late, memory_order_acquire);
	uint64_t page = region->first_page + offset / MEMORY_PAGE;
	const uint64_t last = page + length / MEMORY_PAGE;
	bool any = false;

	if (!late || memory_late_left(late) == 0)
		return;
	pthread_mutex_lock(&late->lock);
	while (page < last) {
		bool lacking;
		uint64_t count = run_from(late, page, last, &lacking);

		if (lacking)
			forget(late, page, count);
		any |= lacking;
		page += count;
	}
	pthread_mutex_unlock(&late->lock);
	/* Who waits for one asks once more, and is given zeroes. */
	if (any)
		late_wake(late, region->mapped_at + offset, length);
}

/* ---- those that come ---- */

/* Zeroes are what there is without them; who waits for one asks once more and is given it. */
static int put_run(
	struct memory_late *late, uint64_t page, uint64_t count, uint8_t *to, const uint8_t *from)
{
	int ret = from ? late_place(late, to, from, count * MEMORY_PAGE) : 0;

	if (ret < 0)
		return ret;
	forget(late, page, count);
	if (!from)
		late_wake(late, to, count * MEMORY_PAGE);
	return 0;
}

static int put_runs(
	struct memory_late *late, uint64_t page, uint64_t last, uint8_t *to, const uint8_t *from)
{
	while (page < last) {
		bool lacking;
		uint64_t count = run_from(late, page, last, &lacking);
		int ret = lacking ? put_run(late, page, count, to, from) : 0;

		if (ret < 0)
			return ret;
		page += count;
		to += count * MEMORY_PAGE;
		from += from ? count * MEMORY_PAGE : 0;
	}
	return 0;
}

int memory_late_put(struct memory_late *late, gpa_t gpa, const uint8_t *bytes, uint64_t length,
	struct error *err)
{
	const struct memory_region *region;
	uint64_t page = page_at(late, gpa, &region);
	uint8_t *to = memory_begin(late->memory, gpa, length);
	int ret;

	if (!to || gpa.value % MEMORY_PAGE || length % MEMORY_PAGE)
		return error_set(err, EFAULT, "pages that are not the machine's");
	/* Who discards a page meanwhile comes before it was put, or behind: it is not put back. */
	pthread_mutex_lock(&late->lock);
	ret = put_runs(late, page, page + length / MEMORY_PAGE, to, bytes);
	pthread_mutex_unlock(&late->lock);
	return ret < 0 ? error_errno(err, -ret, "pages that come: userfaultfd") : 0;
}

/* ---- who waits ---- */

bool memory_late_next(struct memory_late *late, gpa_t *page)
{
	bool found;

	pthread_mutex_lock(&late->lock);
	found = late->count > 0;
	if (found) {
		*page = GPA(late->asked[late->first]);
		late->first = (late->first + 1) % LATE_ASKED_MAX;
		late->count--;
	}
	pthread_mutex_unlock(&late->lock);
	return found;
}

int memory_late_word(const struct memory_late *late)
{
	return late->word;
}

/* True: it lacks, and is asked for. Without room it comes with the others. */
static bool ask_for(struct memory_late *late, gpa_t gpa, uint64_t page)
{
	bool lacks;

	pthread_mutex_lock(&late->lock);
	lacks = late->lacking[page / 64] & bit_of(page);
	if (lacks && late->count < LATE_ASKED_MAX)
		late->asked[(late->first + late->count++) % LATE_ASKED_MAX] = gpa.value;
	pthread_mutex_unlock(&late->lock);
	if (lacks)
		tell(late);
	return lacks;
}

/* What does not lack was never written to, or given back: zeroes. Or it came just now. */
static void take_fault(struct memory_late *late, uint64_t address)
{
	uint8_t *host = (uint8_t *)(uintptr_t)(address & ~(MEMORY_PAGE - 1));
	const struct memory_region *region;
	gpa_t gpa;

	if (!memory_locate(late->memory, host, &gpa))
		return;
	/* Without memory for it, just now, he asks again. */
	if (!ask_for(late, gpa, page_at(late, gpa, &region)) &&
		late_place(late, host, NULL, MEMORY_PAGE) < 0)
		late_wake(late, host, MEMORY_PAGE);
}

static void read_faults(struct memory_late *late)
{
	struct uffd_msg faults[AT_ONCE];
	ssize_t got = read(late->fd, faults, sizeof(faults));

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(faults[0]); i++)
		if (faults[i].event == UFFD_EVENT_PAGEFAULT)
			take_fault(late, faults[i].arg.pagefault.address);
}

static void *serve(void *opaque)
{
	struct memory_late *late = opaque;
	struct pollfd fds[] = {
		{.fd = late->stop, .events = POLLIN}, {.fd = late->fd, .events = POLLIN}};

	pthread_setname_np(pthread_self(), "duet-faults");
	thread_confine(THREAD_ARRIVE);
	while (!fds[0].revents) {
		if (poll(fds, ARRAY_SIZE(fds), -1) > 0 && fds[1].revents & POLLIN)
			read_faults(late);
	}
	return NULL;
}

int memory_late_serve(struct memory_late *late, struct error *err)
{
	int ret = thread_start(&late->thread, STACK_SIZE, serve, late);

	late->serves = ret == 0;
	return ret ? error_errno(err, ret, "post-copy: thread") : 0;
}

/* ---- its life ---- */

int memory_late_open(struct memory_late **out, struct memory *memory, struct error *err)
{
	struct memory_late *late = calloc(1, sizeof(*late));
	int ret;

	if (!late)
		return error_errno(err, ENOMEM, "post-copy");
	*late = (struct memory_late){.memory = memory, .fd = -1};
	pthread_mutex_init(&late->lock, NULL);
	late->lacking = calloc(memory->pages / 64 + 1, sizeof(uint64_t));
	late->word = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	late->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!late->lacking || late->word < 0 || late->stop < 0)
		ret = error_errno(err, late->lacking ? errno : ENOMEM, "post-copy");
	else
		ret = late_open_host(late, err);
	if (ret < 0)
		memory_late_free(late);
	else
		*out = late;
	return ret;
}

/* Those that came before they were written to again. */
static int take_away(struct memory_late *late, const struct memory_region *region)
{
	const uint64_t last = region->first_page + region->size / MEMORY_PAGE;
	uint64_t page = region->first_page;
	int ret = 0;

	while (ret == 0 && page < last) {
		bool lacking;
		uint64_t count = run_from(late, page, last, &lacking);

		if (lacking)
			ret = memory_discard(late->memory,
				gpa_add(region->base, (page - region->first_page) * MEMORY_PAGE),
				count * MEMORY_PAGE);
		page += count;
	}
	return ret;
}

int memory_late_begin(struct memory_late *late, struct error *err)
{
	const struct memory_region *region;
	/* First: the kernel joins no pages into a huge one around those that are taken away. */
	int ret = late_watch(late, err);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; ret == 0 && (region = memory_region(late->memory, i)); i++)
		ret = take_away(late, region);
	if (ret < 0)
		return error_errno(err, -ret, "post-copy: pages that come again");
	atomic_store_explicit(&late->memory->late, late, memory_order_release);
	return 0;
}

void memory_late_end(struct memory_late *late)
{
	const struct memory_region *region;

	for (unsigned i = 0; (region = memory_region(late->memory, i)); i++)
		memory_late_drop(late->memory, region, 0, region->size);
	late_unwatch(late);
	if (late->serves) {
		eventfd_write(late->stop, 1);
		pthread_join(late->thread, NULL);
	}
	late->serves = false;
}

void memory_late_free(struct memory_late *late)
{
	if (!late)
		return;
	memory_late_end(late);
	atomic_store(&late->memory->late, NULL);
	for (int fds[] = {late->fd, late->word, late->stop}, i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	pthread_mutex_destroy(&late->lock);
	free(late->lacking);
	free(late);
}
