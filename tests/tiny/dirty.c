/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages a guest has written to, by KVM's bitmaps and by its ring: none that it did not write
 * to, and none missing, though it is asked for while the guest writes. */
#include "tiny.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define MORE  1U /* the region */
#define WORDS (TINY_MORE_PAGES / 64)

/* In each of %ebx rounds: another number into each of %edx pages from %esi on. */
static const uint8_t code[] = {
	0x89, 0xd1, 0x89, 0xf7,             /* mov %edx, %ecx; mov %esi, %edi */
	0x40, 0x89, 0x07,                   /* 1: inc %eax; mov %eax, (%edi) */
	0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /* add $0x1000, %edi */
	0x49, 0x75, 0xf4,                   /* dec %ecx; jnz 1b */
	0x4b, 0x75, 0xed,                   /* dec %ebx; jnz 0 */
	0xe6, TINY_DONE,                    /* out %al, $TINY_DONE */
};

/* False: there is no ring, and that was said. */
static bool open_logged(struct tiny *tiny, bool ring)
{
	tiny_open_flat(tiny, ring);
	if (ring && !kvm_vm_dirty_by_ring(tiny->vm)) {
		printf("dirty ring: this KVM has none\n");
		tiny_close(tiny);
		return false;
	}
	CHECK(kvm_vm_dirty_by_ring(tiny->vm) == ring);
	tiny_load(tiny, TINY_CODE, code, sizeof(code));
	CHECK(kvm_vm_dirty_log(tiny->vm, true) == 0);
	return true;
}

static void write_pages(struct tiny *tiny, unsigned first, unsigned pages, unsigned rounds)
{
	struct kvm_regs regs;

	CHECK(kvm_vcpu_get_regs(tiny->vcpu, &regs) == 0);
	regs.rip = TINY_CODE;
	regs.rsi = TINY_MORE + first * MEMORY_PAGE;
	regs.rdx = pages;
	regs.rbx = rounds;
	CHECK(kvm_ioctl(tiny->vcpu->fd, KVM_SET_REGS, &regs) == 0);
	CHECK(tiny_run(tiny) == KVM_RUN_AGAIN);
}

/* Those and no others. */
static void check_written(struct tiny *tiny, unsigned first, unsigned pages)
{
	uint64_t bitmap[WORDS];

	CHECK(kvm_vm_dirty_take(tiny->vm, MORE, bitmap) == 0);
	for (unsigned page = 0; page < TINY_MORE_PAGES; page++)
		CHECK((bitmap[page / 64] >> page % 64 & 1) == (page - first < pages));
}

static void test_exactly(bool ring)
{
	struct tiny tiny;
	uint64_t full;

	if (!open_logged(&tiny, ring))
		return;
	check_written(&tiny, 0, 0);
	/* Three times what a ring holds. */
	write_pages(&tiny, 100, 3 * DIRTY_RING_ENTRIES, 1);
	full = kvm_vcpu_exits(tiny.vcpu, EXIT_DIRTY_FULL);
	CHECK(ring ? full >= 2 : full == 0);
	check_written(&tiny, 100, 3 * DIRTY_RING_ENTRIES);
	CHECK(ring ? kvm_vcpu_dirtied(tiny.vcpu) >= 3 * DIRTY_RING_ENTRIES
		   : kvm_vcpu_dirtied(tiny.vcpu) == 0);
	check_written(&tiny, 0, 0);
	/* Once more, now that they are protected again. */
	write_pages(&tiny, 200, 10, 1);
	check_written(&tiny, 200, 10);
	write_pages(&tiny, TINY_MORE_PAGES - 1, 1, 5);
	check_written(&tiny, TINY_MORE_PAGES - 1, 1);
	tiny_close(&tiny);
	tiny_ok(ring ? "dirty ring" : "dirty log");
}

/* Without a log the guest is not held up, and what it wrote is not told by the next. */
static void test_off_and_on(bool ring)
{
	struct tiny tiny;
	uint64_t full;

	if (!open_logged(&tiny, ring))
		return;
	write_pages(&tiny, 0, 500, 1);
	CHECK(kvm_vm_dirty_log(tiny.vm, false) == 0);
	full = kvm_vcpu_exits(tiny.vcpu, EXIT_DIRTY_FULL);
	write_pages(&tiny, 0, TINY_MORE_PAGES, 2);
	CHECK(kvm_vcpu_exits(tiny.vcpu, EXIT_DIRTY_FULL) == full);
	CHECK(kvm_vm_dirty_log(tiny.vm, true) == 0);
	check_written(&tiny, 0, 0);
	write_pages(&tiny, 7, 1, 1);
	check_written(&tiny, 7, 1);
	CHECK(kvm_vm_dirty_log(tiny.vm, false) == 0);
	tiny_close(&tiny);
	tiny_ok(ring ? "dirty ring, off and on" : "dirty log, off and on");
}

/* ---- as a move does it ---- */

struct copy {
	struct tiny *tiny;
	uint8_t *bytes;
	_Atomic bool enough;
	uint64_t pages;
};

static void copy_written(struct copy *copy)
{
	uint64_t bitmap[WORDS];
	const uint8_t *from = tiny_ram(copy->tiny, TINY_MORE);

	CHECK(kvm_vm_dirty_take(copy->tiny->vm, MORE, bitmap) == 0);
	for (unsigned page = 0; page < TINY_MORE_PAGES; page++) {
		const size_t at = (size_t)page * MEMORY_PAGE;

		if (!(bitmap[page / 64] >> page % 64 & 1))
			continue;
		memcpy(copy->bytes + at, from + at, MEMORY_PAGE);
		copy->pages++;
	}
}

static void *copy_on(void *opaque)
{
	struct copy *copy = opaque;

	while (!atomic_load(&copy->enough))
		copy_written(copy);
	return NULL;
}

static void test_nothing_is_lost(bool ring)
{
	struct tiny tiny;
	struct copy copy = {.tiny = &tiny, .bytes = calloc(TINY_MORE_PAGES, MEMORY_PAGE)};
	pthread_t thread;

	if (!open_logged(&tiny, ring)) {
		free(copy.bytes);
		return;
	}
	CHECK(copy.bytes);
	CHECK(pthread_create(&thread, NULL, copy_on, &copy) == 0);
	write_pages(&tiny, 0, 6000, 3);
	write_pages(&tiny, 5990, 50, 200);
	atomic_store(&copy.enough, true);
	pthread_join(thread, NULL);
	copy_written(&copy);
	CHECK(copy.pages >= 6040);
	CHECK(memcmp(copy.bytes, tiny_ram(&tiny, TINY_MORE), TINY_MORE_PAGES * MEMORY_PAGE) == 0);
	free(copy.bytes);
	tiny_close(&tiny);
	tiny_ok(ring ? "dirty ring, while it runs" : "dirty log, while it runs");
}

int main(void)
{
	for (unsigned ring = 0; ring < 2; ring++) {
		test_exactly(ring);
		test_off_and_on(ring);
		test_nothing_is_lost(ring);
	}
	return 0;
}
