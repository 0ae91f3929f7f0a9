/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator. An arena is 1 GiB of address space at a multiple of 1 GiB, or several such for one
 * large allocation, so a table finds the arena of any address at once. It consists of chunks of 64
 * KiB; a run of chunks is free, or one large allocation, or (a single chunk) a span of small
 * objects of one size. Chunks that are free read as zeroes: their memory was never used, or given
 * back.
 *
 * What describes arenas is ordinary memory, which fork() copies as well; all locks are held then.
 * Order of locks: a class's, the runs', heap.c's.
 */
#include "duet/heap.h"

#include "heap_private.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_SHIFT 30
#define ARENA       (1UL << ARENA_SHIFT)
#define CHUNK_SHIFT 16
#define CHUNK       (1UL << CHUNK_SHIFT)
#define CHUNKS      (ARENA >> CHUNK_SHIFT)
#define SLOTS       (1UL << (47 - ARENA_SHIFT)) /* of a process's address space */
#define SMALL_MAX   32768UL
#define STEP        16UL
#define ALIGN_MAX   (256UL << 20)

enum kind {
	KIND_NONE, /* the middle of a run */
	KIND_FREE,
	KIND_LARGE,
	KIND_SMALL,
};

/* Of a chunk; where it is neither the first nor the last of a run, of no meaning. */
struct chunk {
	uint32_t length;       /* chunks of the run: in its first, and in its last if free */
	_Atomic uint8_t kind;  /* in a run's first */
	uint8_t class;         /* small */
	uint16_t used, carved; /* objects: in use, and taken from the chunk so far */
	uint8_t *memory;       /* small: the chunk's */
	void *free;            /* objects that came back, each pointing to the next */
	struct chunk *next, *previous; /* spans of the class with room */
};

struct arena {
	uint8_t *base;
	size_t length;  /* bytes: ARENA, or more for a single run */
	uint32_t first; /* no chunk below is free */
	struct arena *next;
	struct chunk chunks[];
};

struct class
{
	pthread_mutex_t lock;
	struct chunk *room; /* spans with a free object */
};

#define CLASSES 40
static struct class classes[CLASSES];
static pthread_mutex_t runs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena *arenas;
/* Who reads an address's arena has got the address from who allocated it. */
static _Atomic(struct arena *) slots[SLOTS];

/* Sizes: 16 to 128 by 16, then four to each doubling. */
static unsigned class_of(size_t size)
{
	unsigned top;

	if (size <= 128)
		return size ? (unsigned)((size - 1) / STEP) : 0;
	top = 63U - (unsigned)__builtin_clzl(size - 1); /* 7 for 129 to 256 */
	return 8 + (top - 7) * 4 + (unsigned)((size - 1) >> (top - 2) & 3);
}

static size_t class_size(unsigned class)
{
	unsigned top = 7 + (class - 8) / 4;

	return class < 8 ? (class + 1) * STEP : (4 + (class - 8) % 4 + 1UL) << (top - 2);
}

static struct arena *arena_of(const void *memory)
{
	uintptr_t slot = (uintptr_t)memory >> ARENA_SHIFT;

	return slot < SLOTS ? atomic_load_explicit(&slots[slot], memory_order_acquire) : NULL;
}

static uint32_t index_of(const struct arena *arena, const void *memory)
{
	return (uint32_t)(((uintptr_t)memory - (uintptr_t)arena->base) >> CHUNK_SHIFT);
}

static uint8_t *address_of(const struct arena *arena, uint32_t index)
{
	return arena->base + ((size_t)index << CHUNK_SHIFT);
}

/* Runs. By runs_lock. */

static void mark_free(struct arena *arena, uint32_t index, uint32_t length)
{
	struct chunk *first = &arena->chunks[index], *last = first + length - 1;

	last->length = first->length = length;
	last->kind = first->kind = KIND_FREE;
	if (arena->first > index)
		arena->first = index;
}

static void mark_used(struct arena *arena, uint32_t index, uint32_t length, enum kind kind)
{
	struct chunk *first = &arena->chunks[index];

	/* Whoever frees a run looks at the chunk before it. */
	first[length - 1].kind = KIND_NONE;
	first->length = length;
	first->kind = (uint8_t)kind;
}

