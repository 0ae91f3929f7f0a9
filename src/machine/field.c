/* SPDX-License-Identifier: Apache-2.0 */
/* One field: from text and JSON into a struct, and back. */
#include "base/bytes.h"
#include "base/checked.h"
#include "base/numbers.h"
#include "base/pci_address.h"
#include "machine/fields.h"
#include "machine/net_policy.h"
#include "x86/cpu.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ULL << 20)

static void *place_of(const struct field *field, void *target)
{
	return (char *)target + field->offset;
}

static const void *in(const struct field *field, const void *target)
{
	return (const char *)target + field->offset;
}

static int set_text(
	const struct field *field, char **to, const char *text, const char *what, struct error *err)
{
	char *copy;

	if (field->most && strlen(text) > field->most)
		return error_set(
			err, EINVAL, "%s: longer than %" PRIu64 " characters", what, field->most);
	copy = strdup(text);
	if (!copy)
		return error_errno(err, ENOMEM, "%s", what);
	free(*to);
	*to = copy;
	return 0;
}

static int out_of_range(const struct field *field, const char *what, struct error *err)
{
	return error_set(err, EINVAL, "%s: give a number from %" PRIu64 " to %" PRIu64, what,
		field->least, field->most);
}

static int set_number(
	const struct field *field, void *to, uint64_t number, const char *what, struct error *err)
{
	if (number < field->least || number > field->most)
		return out_of_range(field, what, err);
	if (field->kind == FIELD_NUMBER)
		*(unsigned *)to = (unsigned)number;
	else
		*(uint64_t *)to = number;
	return 0;
}

static int number_from_text(
	const struct field *field, void *to, const char *text, const char *what, struct error *err)
{
	uint64_t number;

	if (parse_number(text, 0, UINT64_MAX, &number) < 0)
		return out_of_range(field, what, err);
	return set_number(field, to, number, what, err);
}

