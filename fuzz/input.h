/* SPDX-License-Identifier: Apache-2.0 */
/* Takes numbers from a fuzzer's input; zeroes when it is used up. */
#ifndef DUET_FUZZ_INPUT_H
#define DUET_FUZZ_INPUT_H

#include "base/checked.h"

#include <string.h>

struct input {
	const uint8_t *at;
	size_t left;
};

static inline void input_bytes(struct input *input, void *to, size_t length)
{
	size_t part = min_u64(length, input->left);

	memset(to, 0, length);
	if (part)
		memcpy(to, input->at, part);
	input->at += part;
	input->left -= part;
}

static inline uint64_t input_number(struct input *input, unsigned bytes)
{
	uint64_t value = 0;

	input_bytes(input, &value, bytes);
	return value;
}

/* 1, 2, 4 or 8. */
static inline unsigned input_size(struct input *input)
{
	return 1U << (input_number(input, 1) & 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
