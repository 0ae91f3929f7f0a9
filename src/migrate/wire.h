/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of a migration, as docs/migration-protocol.md has them: a header of 20 bytes, then
 * the body. Numbers are little-endian. Pure functions, any thread.
 *
 *   u32 magic   u16 kind   u16 0   u32 length of the body   u32 CRC-32C of the body   u32 CRC-32C
 *   of the header up to here, so that nobody waits for a body of a wrong length
 */
#ifndef DUET_MIGRATE_WIRE_H
#define DUET_MIGRATE_WIRE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION     3
#define WIRE_HEADER      20
#define WIRE_CRC_AT      12 /* the body's */
#define WIRE_ID          16 /* bytes that tell one migration from another */
#define WIRE_STREAMS_MAX 16
#define WIRE_WANT_MAX    64    /* pages that are asked for at once */
#define WIRE_WAIT_MAX    86400 /* seconds */

enum wire_kind {
	WIRE_HELLO = 1, /* source, first on each stream */
	WIRE_WELCOME,   /* target, its answer */
	WIRE_CONFIG,    /* source: the machine's configuration in JSON */
	WIRE_BUILT,     /* target: it has such a machine */
	WIRE_PAGES,     /* source, on any stream */
	WIRE_LAST,      /* source, on each stream: no more pages */
	WIRE_STATE,     /* source: all but memory */
	WIRE_READY,   /* target: everything is in place, nothing can fail any more but the disks */
	WIRE_COMMIT,  /* source: it is yours */
	WIRE_RUNNING, /* target */
	WIRE_FAILED,  /* either: why; the last message */
	WIRE_LACKS,   /* either: pages that are to come after the hand-over (lacks.h) */
	WIRE_WANT,    /* target: addresses of pages that somebody waits for, 64 bits each */
	WIRE_WHOLE,   /* target: it has all of memory, or needs no more */
	WIRE_KINDS,
};

struct wire_header {
	enum wire_kind kind;
	uint32_t length; /* of the body: within what the kind may have */
	uint32_t crc;    /* of the body */
};

struct wire_hello {
	uint32_t version, streams, index;
	/* Seconds for which either side waits for the other when the line is cut after the
	 * hand-over, and then there is a stream more, of @index @streams, for pages that are asked
	 * for; 0: memory comes before it. */
	uint32_t wait;
	uint8_t id[WIRE_ID];
};
#define WIRE_HELLO_SIZE (16 + WIRE_ID)

/* Of all kinds of pages. */
static inline uint32_t wire_connections(const struct wire_hello *hello)
{
	return hello->streams + (hello->wait ? 1 : 0);
}

/* What a stream has carried, to be compared at its end. */
struct wire_last {
	uint64_t messages, pages;
	uint32_t crc; /* of the CRCs of its WIRE_PAGES */
};
#define WIRE_LAST_SIZE 20

const char *wire_name(enum wire_kind kind);
/* The body in two parts; the second may be empty. */
void wire_seal(uint8_t header[WIRE_HEADER], enum wire_kind kind, const void *body, size_t length,
	const void *more, size_t more_length);
/* A header from the other side. -EPROTO. */
int wire_open(struct wire_header *header, const uint8_t bytes[WIRE_HEADER], struct error *err);
int wire_check(const struct wire_header *header, const void *body, struct error *err);

void wire_put_hello(uint8_t to[WIRE_HELLO_SIZE], const struct wire_hello *hello);
/* -ENOTSUP: of another version. */
int wire_get_hello(struct wire_hello *hello, const uint8_t *body, size_t length, struct error *err);
void wire_put_last(uint8_t to[WIRE_LAST_SIZE], const struct wire_last *last);
/* -EPROTO when what came is not what was sent, @seen. */
int wire_check_last(
	const struct wire_last *seen, const uint8_t *body, size_t length, struct error *err);

#endif
