/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libduet's heap: contents, sizes, alignment, threads, fork. Without the device on ordinary memory,
 * with it on /dev/duet-heap. Says one line for each test, the last "test_heap: N passed".
 */
#include "duet/heap.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("test_heap: %s:%d: not so: %s\n", __func__, __LINE__, #condition);  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define OBJECTS 2000
struct object {
	uint8_t *memory;
	size_t size;
	uint8_t fill;
};

static size_t random_size(unsigned *seed)
{
	unsigned order = (unsigned)rand_r(seed) % 100;
	size_t size = (size_t)rand_r(seed);

	return order < 80 ? size % 1024 : order < 97 ? size % 65536 : size % (1 << 20);
}

static int holds(const struct object *object)
{
	const size_t length = object->size;

	if (!object->memory || !length)
		return 1;
	for (size_t i = 0; i < length; i += length / 64 + 1)
		if (object->memory[i] != object->fill)
			return 0;
	return object->memory[length - 1] == object->fill;
}

static void change(struct object *object, unsigned *seed)
{
	size_t size = random_size(seed);

	CHECK(holds(object));
	switch (rand_r(seed) % 4) {
	case 0:
		duet_free(object->memory);
		object->memory = NULL;
		object->size = 0;
		return;
	case 1:
		object->memory = duet_realloc(object->memory, size + 1);
		CHECK(object->memory);
		if (object->size > size + 1)
			object->size = size + 1;
		CHECK(holds(object));
		size++;
		break;
	case 2:
		duet_free(object->memory);
		object->memory = duet_calloc(1, size + 1);
		CHECK(object->memory && !object->memory[0] && !object->memory[size]);
		for (size_t i = 0; i < size; i += size / 64 + 1)
			CHECK(!object->memory[i]);
		break;
	default:
		duet_free(object->memory);
		object->memory = duet_malloc(size);
		CHECK(object->memory);
	}
	CHECK((uintptr_t)object->memory % 16 == 0 && duet_usable_size(object->memory) >= size);
	object->size = size;
	object->fill = (uint8_t)rand_r(seed);
	memset(object->memory, object->fill, size);
}

static void churn(unsigned seed, unsigned rounds)
{
	struct object *objects = calloc(OBJECTS, sizeof(*objects));

	for (unsigned i = 0; i < rounds; i++)
		change(&objects[(unsigned)rand_r(&seed) % OBJECTS], &seed);
	for (unsigned i = 0; i < OBJECTS; i++) {
		CHECK(holds(&objects[i]));
		duet_free(objects[i].memory);
	}
	free(objects);
}

static void keeps_contents(void)
{
	churn(1, 12000);
}

static void *churn_thread(void *seed)
{
	churn((unsigned)(uintptr_t)seed, 4000);
	return NULL;
}

static void serves_threads(void)
{
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, churn_thread, (void *)(i + 2)));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static _Atomic int stop;

static void *allocate_until_stop(void *seed)
{
	unsigned random = (unsigned)(uintptr_t)seed;

	while (!stop)
		duet_free(memset(duet_malloc(random_size(&random) + 1), 1, 1));
	return NULL;
}

/* A child of a program whose other threads allocate can allocate, and has what its parent had. */
static void child_allocates(void)
{
	pthread_t threads[2];
	uint32_t *words = duet_malloc(1 << 20);
	int status;

	stop = 0;
	for (uintptr_t i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], NULL, allocate_until_stop, (void *)(i + 9)));
	for (uint32_t round = 1; round <= 15; round++) {
		words[0] = words[(1 << 18) - 1] = round;
		pid_t child = fork();
		if (!child) {
			int right = words[0] == round && words[(1 << 18) - 1] == round;

			words[0] = 0;
			churn(round, 60);
			_exit(right ? 0 : 1);
		}
		words[0] = words[(1 << 18) - 1] = 77;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		CHECK(words[0] == 77);
	}
	stop = 1;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	duet_free(words);
}

static void aligns(void)
{
	for (size_t alignment = 1; alignment <= 1 << 22; alignment *= 2)
		for (size_t size = 1; size <= 1 << 21; size = size * 3 + 1) {
			char *memory = duet_aligned_alloc(alignment, size);

			CHECK(memory && (uintptr_t)memory % alignment == 0);
			memset(memory, 3, size);
			CHECK(duet_usable_size(memory) >= size);
			duet_free(memory);
		}
	CHECK(!duet_aligned_alloc(3, 16) && errno == EINVAL);
	CHECK(!duet_aligned_alloc(0, 16) && errno == EINVAL);
}

