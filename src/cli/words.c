/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/words.h"

#include <inttypes.h>
#include <string.h>

static const char *join(const char *const *words, char buffer[WORDS_SIZE])
{
	buffer[0] = 0;
	for (unsigned i = 0; words[i]; i++) {
		size_t used = strlen(buffer);

		snprintf(buffer + used, WORDS_SIZE - used, "%s%s", i ? "|" : "", words[i]);
	}
	return buffer;
}

const char *words_value(const struct field *field, char buffer[WORDS_SIZE])
{
	static const char *const kinds[] = {
		[FIELD_TEXT] = "TEXT",
		[FIELD_NUMBER] = "N",
		[FIELD_LONG] = "N",
		[FIELD_SIZE] = "SIZE",
		[FIELD_LIMIT] = "RATE",
		[FIELD_SWITCH] = "on|off",
		[FIELD_WORD] = "WORD",
		[FIELD_BITS] = "0xN",
		[FIELD_MAC] = "MAC",
		[FIELD_UUID] = "UUID",
		[FIELD_PCI] = "ADDRESS",
		[FIELD_ADDRESSES] = "ADDRESS[+ADDRESS]...",
		[FIELD_RULES] = "FILE",
		[FIELD_PV] = "LIST",
		[FIELD_ID] = "NAME",
	};

	if (field->value)
		return field->value;
	return field->kind == FIELD_WORD ? join(field->words, buffer) : kinds[field->kind];
}

const char *words_default(const struct field *field, char buffer[WORDS_SIZE])
{
	bool number = field->kind == FIELD_NUMBER || field->kind == FIELD_LONG;
	const char *words = field->unset ? field->unset : field->fallback;
	char range[48] = "";

	buffer[0] = 0;
	if (number)
		snprintf(range, sizeof(range), "%" PRIu64 " to %" PRIu64 "%s", field->least,
			field->most, words ? ", " : "");
	if (number || words)
		snprintf(buffer, WORDS_SIZE, "(%s%s%s)", range, words ? "default: " : "",
			words ? words : "");
	return buffer;
}
