/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 (FIPS 180-4), for names of what is kept by its content: nobody can make two things of one
 * name. Any thread; a struct sha256 is one thread's.
 */
#ifndef DUET_BASE_SHA256_H
#define DUET_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE      32
#define SHA256_BLOCK     64
#define SHA256_TEXT_SIZE (2 * SHA256_SIZE + 1)

struct sha256 {
	uint32_t state[8];
	uint64_t length;             /* bytes so far */
	uint8_t block[SHA256_BLOCK]; /* what of them makes no whole block yet */
};

void sha256_begin(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t size);
/* With its length before it, so that what follows each other cannot be taken for something else. */
void sha256_add_text(struct sha256 *sha, const char *text);
void sha256_end(struct sha256 *sha, uint8_t digest[SHA256_SIZE]);
/* All at once. */
void sha256(const void *data, size_t size, uint8_t digest[SHA256_SIZE]);

/* In hexadecimal. */
void sha256_text(const uint8_t digest[SHA256_SIZE], char text[SHA256_TEXT_SIZE]);

#endif