/* "16M", "1T": as people write sizes. */
static const char *size_words(uint64_t bytes, char words[32])
{
	static const char units[] = "BKMGT";
	unsigned unit = 0;

	while (unit < 4 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(words, 32, "%" PRIu64 "%.*s", bytes, unit > 0, &units[unit]);
	return words;
}

static int too_small(const struct field *field, const char *what, struct error *err)
{
	char words[32];

	return error_set(
		err, EINVAL, "%s: too small; at least %s", what, size_words(field->least, words));
}

/* A number alone is bytes, which few mean by "512". @quote: around what they may have meant. */
static int too_few_bytes(const struct field *field, uint64_t bytes, const char *quote,
	const char *what, struct error *err)
{
	char words[32];

	if (bytes < field->least / MIB || bytes > field->most / MIB)
		return too_small(field, what, err);
	return error_set(err, EINVAL,
		"%s: too small; at least %s (bytes; did you mean %s%" PRIu64 "M%s?)", what,
		size_words(field->least, words), quote, bytes, quote);
}

static int set_size(const struct field *field, uint64_t *to, uint64_t bytes, const char *what,
	struct error *err)
{
	char words[32];

	if (bytes > field->most)
		return error_set(err, EINVAL, "%s: too large; at most %s", what,
			size_words(field->most, words));
	if (bytes < field->least)
		return too_small(field, what, err);
	if (bytes % MIB)
		return error_set(err, EINVAL, "%s: must be a multiple of 1M", what);
	*to = bytes;
	return 0;
}

static int size_from_text(const struct field *field, uint64_t *to, const char *text,
	const char *what, struct error *err)
{
	uint64_t bytes = 0;
	int ret = parse_size(text, &bytes);

	if (ret == -EINVAL)
		return error_set(err, EINVAL, "%s: not a size; write for example 512M or 4G", what);
	if (ret == 0 && bytes < field->least && !text[strspn(text, "0123456789")])
		return too_few_bytes(field, bytes, "", what, err);
	return set_size(field, to, ret < 0 ? UINT64_MAX : bytes, what, err);
}

static int limit_from_text(const struct field *field, struct bucket_limit *to, const char *text,
	const char *what, struct error *err)
{
	struct bucket_limit limit;
	int ret = parse_limit(text, &limit);

	if (ret == -EINVAL)
		return error_set(err, EINVAL,
			"%s: not a limit; give a number from %" PRIu64 " to %" PRIu64
			", for example 500, 10/100ms, or with bursts 500+50 or 500+50+1000",
			what, field->least, field->most);
	if (ret < 0 || limit.amount > field->most || limit.burst > field->most ||
		limit.once > field->most)
		return out_of_range(field, what, err);
	*to = limit;
	return 0;
}

static int switch_from_text(bool *to, const char *text, const char *what, struct error *err)
{
	int on;

	if (parse_switch(text, &on) < 0)
		return error_set(err, EINVAL, "%s: say on or off", what);
	*to = on;
	return 0;
}

static int word_from_text(
	const struct field *field, int *to, const char *text, const char *what, struct error *err)
{
	char list[128] = "";

	for (int i = 0; field->words[i]; i++) {
		size_t used = strlen(list);

		if (strcmp(field->words[i], text) == 0) {
			*to = i;
			return 0;
		}
		snprintf(list + used, sizeof(list) - used, "%s%s",
			i == 0                ? ""
			: field->words[i + 1] ? ", "
					      : " or ",
			field->words[i]);
	}
	return error_set(err, EINVAL, "%s: choose %s", what, list);
}

static int bits_from_text(uint64_t *to, const char *text, const char *what, struct error *err)
{
	char *end;

	errno = 0;
	*to = strtoull(text, &end, 16);
	if (errno || *end || strncmp(text, "0x", 2) != 0 || !text[2])
		return error_set(
			err, EINVAL, "%s: write a hexadecimal number, for example 0x10", what);
	return 0;
}

static int mac_from_text(
	struct mac_address *to, const char *text, const char *what, struct error *err)
{
	if (parse_mac(text, to->bytes) < 0)
		return error_set(err, EINVAL,
			"%s: not a unicast MAC address; write for example 52:54:00:12:34:56", what);
	to->given = true;
	return 0;
}

static int uuid_from_text(
	struct machine_uuid *to, const char *text, const char *what, struct error *err)
{
	struct machine_uuid uuid = {.given = true};

	if (parse_uuid(text, uuid.bytes) < 0)
		return error_set(err, EINVAL,
			"%s: not a UUID; write for example 6f1c8e52-0b7d-4f1a-9c3e-2d5b7a4e9f10 "
			"(uuidgen makes one)",
			what);
	*to = uuid;
	return 0;
}

/* Kept as the host spells it, so that one function has one name. */
static int pci_from_text(
	const struct field *field, char **to, const char *text, const char *what, struct error *err)
{
	char canonical[PCI_ADDRESS_SIZE];

	if (pci_address_parse(text, canonical) < 0)
		return error_set(err, EINVAL,
			"%s: no PCI address; write 0000:01:10.0, for example (lspci -D shows them)",
			what);
	return set_text(field, to, canonical, what, err);
}

static int addresses_from_text(
	const struct field *field, char **to, const char *text, const char *what, struct error *err)
{
	int ret = net_addresses_check(text, what, err);

	return ret < 0 ? ret : set_text(field, to, text, what, err);
}

/* What the file says now is part of the configuration, not its name. */
static int rules_from_file(char **to, const char *path, const char *what, struct error *err)
{
	char *rules;
	int ret = net_rules_from_file(&rules, path, what, err);

	if (ret < 0)
		return ret;
	free(*to);
	*to = rules;
	return 0;
}

static int rules_from_json(char **to, const json_t *value, const char *what, struct error *err)
{
	char *rules;
	int ret = net_rules_from_json(&rules, value, what, err);

	if (ret < 0)
		return ret;
	free(*to);
	*to = rules;
	return 0;
}

static int pv_from_text(unsigned *to, const char *text, const char *what, struct error *err)
{
	return pv_parse(text, to, err) < 0 ? error_prefix(err, "%s: ", what) : 0;
}

static int id_from_text(char *to, const char *text, const char *what, struct error *err)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	if (!*text || strlen(text) >= MACHINE_ID_SIZE || text[strspn(text, allowed)])
		return error_set(err, EINVAL,
			"%s: an id has 1 to %d letters, digits, underscores and hyphens", what,
			MACHINE_ID_SIZE - 1);
	strcpy(to, text);
	return 0;
}

