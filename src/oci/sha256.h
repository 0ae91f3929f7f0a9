/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, for names of what is kept by its content: nobody can make two things of one name. */
#ifndef DUET_OCI_SHA256_H
#define DUET_OCI_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE      32
#define SHA256_TEXT_SIZE (2 * SHA256_SIZE + 1)

struct sha256 {
	uint32_t state[8];
	uint64_t length;
	uint8_t block[64];
};

void sha256_begin(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *bytes, size_t length);
/* With its length before it, so that what follows each other cannot be taken for something else. */
void sha256_add_text(struct sha256 *sha, const char *text);
/* In hexadecimal. */
void sha256_end(struct sha256 *sha, char text[SHA256_TEXT_SIZE]);

#endif
