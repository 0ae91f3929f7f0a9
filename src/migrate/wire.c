/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/wire.h"

#include "base/bytes.h"
#include "migrate/lacks.h"
#include "migrate/pages.h"
#include "state/crc32c.h"

#include <errno.h>
#include <string.h>

#define MAGIC      0x474d5444U /* "DTMG" */
#define OWN_CRC_AT 16
#define TEXT       512
#define CONFIG     (1U << 20)
#define STATE      (64U << 20)

struct kind {
	const char *name;
	uint32_t least, most; /* bytes of its body */
};

static const struct kind kinds[WIRE_KINDS] = {
	[WIRE_HELLO] = {"hello", 4, WIRE_HELLO_SIZE},
	[WIRE_WELCOME] = {"welcome", WIRE_HELLO_SIZE, WIRE_HELLO_SIZE},
	[WIRE_CONFIG] = {"configuration", 2, CONFIG},
	[WIRE_BUILT] = {"built", 0, 0},
	[WIRE_PAGES] = {"pages", PAGES_HEAD, PAGES_BODY_MAX},
	[WIRE_LAST] = {"last", WIRE_LAST_SIZE, WIRE_LAST_SIZE},
	[WIRE_STATE] = {"state", 1, STATE},
	[WIRE_READY] = {"ready", 0, 0},
	[WIRE_COMMIT] = {"commit", 0, 0},
	[WIRE_RUNNING] = {"running", 0, 0},
	[WIRE_FAILED] = {"failed", 0, TEXT},
	[WIRE_LACKS] = {"lacks", LACKS_HEAD + 8, LACKS_BODY_MAX},
	[WIRE_WANT] = {"want", 8, WIRE_WANT_MAX * 8},
	[WIRE_WHOLE] = {"whole", 0, 0},
};

const char *wire_name(enum wire_kind kind)
{
	return kind > 0 && kind < WIRE_KINDS ? kinds[kind].name : "unknown";
}

void wire_seal(uint8_t header[WIRE_HEADER], enum wire_kind kind, const void *body, size_t length,
	const void *more, size_t more_length)
{
	store_le32(header, MAGIC);
	store_le16(header + 4, (uint16_t)kind);
	store_le16(header + 6, 0);
	store_le32(header + 8, (uint32_t)(length + more_length));
	store_le32(header + WIRE_CRC_AT, crc32c(crc32c(0, body, length), more, more_length));
	store_le32(header + OWN_CRC_AT, crc32c(0, header, OWN_CRC_AT));
}

int wire_open(struct wire_header *header, const uint8_t bytes[WIRE_HEADER], struct error *err)
{
	unsigned kind = load_le16(bytes + 4);

	if (load_le32(bytes) != MAGIC)
		return error_set(err, EPROTO,
			"the other side does not speak duet's migration protocol; name the address "
			"of a duet run --incoming");
	if (load_le32(bytes + OWN_CRC_AT) != crc32c(0, bytes, OWN_CRC_AT))
		return error_set(
			err, EBADMSG, "the head of a message was damaged on its way (checksum)");
	if (kind == 0 || kind >= WIRE_KINDS || load_le16(bytes + 6) != 0)
		return error_set(err, EPROTO,
			"a message of unknown kind %u; use the same duet on both sides", kind);
	header->kind = (enum wire_kind)kind;
	header->length = load_le32(bytes + 8);
	header->crc = load_le32(bytes + WIRE_CRC_AT);
	if (header->length < kinds[kind].least || header->length > kinds[kind].most)
		return error_set(err, EPROTO, "a message \"%s\" of %u bytes; it may have %u to %u",
			kinds[kind].name, header->length, kinds[kind].least, kinds[kind].most);
	return 0;
}

int wire_check(const struct wire_header *header, const void *body, struct error *err)
{
	if (crc32c(0, body, header->length) != header->crc)
		return error_set(err, EBADMSG, "a message \"%s\" was damaged on its way (checksum)",
			kinds[header->kind].name);
	return 0;
}

void wire_put_hello(uint8_t to[WIRE_HELLO_SIZE], const struct wire_hello *hello)
{
	store_le32(to, hello->version);
	store_le32(to + 4, hello->streams);
	store_le32(to + 8, hello->index);
	store_le32(to + 12, hello->wait);
	memcpy(to + 16, hello->id, WIRE_ID);
}

/* The version comes first, and what follows it is that version's. */
int wire_get_hello(struct wire_hello *hello, const uint8_t *body, size_t length, struct error *err)
{
	hello->version = load_le32(body);
	if (hello->version != WIRE_VERSION)
		return error_set(err, ENOTSUP,
			"the other side speaks version %u of the migration protocol, this duet "
			"version %u; use the same duet on both sides",
			hello->version, WIRE_VERSION);
	if (length != WIRE_HELLO_SIZE)
		return error_set(err, EPROTO, "a hello of %zu bytes", length);
	hello->streams = load_le32(body + 4);
	hello->index = load_le32(body + 8);
	hello->wait = load_le32(body + 12);
	memcpy(hello->id, body + 16, WIRE_ID);
	if (hello->streams < 1 || hello->streams > WIRE_STREAMS_MAX ||
		hello->index >= wire_connections(hello))
		return error_set(err, EPROTO, "stream %u of %u; there may be %d", hello->index,
			hello->streams, WIRE_STREAMS_MAX);
	if (hello->wait > WIRE_WAIT_MAX)
		return error_set(err, EPROTO, "a wait of %u s for the other side; it may have %d",
			hello->wait, WIRE_WAIT_MAX);
	return 0;
}

void wire_put_last(uint8_t to[WIRE_LAST_SIZE], const struct wire_last *last)
{
	store_le64(to, last->messages);
	store_le64(to + 8, last->pages);
	store_le32(to + 16, last->crc);
}

int wire_check_last(
	const struct wire_last *seen, const uint8_t *body, size_t length, struct error *err)
{
	uint8_t expected[WIRE_LAST_SIZE];

	wire_put_last(expected, seen);
	if (length != sizeof(expected) || memcmp(expected, body, length) != 0)
		return error_set(err, EBADMSG,
			"memory did not come whole: %llu pages in %llu messages were to come, "
			"%llu in %llu did",
			(unsigned long long)load_le64(body + 8),
			(unsigned long long)load_le64(body), (unsigned long long)seen->pages,
			(unsigned long long)seen->messages);
	return 0;
}
