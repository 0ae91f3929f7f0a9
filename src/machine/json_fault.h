/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a text that is no JSON, in words for who wrote it. */
#ifndef DUET_MACHINE_JSON_FAULT_H
#define DUET_MACHINE_JSON_FAULT_H

#include <jansson.h>

/* jansson's own words name the flag by which a program could let it pass. */
static inline const char *json_fault_words(const json_error_t *fault)
{
	return json_error_code(fault) == json_error_null_character ? "a string may not hold \\u0000"
								   : fault->text;
}

#endif
