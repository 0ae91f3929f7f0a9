/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/wire.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ABSENT UINT32_MAX

void wire_read(struct wire *wire, const uint8_t *bytes, size_t length)
{
	*wire = (struct wire){.bytes = (uint8_t *)(uintptr_t)bytes, .length = length};
}

void wire_write(struct wire *wire)
{
	*wire = (struct wire){.writing = true};
}

int wire_end(const struct wire *wire)
{
	if (wire->bad)
		return wire->writing ? -ENOMEM : -EBADMSG;
	return !wire->writing && wire->at != wire->length ? -EBADMSG : 0;
}

/* Where @length bytes are to be read or written; null: there are none, or no room. */
static uint8_t *take(struct wire *wire, size_t length)
{
	uint8_t *bytes;

	if (wire->bad || length > UINT32_MAX)
		goto bad;
	if (wire->writing) {
		bytes = realloc(wire->bytes, wire->length + length + 1);
		if (!bytes)
			goto bad;
		wire->bytes = bytes;
		wire->length += length;
	} else if (length > wire->length - wire->at) {
		goto bad;
	}
	wire->at += length;
	return wire->bytes + wire->at - length;
bad:
	wire->bad = true;
	return NULL;
}

void wire_u32(struct wire *wire, uint32_t *value)
{
	uint8_t *at = take(wire, sizeof(*value));

	if (wire->writing && at)
		store_le32(at, *value);
	else if (!wire->writing)
		*value = at ? load_le32(at) : 0;
}

void wire_u64(struct wire *wire, uint64_t *value)
{
	uint8_t *at = take(wire, sizeof(*value));

	if (wire->writing && at)
		store_le64(at, *value);
	else if (!wire->writing)
		*value = at ? load_le64(at) : 0;
}

void wire_bool(struct wire *wire, bool *value)
{
	uint32_t number = *value;

	wire_u32(wire, &number);
	if (number > 1)
		wire->bad = true;
	*value = number == 1 && !wire->bad;
}

static char *read_text(struct wire *wire, uint32_t length)
{
	const uint8_t *at = length > WIRE_TEXT_MAX ? NULL : take(wire, length);
	char *text = at && !memchr(at, 0, length) ? strndup((const char *)at, length) : NULL;

	wire->bad = wire->bad || !text;
	return text;
}

void wire_text(struct wire *wire, char **text)
{
	const size_t length = wire->writing && *text ? strlen(*text) : 0;
	uint32_t number = wire->writing && !*text ? ABSENT : (uint32_t)length;
	uint8_t *at;

	if (length > WIRE_TEXT_MAX)
		wire->bad = true;
	wire_u32(wire, &number);
	if (!wire->writing) {
		*text = wire->bad || number == ABSENT ? NULL : read_text(wire, number);
		return;
	}
	at = take(wire, length);
	if (at && length)
		memcpy(at, *text, length);
}

uint32_t wire_count(struct wire *wire, uint32_t count, uint32_t most)
{
	wire_u32(wire, &count);
	if (count > most)
		wire->bad = true;
	return wire->bad ? 0 : count;
}

void wire_texts(struct wire *wire, struct texts *texts)
{
	const uint32_t count = wire_count(wire, texts->count, WIRE_TEXTS_MAX);

	if (!wire->writing) {
		texts->count = 0;
		texts->items = calloc(count + 1UL, sizeof(*texts->items));
		wire->bad = wire->bad || !texts->items;
	}
	for (uint32_t i = 0; i < count && !wire->bad; i++) {
		wire_text(wire, &texts->items[i]);
		/* What is absent would end the list. */
		wire->bad = wire->bad || !texts->items[i];
		if (!wire->writing && !wire->bad)
			texts->count++;
	}
}

void wire_blob(struct wire *wire, struct blob *blob)
{
	uint32_t length = blob->length;
	uint8_t *at;

	wire_u32(wire, &length);
	at = take(wire, length);
	if (wire->writing) {
		if (at && length)
			memcpy(at, blob->bytes, length);
		return;
	}
	*blob = (struct blob){0};
	if (!at)
		return;
	blob->bytes = malloc(length + 1UL);
	wire->bad = !blob->bytes;
	if (blob->bytes) {
		memcpy(blob->bytes, at, length);
		blob->length = length;
	}
}

int texts_add(struct texts *texts, const char *text)
{
	char **items = realloc(texts->items, (texts->count + 2UL) * sizeof(*items));

	if (!items)
		return -ENOMEM;
	texts->items = items;
	items[texts->count] = strdup(text);
	if (!items[texts->count])
		return -ENOMEM;
	items[++texts->count] = NULL;
	return 0;
}

bool texts_have(const struct texts *texts, const char *text)
{
	for (uint32_t i = 0; i < texts->count; i++)
		if (strcmp(texts->items[i], text) == 0)
			return true;
	return false;
}

void texts_free(struct texts *texts)
{
	for (uint32_t i = 0; i < texts->count; i++)
		free(texts->items[i]);
	free(texts->items);
	*texts = (struct texts){0};
}
