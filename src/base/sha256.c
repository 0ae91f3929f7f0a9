/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha256.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 64

/* FIPS 180-4, 4.2.2. */
static const uint32_t round_constants[ROUNDS] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5,
	0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
	0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
	0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
	0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624,
	0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3,
	0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint32_t initial_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static uint32_t rotate(uint32_t value, unsigned by)
{
	return value >> by | value << (32 - by);
}

static uint32_t load_be32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return be32toh(value);
}

static void schedule(uint32_t w[ROUNDS], const uint8_t *block)
{
	for (unsigned t = 0; t < 16; t++)
		w[t] = load_be32(block + 4 * t);
	for (unsigned t = 16; t < ROUNDS; t++) {
		uint32_t a = w[t - 15], b = w[t - 2];
		uint32_t s0 = rotate(a, 7) ^ rotate(a, 18) ^ a >> 3;
		uint32_t s1 = rotate(b, 17) ^ rotate(b, 19) ^ b >> 10;

		w[t] = w[t - 16] + s0 + w[t - 7] + s1;
	}
}

static void compress(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[ROUNDS], s[8];

	schedule(w, block);
	memcpy(s, state, sizeof(s));
	for (unsigned t = 0; t < ROUNDS; t++) {
		uint32_t e = s[4], a = s[0];
		uint32_t t1 = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
			      ((e & s[5]) ^ (~e & s[6])) + round_constants[t] + w[t];
		uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
			      ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(s[0]));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (unsigned i = 0; i < 8; i++)
		state[i] += s[i];
}

void sha256_begin(struct sha256 *sha)
{
	*sha = (struct sha256){0};
	memcpy(sha->state, initial_state, sizeof(sha->state));
}

/* Whole blocks are not copied. */
void sha256_add(struct sha256 *sha, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size) {
		const size_t held = sha->length % SHA256_BLOCK, room = SHA256_BLOCK - held;
		const size_t some = size < room ? size : room;

		if (some == SHA256_BLOCK)
			compress(sha->state, at);
		else
			memcpy(sha->block + held, at, some);
		if (held && some == room)
			compress(sha->state, sha->block);
		sha->length += some;
		at += some;
		size -= some;
	}
}

void sha256_add_text(struct sha256 *sha, const char *text)
{
	const uint64_t length = strlen(text);

	sha256_add(sha, &length, sizeof(length));
	sha256_add(sha, text, length);
}

void sha256_end(struct sha256 *sha, uint8_t digest[SHA256_SIZE])
{
	static const uint8_t padding[SHA256_BLOCK] = {0x80};
	const uint64_t bits = htobe64(sha->length * 8);
	const size_t held = sha->length % SHA256_BLOCK, end = SHA256_BLOCK - sizeof(bits);

	sha256_add(sha, padding, (held < end ? end : end + SHA256_BLOCK) - held);
	sha256_add(sha, &bits, sizeof(bits));
	for (unsigned i = 0; i < 8; i++) {
		uint32_t word = htobe32(sha->state[i]);

		memcpy(digest + 4 * i, &word, sizeof(word));
	}
}

void sha256(const void *data, size_t size, uint8_t digest[SHA256_SIZE])
{
	struct sha256 sha;

	sha256_begin(&sha);
	sha256_add(&sha, data, size);
	sha256_end(&sha, digest);
}

void sha256_text(const uint8_t digest[SHA256_SIZE], char text[SHA256_TEXT_SIZE])
{
	for (size_t i = 0; i < SHA256_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
}
