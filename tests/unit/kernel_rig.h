/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel loader with files of its own in a directory, and guest memory to load into. */
#ifndef DUET_TESTS_KERNEL_RIG_H
#define DUET_TESTS_KERNEL_RIG_H

#include "kernel_samples.h"
#include "x86/kernel.h"

#define KERNEL_RIG_RAM (64ULL << 20)

struct kernel_rig {
	char directory[64];
	char kernel[96], initrd[96], cache[96];
	struct memory memory;
	struct kernel_options options;
	const char *kernel_path, *initrd_path;
	struct kernel_entry entry;
	struct error err;
};

/* Of cmocka: *@state is the rig. */
int kernel_rig_set_up(void **state);
int kernel_rig_tear_down(void **state);
void kernel_rig_fresh(struct kernel_rig *f); /* memory as it was first */
void kernel_rig_write(const char *path, const void *bytes, size_t size);
/* @sample is the kernel's file from now on, and freed. */
void kernel_rig_give(struct kernel_rig *f, struct sample sample);
/* Opens the files and loads them: 0 or a negative errno, with words in the rig. */
int kernel_rig_load(struct kernel_rig *f);
void kernel_rig_words(struct kernel_rig *f, const char *words);
uint8_t *kernel_rig_guest(struct kernel_rig *f, uint64_t gpa, uint64_t size);
/* The image at @at, moved by @delta. */
void kernel_rig_image(struct kernel_rig *f, uint64_t at, uint64_t delta, bool inverse);

#endif
