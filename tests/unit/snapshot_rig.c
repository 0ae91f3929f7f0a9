/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot_rig.h"

#include "state/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void make_machine(struct snapshot_rig *rig)
{
	struct state_writer writer;

	state_writer_init(&writer);
	state_section_begin(&writer, "machine", 1);
	state_put_u64(&writer, 42);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	rig->machine = writer.bytes;
	rig->machine_length = writer.length;
}

int rig_make(void **state)
{
	struct snapshot_rig *rig = calloc(1, sizeof(*rig));

	strcpy(rig->folder, "/tmp/snapshot.XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	rig->bytes =
		mmap(NULL, RIG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory_init(&rig->memory);
	assert_int_equal(memory_add_fixed(&rig->memory, GPA(0), RIG_LOW, rig->bytes), 0);
	assert_int_equal(memory_add_fixed(&rig->memory, GPA(4ULL << 30), RIG_SIZE - RIG_LOW,
				 rig->bytes + RIG_LOW),
		0);
	make_machine(rig);
	*state = rig;
	return 0;
}

int rig_free(void **state)
{
	struct snapshot_rig *rig = *state;
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", rig->folder);
	assert_int_equal(system(command), 0);
	memory_free(&rig->memory);
	munmap(rig->bytes, RIG_SIZE);
	free(rig->machine);
	free(rig);
	return 0;
}

uint8_t *rig_page(struct snapshot_rig *rig, unsigned page)
{
	return rig->bytes + page * MEMORY_PAGE;
}

void rig_touch(struct snapshot_rig *rig, unsigned page, uint8_t value)
{
	memset(rig_page(rig, page), value, MEMORY_PAGE);
	rig->changed[page / WORD_PAGES] |= 1ULL << page % WORD_PAGES;
}

const char *rig_path(struct snapshot_rig *rig, const char *name)
{
	static char paths[8][128];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", rig->folder, name);
	return path;
}

int rig_take(struct snapshot_rig *rig, const char *name, bool diff)
{
	const struct snapshot_place place = {.directory = rig_path(rig, name)};
	struct snapshot_content content = {.memory = &rig->memory,
		.config = "{}",
		.machine = rig->machine,
		.machine_length = rig->machine_length};
	int ret;

	assert_int_equal(snapshot_id_new(&content.id), 0);
	if (diff) {
		content.parent = rig->last;
		content.changed = rig->changed;
	}
	rig->err = (struct error){0};
	atomic_store(&rig->progress.done, 0);
	ret = snapshot_write(&content, &place, &rig->progress, &rig->err);
	if (ret == 0) {
		rig->last = content.id;
		memset(rig->changed, 0, sizeof(rig->changed));
	}
	return ret;
}

uint8_t *rig_load(const char *path, size_t *length)
{
	FILE *file = fopen(path, "re");
	uint8_t *bytes;

	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	*length = (size_t)ftell(file);
	rewind(file);
	bytes = malloc(*length + 1);
	assert_int_equal(fread(bytes, 1, *length, file), *length);
	fclose(file);
	return bytes;
}

void rig_store(const char *path, const void *bytes, size_t length)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

bool rig_same(struct snapshot_rig *rig, const char *name)
{
	char path[64];
	size_t length;
	uint8_t *bytes;
	bool same;

	snprintf(path, sizeof(path), "%s/memory", name);
	bytes = rig_load(rig_path(rig, path), &length);
	same = length == RIG_SIZE + SNAPSHOT_MARKS && memcmp(bytes, rig->bytes, RIG_SIZE) == 0;
	free(bytes);
	return same;
}

unsigned rig_entries(struct snapshot_rig *rig)
{
	DIR *list = opendir(rig->folder);
	unsigned count = 0;

	while (readdir(list))
		count++;
	closedir(list);
	return count - 2;
}
