/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_rig.h"

#include "base/bytes.h"
#include "x86/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void kernel_rig_write(const char *path, const void *bytes, size_t size)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

int kernel_rig_set_up(void **state)
{
	struct kernel_rig *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->directory, "/tmp/duet-kernel-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	snprintf(f->kernel, sizeof(f->kernel), "%s/kernel", f->directory);
	snprintf(f->initrd, sizeof(f->initrd), "%s/initrd", f->directory);
	snprintf(f->cache, sizeof(f->cache), "%s/some/cache", f->directory);
	memory_init(&f->memory);
	assert_int_equal(
		memory_add(&f->memory, GPA(0), KERNEL_RIG_RAM, MEMORY_ANONYMOUS, "low", &f->err),
		0);
	f->kernel_path = f->kernel;
	f->options = (struct kernel_options){
		.cmdline = "console=ttyS0", .rsdp = LAYOUT_ACPI, .ram_size = KERNEL_RIG_RAM};
	*state = f;
	return 0;
}

int kernel_rig_tear_down(void **state)
{
	struct kernel_rig *f = *state;
	char command[128];

	memory_free(&f->memory);
	snprintf(command, sizeof(command), "rm -rf '%s'", f->directory);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

void kernel_rig_fresh(struct kernel_rig *f)
{
	memory_free(&f->memory);
	memory_init(&f->memory);
	assert_int_equal(
		memory_add(&f->memory, GPA(0), KERNEL_RIG_RAM, MEMORY_ANONYMOUS, "low", &f->err),
		0);
}

void kernel_rig_give(struct kernel_rig *f, struct sample sample)
{
	kernel_rig_write(f->kernel, sample.data, sample.size);
	free(sample.data);
}

int kernel_rig_load(struct kernel_rig *f)
{
	struct kernel_source *source = NULL;
	int ret;

	memset(&f->err, 0, sizeof(f->err));
	ret = kernel_source_open(&source, f->kernel_path, f->initrd_path, &f->err);
	if (ret == 0)
		ret = kernel_load(&f->memory, source, &f->options, &f->entry, &f->err);
	kernel_source_close(source);
	return ret;
}

void kernel_rig_words(struct kernel_rig *f, const char *words)
{
	if (!strstr(f->err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", f->err.text, words);
}

uint8_t *kernel_rig_guest(struct kernel_rig *f, uint64_t gpa, uint64_t size)
{
	uint8_t *host = memory_begin(&f->memory, GPA(gpa), size);

	assert_non_null(host);
	return host;
}

static bool is_place(uint64_t offset)
{
	return offset - SAMPLE_PLACE_64 < 8 || offset - SAMPLE_PLACE_INVERSE < 4 ||
	       offset - SAMPLE_PLACE_32 < 4;
}

void kernel_rig_image(struct kernel_rig *f, uint64_t at, uint64_t delta, bool inverse)
{
	const uint8_t *image = kernel_rig_guest(f, at, SAMPLE_SIZE);

	for (uint64_t i = 0; i < SAMPLE_SIZE; i++)
		if (!is_place(i) && image[i] != sample_byte(i))
			fail_msg("byte 0x%lx is %02x", (unsigned long)i, image[i]);
	assert_int_equal(load_le64(image + SAMPLE_PLACE_64), SAMPLE_VALUE_64 + delta);
	assert_int_equal(load_le32(image + SAMPLE_PLACE_32), (uint32_t)(SAMPLE_VALUE_32 + delta));
	assert_int_equal(load_le32(image + SAMPLE_PLACE_INVERSE),
		(uint32_t)(SAMPLE_VALUE_INVERSE - (inverse ? delta : 0)));
}
