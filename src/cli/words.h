/* SPDX-License-Identifier: Apache-2.0 */
/* The table of fields in words: --help, the manual page, the shell's completion. */
#ifndef DUET_CLI_WORDS_H
#define DUET_CLI_WORDS_H

#include "machine/fields.h"

#include <stdio.h>

#define WORDS_SIZE 96

/* What stands for a field's value: "FILE", "on|off", "1..64". */
const char *words_value(const struct field *field, char buffer[WORDS_SIZE]);
/* "(1 to 8, default: 1)"; empty when there is nothing to say. */
const char *words_default(const struct field *field, char buffer[WORDS_SIZE]);

/* The sections with options of the manual page, and a completion for bash. */
void man_write(FILE *file);
void completion_write(FILE *file);

#endif
