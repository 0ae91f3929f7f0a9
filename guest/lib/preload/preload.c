/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libduet-preload.so: large allocations of an unchanged program live on the heap device, so that
 * its fork() copies them in bulk. All others stay with the allocator that the program has.
 *
 * DUET_HEAP_MIN: bytes from which on an allocation is large (131072). DUET_HEAP_VERBOSE: 0 says
 * nothing, 1 (or unset) says when the device is absent, 2 says also that it is used.
 */
#include "duet/heap.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT   __attribute__((visibility("default")))
#define MIN_SIZE 131072UL
#define PAGE     4096UL

/* The program's own allocator: of the C library, or of a library that comes after this one. */
static struct {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t count, size_t size);
	void *(*realloc)(void *memory, size_t size);
	void *(*memalign)(size_t alignment, size_t size);
	void (*free)(void *memory);
	size_t (*usable)(void *memory);
} next;

static size_t large = SIZE_MAX; /* from this size on */

/* dlsym() may allocate before the functions are there: from here, never given back. */
static _Alignas(16) char early[16384];
static size_t early_used;
static int early_time; /* the process has one thread then */

static int is_early(const void *memory)
{
	return (uintptr_t)memory - (uintptr_t)early < sizeof(early);
}

static void *early_malloc(size_t size)
{
	char *memory = early + early_used;

	size = (size + 15) & ~15UL;
	if (size > sizeof(early) - early_used) {
		errno = ENOMEM;
		return NULL;
	}
	early_used += size;
	return memory;
}

static void say(const char *first, const char *second, const char *third)
{
	const char *words[] = {"libduet-preload: ", first, second, third, "\n"};
	char line[256];
	size_t length = 0;

	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
		size_t more = strnlen(words[i], sizeof(line) - length);

		memcpy(line + length, words[i], more);
		length += more;
	}
	if (write(STDERR_FILENO, line, length) < 0)
		return; /* nobody listens */
}

static void find_functions(void)
{
	early_time = 1;
	next.calloc = dlsym(RTLD_NEXT, "calloc");
	next.realloc = dlsym(RTLD_NEXT, "realloc");
	next.memalign = dlsym(RTLD_NEXT, "memalign");
	next.free = dlsym(RTLD_NEXT, "free");
	next.usable = dlsym(RTLD_NEXT, "malloc_usable_size");
	next.malloc = dlsym(RTLD_NEXT, "malloc");
	early_time = 0;
}

/* A wrong one is said whatever DUET_HEAP_VERBOSE: "1M" would else be one byte. */
static size_t least_size(void)
{
	const char *text = getenv("DUET_HEAP_MIN");
	char *end = NULL;
	size_t size;

	if (!text)
		return MIN_SIZE;
	size = strtoull(text, &end, 0);
	if (*text >= '0' && *text <= '9' && !*end)
		return size ? size : 1;
	say("DUET_HEAP_MIN=", text, ": no number of bytes; 131072 is taken");
	return MIN_SIZE;
}

static void choose(void)
{
	const char *words = getenv("DUET_HEAP_VERBOSE");
	int verbose = words ? atoi(words) : 1;
	size_t size = least_size();

	if (!duet_heap_assisted()) {
		if (verbose >= 1)
			say("/dev/duet-heap: ", strerror(errno),
				": fork() copies as ever; modprobe duet in a guest of duet that "
				"has --coop");
		return;
	}
	large = size;
	if (verbose >= 2)
		say("large allocations are on /dev/duet-heap", "", "");
}

static int ready(void)
{
	if (next.malloc)
		return 1;
	if (!early_time)
		find_functions();
	return next.malloc != NULL;
}

/* After libduet's own, which has the lower priority number. */
__attribute__((constructor(102))) static void set_up(void)
{
	if (ready())
		choose();
}

EXPORT void *malloc(size_t size)
{
	void *memory = size >= large ? duet_malloc(size) : NULL;

	if (memory)
		return memory;
	return ready() ? next.malloc(size) : early_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
	void *memory = NULL;
	size_t bytes;

	if (!__builtin_mul_overflow(count, size, &bytes) && bytes >= large)
		memory = duet_calloc(count, size);
	if (memory)
		return memory;
	if (ready())
		return next.calloc(count, size);
	return __builtin_mul_overflow(count, size, &bytes) ? NULL : early_malloc(bytes);
}

EXPORT void free(void *memory)
{
	if (!memory || is_early(memory))
		return;
	if (duet_owns(memory))
		duet_free(memory);
	else if (ready())
		next.free(memory);
}

static size_t size_of(void *memory)
{
	if (is_early(memory))
		return (size_t)(early + sizeof(early) - (char *)memory);
	return duet_owns(memory) ? duet_usable_size(memory) : next.usable(memory);
}

/* From one of the two allocators to the other. */
static void *move(void *memory, size_t size)
{
	size_t held = size_of(memory);
	void *moved = malloc(size);

	if (!moved)
		return NULL;
	memcpy(moved, memory, held < size ? held : size);
	free(memory);
	return moved;
}

EXPORT void *realloc(void *memory, size_t size)
{
	if (!memory)
		return malloc(size);
	if (!ready() || is_early(memory))
		return move(memory, size);
	if (duet_owns(memory)) {
		/* What shrinks far enough goes back; zero frees, as realloc() has it. */
		if (!size || size >= large)
			return duet_realloc(memory, size);
		return move(memory, size);
	}
	return size >= large ? move(memory, size) : next.realloc(memory, size);
}

EXPORT void *reallocarray(void *memory, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(memory, bytes);
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	void *memory = size >= large ? duet_aligned_alloc(alignment, size) : NULL;

	if (memory)
		return memory;
	return ready() ? next.memalign(alignment, size) : NULL;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

EXPORT int posix_memalign(void **memory, size_t alignment, size_t size)
{
	int code = errno;
	void *found;

	if (!alignment || (alignment & (alignment - 1)) || alignment % sizeof(void *))
		return EINVAL;
	found = memalign(alignment, size);
	errno = code;
	if (!found)
		return ENOMEM;
	*memory = found;
	return 0;
}

EXPORT void *valloc(size_t size)
{
	return memalign(PAGE, size);
}

EXPORT void *pvalloc(size_t size)
{
	return size > SIZE_MAX - PAGE ? NULL : memalign(PAGE, (size + PAGE - 1) & ~(PAGE - 1));
}

EXPORT size_t malloc_usable_size(void *memory)
{
	return memory && ready() ? size_of(memory) : 0;
}