/* Address space at a multiple of the arena. */
static uint8_t *map_aligned(size_t length)
{
	uint8_t *all = duet_heap_map(length + ARENA), *base;
	size_t before;

	if (!all)
		return NULL;
	base = (uint8_t *)(((uintptr_t)all + ARENA - 1) & ~(ARENA - 1));
	before = (size_t)(base - all);
	if (before)
		duet_heap_unmap(all, before);
	if (ARENA - before)
		duet_heap_unmap(base + length, ARENA - before);
	return base;
}

static struct arena *arena_new(size_t length)
{
	size_t chunks = length >> CHUNK_SHIFT;
	struct arena *arena = mmap(NULL, sizeof(*arena) + chunks * sizeof(struct chunk),
		PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (arena == MAP_FAILED)
		return NULL;
	arena->base = map_aligned(length);
	if (!arena->base) {
		munmap(arena, sizeof(*arena) + chunks * sizeof(struct chunk));
		return NULL;
	}
	arena->length = length;
	mark_free(arena, 0, (uint32_t)chunks);
	arena->next = arenas;
	arenas = arena;
	for (size_t at = 0; at < length; at += ARENA)
		atomic_store_explicit(&slots[((uintptr_t)arena->base + at) >> ARENA_SHIFT], arena,
			memory_order_release);
	return arena;
}

/* An arena of more than one slot is for a single run, and goes with it. */
static void arena_free(struct arena *arena)
{
	size_t chunks = arena->length >> CHUNK_SHIFT;
	struct arena **link = &arenas;

	while (*link != arena)
		link = &(*link)->next;
	*link = arena->next;
	for (size_t at = 0; at < arena->length; at += ARENA)
		atomic_store_explicit(&slots[((uintptr_t)arena->base + at) >> ARENA_SHIFT], NULL,
			memory_order_release);
	duet_heap_unmap(arena->base, arena->length);
	munmap(arena, sizeof(*arena) + chunks * sizeof(struct chunk));
}

/* The free run at @index becomes used but for what is before @skip and behind @length. */
static void take(
	struct arena *arena, uint32_t index, uint32_t skip, uint32_t length, enum kind kind)
{
	uint32_t whole = arena->chunks[index].length, rest = whole - skip - length;

