/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of requests: JSON of a known shape, into a struct. What is refused is refused in the words
 * that Firecracker's clients know. Texts point into the JSON and live as long as it. Any thread,
 * one at a time.
 */
#ifndef DUET_API_BODY_H
#define DUET_API_BODY_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BODY_DEPTH_MAX 127 /* objects and arrays in each other */

enum member_kind {
	MEMBER_NUMBER, /* struct given_number */
	MEMBER_SWITCH, /* struct given_switch */
	MEMBER_WORD,   /* struct given_word: the index of one of @words */
	MEMBER_TEXT,   /* const char *; null: not given */
	MEMBER_STRUCT, /* a struct of @body, which begins with bool given */
	MEMBER_ANY,    /* const json_t *; null: not given */
};

/* null in JSON is the same as left out. */
struct given_number {
	bool given;
	uint64_t value;
};
struct given_switch {
	bool given, value;
};
struct given_word {
	bool given;
	unsigned value;
};

struct body;

struct member {
	const char *name;
	enum member_kind kind;
	bool needed;
	size_t offset;
	uint64_t most;            /* of a number: UINT8_MAX and so on */
	const char *const *words; /* null at the end */
	const struct body *body;
};

struct body {
	const char *name;
	const struct member *members;
	unsigned count;
	bool open; /* members that it does not know are no matter */
	size_t size;
};

/* Of the table @MEMBERS, which is read into a struct @FIELDS. */
#define BODY(NAME, MEMBERS, FIELDS)                                                                \
	{                                                                                          \
		NAME, MEMBERS, ARRAY_SIZE(MEMBERS), .size = sizeof(struct FIELDS)                  \
	}

/* A new reference. Messages are those of the parser alone, without whose body it is. */
int body_parse(json_t **value, const char *text, size_t length, struct error *err);
/* All of @to is set. */
int body_read(const struct body *body, void *to, const json_t *value, struct error *err);

#endif
