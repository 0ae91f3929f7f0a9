/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A value of a JSON document by its way from the top, so that what is wrong with it is told with
 * its name: "config.json: process.args[2]: ...". A node lives on the stack of who looks, and its
 * parents must outlive it. What is absent, or null, is no fault unless it must be there: the
 * functions that take it leave their result as it was. Main thread.
 */
#ifndef DUET_OCI_NODE_H
#define DUET_OCI_NODE_H

#include "base/error.h"
#include "oci/wire.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct node {
	const json_t *json; /* null: absent */
	const struct node *up;
	const char *name; /* of the top: the document's */
	size_t index;     /* in an array, where there is no name */
	struct error *err;
};

/* Member @name of an object; absent where @up is. */
struct node node_member(const struct node *up, const char *name);
struct node node_item(const struct node *up, size_t index);
bool node_is(const struct node *node);

/* What is wrong, behind the node's name. Returns -EINVAL. */
int node_bad(const struct node *node, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int node_no_memory(const struct node *node);
int node_must(const struct node *node);
/* That it is an object, or an array, if it is there. */
int node_object(const struct node *node);
int node_array(const struct node *node);
size_t node_count(const struct node *node);
/* Each element of an array, or member of an object, if it is there, until one is not taken. An
 * element must be there. */
typedef int (*node_take)(void *opaque, const struct node *node);
int node_each(const struct node *all, node_take take, void *opaque);
int node_each_member(const struct node *all, node_take take, void *opaque);

/* A text without a null in it, the document's; null: it is none. */
const char *node_word(const struct node *node);
/* All: 0 or negative. *@text is freed before. */
int node_text(const struct node *node, char **text);
int node_texts(const struct node *node, struct texts *texts);
int node_u64(const struct node *node, uint64_t least, uint64_t most, uint64_t *number);
int node_u32(const struct node *node, uint32_t *number);
int node_i64(const struct node *node, int64_t *number);
int node_bool(const struct node *node, bool *value);

/* @text as JSON whose top is an object, or null: said in @err. Whole numbers beyond INT64_MAX, such
 * as 2^64 - 1 for "no limit", read as INT64_MAX. */
json_t *node_parse(const char *name, const char *text, size_t length, struct error *err);

#endif