	if (skip)
		mark_free(arena, index, skip);
	else if (arena->first == index)
		arena->first = index + length;
	mark_used(arena, index + skip, length, kind);
	if (rest)
		mark_free(arena, index + skip + length, rest);
}

static void *take_from(struct arena *arena, uint32_t length, size_t alignment, enum kind kind)
{
	uint32_t end = (uint32_t)(arena->length >> CHUNK_SHIFT), unit = 1;

	if (alignment > CHUNK)
		unit = (uint32_t)(alignment >> CHUNK_SHIFT);
	for (uint32_t i = arena->first; i < end; i += arena->chunks[i].length) {
		uint32_t skip = (unit - i % unit) % unit;

		if (arena->chunks[i].kind != KIND_FREE ||
			arena->chunks[i].length < (size_t)skip + length)
			continue;
		take(arena, i, skip, length, kind);
		return address_of(arena, i + skip);
	}
	return NULL;
}

static void *run_new(size_t size, size_t alignment, enum kind kind)
{
	size_t length = (size + CHUNK - 1) >> CHUNK_SHIFT;
	struct arena *arena;
	void *found = NULL;

	pthread_mutex_lock(&runs_lock);
	for (arena = arenas; arena && !found; arena = arena->next)
		if (arena->length == ARENA && length <= CHUNKS)
			found = take_from(arena, (uint32_t)length, alignment, kind);
	if (!found) {
		arena = arena_new((size + ARENA - 1) & ~(ARENA - 1));
		if (arena)
			found = take_from(arena, (uint32_t)length, alignment, kind);
	}
	pthread_mutex_unlock(&runs_lock);
	if (!found)
		errno = ENOMEM;
	return found;
}

/* Chunks that nobody uses any more become a free run, with free neighbours. */
static void join_free(struct arena *arena, uint32_t index, uint32_t length)
{
	struct chunk *chunk = &arena->chunks[index];
	uint32_t end = (uint32_t)(arena->length >> CHUNK_SHIFT);

	if (index + length < end && chunk[length].kind == KIND_FREE)
		length += chunk[length].length;
	if (index && chunk[-1].kind == KIND_FREE) {
		index -= chunk[-1].length;
		length += arena->chunks[index].length;
	}
	mark_free(arena, index, length);
}

/* @length chunks from @index on are free; they become zeroes first. */
static void chunks_free(struct arena *arena, uint32_t index, uint32_t length)
{
	uint8_t *memory = address_of(arena, index);
	size_t bytes = (size_t)length << CHUNK_SHIFT;

	if (duet_heap_discard(memory, bytes) < 0)
		memset(memory, 0, bytes);
	pthread_mutex_lock(&runs_lock);
	/* In whoever's middle they are now: no stale word in it. */
	arena->chunks[index].kind = KIND_NONE;
	if (arena->length > ARENA && index == 0)
		arena_free(arena);
	else
		join_free(arena, index, length);
	pthread_mutex_unlock(&runs_lock);
}

/* Small objects. By the class's lock. */

static void room_add(struct class *class, struct chunk *span)
{
	span->previous = NULL;
	span->next = class->room;
	if (class->room)
		class->room->previous = span;
	class->room = span;
}

static void room_remove(struct class *class, struct chunk *span)
{
	if (span->previous)
		span->previous->next = span->next;
	else
		class->room = span->next;
	if (span->next)
		span->next->previous = span->previous;
}

static struct chunk *span_new(unsigned number)
{
	uint8_t *memory = run_new(CHUNK, 0, KIND_SMALL);
	struct arena *arena;
	struct chunk *span;