int field_from_text(const struct field *field, void *target, const char *text, const char *what,
	struct error *err)
{
	void *to = place_of(field, target);

	switch (field->kind) {
	case FIELD_TEXT:
		return set_text(field, to, text, what, err);
	case FIELD_NUMBER:
	case FIELD_LONG:
		return number_from_text(field, to, text, what, err);
	case FIELD_SIZE:
		return size_from_text(field, to, text, what, err);
	case FIELD_LIMIT:
		return limit_from_text(field, to, text, what, err);
	case FIELD_SWITCH:
		return switch_from_text(to, text, what, err);
	case FIELD_WORD:
		return word_from_text(field, to, text, what, err);
	case FIELD_BITS:
		return bits_from_text(to, text, what, err);
	case FIELD_MAC:
		return mac_from_text(to, text, what, err);
	case FIELD_UUID:
		return uuid_from_text(to, text, what, err);
	case FIELD_PCI:
		return pci_from_text(field, to, text, what, err);
	case FIELD_ADDRESSES:
		return addresses_from_text(field, to, text, what, err);
	case FIELD_RULES:
		return rules_from_file(to, text, what, err);
	case FIELD_PV:
		return pv_from_text(to, text, what, err);
	case FIELD_ID:
		return id_from_text(to, text, what, err);
	}
	return error_set(err, EINVAL, "%s", what);
}

static int integer_from_json(
	const struct field *field, void *to, json_int_t given, const char *what, struct error *err)
{
	/* What is below zero is far too large then, and out of range as well. */
	if (field->kind == FIELD_LIMIT) {
		struct bucket_limit limit = {.amount = (uint64_t)given};

		if (limit.amount < field->least || limit.amount > field->most)
			return out_of_range(field, what, err);
		*(struct bucket_limit *)to = limit;
		return 0;
	}
	if (field->kind != FIELD_SIZE)
		return set_number(field, to, (uint64_t)given, what, err);
	if (given < 0)
		return too_small(field, what, err);
	if ((uint64_t)given < field->least)
		return too_few_bytes(field, (uint64_t)given, "\"", what, err);
	return set_size(field, to, (uint64_t)given, what, err);
}

int field_from_json(const struct field *field, void *target, const json_t *value, const char *what,
	struct error *err)
{
	static const char *const wanted[] = {[FIELD_NUMBER] = "a whole number",
		[FIELD_LONG] = "a whole number",
		[FIELD_SIZE] = "a string such as \"1G\", or bytes",
		[FIELD_LIMIT] = "a whole number, or a string such as \"50M+4M\"",
		[FIELD_SWITCH] = "true or false",
		[FIELD_ID] = "a string"};
	void *to = place_of(field, target);
	bool number = field->kind == FIELD_NUMBER || field->kind == FIELD_LONG;

	if (field->kind == FIELD_RULES)
		return rules_from_json(to, value, what, err);
	if (field->kind == FIELD_SWITCH && json_is_boolean(value)) {
		*(bool *)to = json_is_true(value);
		return 0;
	}
	if (json_is_integer(value) &&
		(number || field->kind == FIELD_SIZE || field->kind == FIELD_LIMIT))
		return integer_from_json(field, to, json_integer_value(value), what, err);
	if (!json_is_string(value) || number || field->kind == FIELD_SWITCH)
		return error_set(err, EINVAL, "%s: must be %s", what,
			wanted[field->kind] ? wanted[field->kind] : "a string");
	if (!*json_string_value(value) && !field->may_be_empty)
		return error_set(err, EINVAL, "%s: is empty", what);
	return field_from_text(field, target, json_string_value(value), what, err);
}

static void uuid_words(const struct machine_uuid *uuid, char words[128])
{
	for (unsigned i = 0; i < sizeof(uuid->bytes); i++)
		words += sprintf(words, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			uuid->bytes[i]);
}

