/* SPDX-License-Identifier: Apache-2.0 */
/* asprintf(3) that says by its result alone whether there was memory. Any thread. */
#ifndef DUET_OCI_TEXT_H
#define DUET_OCI_TEXT_H

#include <stdarg.h>
#include <stdio.h>

/* malloc()ed; null: no memory. */
static inline __attribute__((format(printf, 1, 2))) char *text_format(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return text;
}

#endif