	if (!memory)
		return NULL;
	arena = arena_of(memory);
	span = &arena->chunks[index_of(arena, memory)];
	span->memory = memory;
	span->class = (uint8_t)number;
	span->used = span->carved = 0;
	span->free = NULL;
	room_add(&classes[number], span);
	return span;
}

static void *small_new(unsigned number)
{
	struct class *class = &classes[number];
	size_t size = class_size(number);
	void *object = NULL;
	struct chunk *span;

	pthread_mutex_lock(&class->lock);
	span = class->room ? class->room : span_new(number);
	if (span && span->free) {
		object = span->free;
		span->free = *(void **)object;
	} else if (span) {
		object = span->memory + span->carved++ * size;
	}
	if (span && ++span->used == CHUNK / size)
		room_remove(class, span);
	pthread_mutex_unlock(&class->lock);
	return object;
}

static void small_free(struct arena *arena, uint32_t index, void *object)
{
	struct chunk *span = &arena->chunks[index];
	unsigned number = span->class;
	struct class *class = &classes[number];
	int empty;

	pthread_mutex_lock(&class->lock);
	*(void **)object = span->free;
	span->free = object;
	if (span->used-- == CHUNK / class_size(number))
		room_add(class, span);
	/* One empty span stays, for who allocates and frees in turns. */
	empty = span->used == 0 && (class->room != span || span->next);
	if (empty)
		room_remove(class, span);
	pthread_mutex_unlock(&class->lock);
	if (empty)
		chunks_free(arena, index, 1);
}

/* fork() */

static void before_fork(void)
{
	for (unsigned i = 0; i < CLASSES; i++)
		pthread_mutex_lock(&classes[i].lock);
	pthread_mutex_lock(&runs_lock);
	heap_lock();
}

static void after_fork(void)
{
	heap_unlock();
	pthread_mutex_unlock(&runs_lock);
	for (unsigned i = CLASSES; i-- > 0;)
		pthread_mutex_unlock(&classes[i].lock);
}

__attribute__((constructor(101))) static void set_up(void)
{
	/* First of all, for prepare handlers run in reverse: those of others may still allocate. */
	pthread_atfork(before_fork, after_fork, after_fork);
}

/* What programs call */

static size_t usable(const struct arena *arena, uint32_t index)
{
	const struct chunk *chunk = &arena->chunks[index];

	return chunk->kind == KIND_SMALL ? class_size(chunk->class)
					 : (size_t)chunk->length << CHUNK_SHIFT;
}

int duet_owns(const void *memory)
{
	return arena_of(memory) != NULL;
}

size_t duet_usable_size(const void *memory)
{
	struct arena *arena = memory ? arena_of(memory) : NULL;

	return arena ? usable(arena, index_of(arena, memory)) : 0;
}

void *duet_malloc(size_t size)
{
	if (size <= SMALL_MAX)
		return small_new(class_of(size));
	if (size > PTRDIFF_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	return run_new(size, 0, KIND_LARGE);
}

void *duet_calloc(size_t count, size_t size)
{
	size_t bytes;
	void *memory;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	memory = duet_malloc(bytes);
	/* A run is zeroes already, and stays untouched. */
	return memory && bytes <= SMALL_MAX ? memset(memory, 0, bytes) : memory;
}

void *duet_aligned_alloc(size_t alignment, size_t size)
{
	unsigned class;

	if (!alignment || (alignment & (alignment - 1)) || alignment > ALIGN_MAX) {
		errno = EINVAL;
		return NULL;
	}
	if (size > PTRDIFF_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	if (size <= SMALL_MAX && alignment <= SMALL_MAX)
		for (class = class_of(size); class < CLASSES; class ++)
			if (class_size(class) % alignment == 0)
				return small_new(class);
	return run_new(size ? size : 1, alignment, KIND_LARGE);
}

void duet_free(void *memory)
{
	int code = errno;
	struct arena *arena = memory ? arena_of(memory) : NULL;
	uint32_t index;

	if (!arena)
		return;
	index = index_of(arena, memory);
	if (arena->chunks[index].kind == KIND_SMALL)
		small_free(arena, index, memory);
	else
		chunks_free(arena, index, arena->chunks[index].length);
	errno = code;
}

/* The run at @index gets @length chunks where it is; 0: it cannot. */
static int resize(struct arena *arena, uint32_t index, uint32_t length)
{
	struct chunk *chunk = &arena->chunks[index];
	uint32_t held = chunk->length, end = (uint32_t)(arena->length >> CHUNK_SHIFT);
	int done = 0;

	if (length > held) {
		pthread_mutex_lock(&runs_lock);
		if (index + held < end && chunk[held].kind == KIND_FREE &&
			chunk[held].length >= length - held) {
			take(arena, index + held, 0, length - held, KIND_NONE);
			chunk->length = length;
			done = 1;
		}
		pthread_mutex_unlock(&runs_lock);
		return done;
	}
	if (length < held) {
		pthread_mutex_lock(&runs_lock);
		mark_used(arena, index, length, KIND_LARGE);
		mark_used(arena, index + length, held - length, KIND_LARGE);
		pthread_mutex_unlock(&runs_lock);
		chunks_free(arena, index + length, held - length);
	}
	return 1;
}

static int fits_in_place(struct arena *arena, void *memory, size_t size)
{
	uint32_t index = index_of(arena, memory);
	const struct chunk *chunk = &arena->chunks[index];

	if (chunk->kind == KIND_SMALL)
		return size <= SMALL_MAX && class_of(size) == chunk->class;
	return size > SMALL_MAX && size <= arena->length &&
	       resize(arena, index, (uint32_t)((size + CHUNK - 1) >> CHUNK_SHIFT));
}

void *duet_realloc(void *memory, size_t size)
{
	struct arena *arena = memory ? arena_of(memory) : NULL;
	size_t held;
	void *moved;

	if (!arena)
		return duet_malloc(size);
	if (!size) {
		duet_free(memory);
		return NULL;
	}
	if (fits_in_place(arena, memory, size))
		return memory;
	moved = duet_malloc(size);
	if (!moved)
		return NULL;
	held = usable(arena, index_of(arena, memory));
	memcpy(moved, memory, held < size ? held : size);
	duet_free(memory);
	return moved;
}