/* A size and words are written as people write them. */
static json_t *words_of(const struct field *field, const void *from)
{
	const struct mac_address *mac = from;
	const uint8_t *byte = mac->bytes;
	char words[128] = "";

	if (field->kind == FIELD_SIZE)
		size_words(*(const uint64_t *)from, words);
	else if (field->kind == FIELD_LIMIT)
		format_limit(from, words);
	else if (field->kind == FIELD_BITS)
		snprintf(words, sizeof(words), "0x%" PRIx64, *(const uint64_t *)from);
	else if (field->kind == FIELD_UUID)
		uuid_words(from, words);
	else if (field->kind == FIELD_PV)
		pv_format(*(const unsigned *)from, words, sizeof(words));
	else
		snprintf(words, sizeof(words), "%02x:%02x:%02x:%02x:%02x:%02x", byte[0], byte[1],
			byte[2], byte[3], byte[4], byte[5]);
	return json_string(words);
}

static bool is_unset(const struct field *field, const void *from)
{
	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_PCI:
	case FIELD_ADDRESSES:
	case FIELD_RULES:
		return !*(char *const *)from;
	case FIELD_ID:
		return !*(const char *)from;
	case FIELD_MAC:
		return !((const struct mac_address *)from)->given;
	case FIELD_UUID:
		return !((const struct machine_uuid *)from)->given;
	case FIELD_LIMIT:
		return !((const struct bucket_limit *)from)->amount;
	default:
		return false;
	}
}

/* So many a second are a number. */
static json_t *limit_of(const struct field *field, const struct bucket_limit *limit)
{
	if (limit->period || limit->burst || limit->once)
		return words_of(field, limit);
	return json_integer((json_int_t)limit->amount);
}

static json_t *value_of(const struct field *field, const void *from)
{
	switch (field->kind) {
	case FIELD_RULES:
		return net_rules_to_json(*(char *const *)from);
	case FIELD_TEXT:
	case FIELD_PCI:
	case FIELD_ADDRESSES:
		return json_string(*(char *const *)from);
	case FIELD_ID:
		return json_string(from);
	case FIELD_NUMBER:
		return json_integer(*(const unsigned *)from);
	case FIELD_LONG:
		return json_integer((json_int_t) * (const uint64_t *)from);
	case FIELD_LIMIT:
		return limit_of(field, from);
	case FIELD_SWITCH:
		return json_boolean(*(const bool *)from);
	case FIELD_WORD:
		return json_string(field->words[*(const int *)from]);
	case FIELD_SIZE:
	case FIELD_BITS:
	case FIELD_MAC:
	case FIELD_UUID:
	case FIELD_PV:
		break;
	}
	return words_of(field, from);
}

/* Unset numbers are 0, which is below what may be given. */
static bool is_default(const struct field *field, const json_t *value)
{
	const char *text = json_string_value(value);

	if (json_is_integer(value))
		return field->fallback ? json_integer_value(value) == atoll(field->fallback)
				       : json_integer_value(value) == 0;
	if (!field->fallback)
		return false;
	if (json_is_boolean(value))
		text = json_is_true(value) ? "on" : "off";
	return strcmp(text, field->fallback) == 0;
}

int field_to_json(const struct field *field, const void *target, json_t **value)
{
	const void *from = in(field, target);

	*value = NULL;
	if (is_unset(field, from))
		return 0;
	*value = value_of(field, from);
	if (!*value)
		return field->kind == FIELD_TEXT ? -EILSEQ : -ENOMEM;
	if (is_default(field, *value)) {
		json_decref(*value);
		*value = NULL;
	}
	return 0;
}

void fields_init(const struct field_set *set, void *target)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->fields[i].fallback)
			field_from_text(&set->fields[i], target, set->fields[i].fallback,
				set->fields[i].name, NULL);
}

static char **text_of(const struct field *field, void *target)
{
	bool text = field->kind == FIELD_TEXT || field->kind == FIELD_PCI ||
		    field->kind == FIELD_ADDRESSES || field->kind == FIELD_RULES;

	return text ? place_of(field, target) : NULL;
}

void fields_free(const struct field_set *set, void *target)
{
	for (unsigned i = 0; i < set->count; i++) {
		char **text = text_of(&set->fields[i], target);

		if (!text)
			continue;
		free(*text);
		*text = NULL;
	}
}

int fields_own(const struct field_set *set, void *target)
{
	int ret = 0;

	for (unsigned i = 0; i < set->count; i++) {
		char **text = text_of(&set->fields[i], target);

		if (!text || !*text)
			continue;
		*text = strdup(*text);
		if (!*text)
			ret = -ENOMEM;
	}
	return ret;
}