static void refuses_what_no_memory_has(void)
{
	CHECK(!duet_malloc(SIZE_MAX) && errno == ENOMEM);
	CHECK(!duet_malloc((size_t)PTRDIFF_MAX) && errno == ENOMEM);
	CHECK(!duet_calloc(SIZE_MAX / 2, 3) && errno == ENOMEM);
	CHECK(!duet_heap_map(0) && errno == EINVAL);
	CHECK(!duet_heap_map(SIZE_MAX) && errno == EINVAL);
	CHECK(!duet_owns(stdout) && !duet_usable_size(NULL));
	duet_free(NULL);
}

static void gives_more_than_an_arena(void)
{
	char *large = duet_malloc((size_t)3 << 30), *other = duet_malloc(100000), *more;

	CHECK(large && other && duet_owns(large) && duet_owns(large + (2UL << 30)));
	large[0] = 1;
	large[(3UL << 30) - 1] = 2;
	more = duet_realloc(large, 70000);
	CHECK(more && more[0] == 1);
	duet_free(more);
	duet_free(other);
	other = duet_calloc(1, (size_t)2 << 30);
	CHECK(other && !other[0] && !other[(2UL << 30) - 1]);
	duet_free(other);
}

static void grows_in_place_and_back(void)
{
	char *memory = duet_malloc(100000), *grown = duet_realloc(memory, 5000000);

	CHECK(grown);
	memset(grown, 5, 5000000);
	grown = duet_realloc(grown, 200000);
	CHECK(grown && grown[0] == 5 && grown[199999] == 5);
	memory = duet_calloc(1, 4000000);
	for (unsigned i = 0; i < 4000000; i++)
		CHECK(!memory[i]);
	duet_free(memory);
	duet_free(grown);
}

static void discards_and_unmaps_parts(void)
{
	char *memory = duet_heap_map(64 << 12);

	CHECK(memory);
	memset(memory, 7, 64 << 12);
	CHECK(!duet_heap_discard(memory + (8 << 12), 8 << 12));
	CHECK(memory[(8 << 12) - 1] == 7 && !memory[8 << 12] && !memory[(16 << 12) - 1]);
	CHECK(memory[16 << 12] == 7);
	CHECK(duet_heap_discard(memory + 1, 4096) < 0 && errno == EINVAL);
	CHECK(!duet_heap_unmap(memory + (32 << 12), 4 << 12));
	CHECK(memory[31 << 12] == 7 && memory[36 << 12] == 7);
	CHECK(!duet_heap_unmap(memory, 32 << 12) &&
		!duet_heap_unmap(memory + (36 << 12), 28 << 12));
}

/* A daemon closes all descriptors that it does not know. */
static void survives_a_closed_descriptor(void)
{
	char *memory = duet_malloc(1 << 20), *more;

	memset(memory, 9, 1 << 20);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	more = duet_calloc(1, 1 << 20);
	CHECK(more && !more[0] && !more[(1 << 20) - 1]);
	duet_free(memory);
	memory = duet_calloc(1, 1 << 20);
	for (unsigned i = 0; i < 1 << 20; i++)
		CHECK(!memory[i]);
	duet_free(memory);
	duet_free(more);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
		{"keeps contents", keeps_contents},
		{"serves threads", serves_threads},
		{"a child allocates", child_allocates},
		{"aligns", aligns},
		{"refuses what no memory has", refuses_what_no_memory_has},
		{"gives more than an arena", gives_more_than_an_arena},
		{"grows in place and back", grows_in_place_and_back},
		{"discards and unmaps parts", discards_and_unmaps_parts},
		{"survives a closed descriptor", survives_a_closed_descriptor},
	};
	const unsigned count = sizeof(tests) / sizeof(*tests);

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("test_heap: %s\n", duet_heap_assisted() ? "on the device" : "on ordinary memory");
	for (unsigned i = 0; i < count; i++) {
		tests[i].run();
		printf("test_heap: %s\n", tests[i].name);
	}
	printf("test_heap: %u passed\n", count);
	return 0;
}
