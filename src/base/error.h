/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors a person will read.
 *
 * Functions return 0 or a negative errno. Those whose failure a user must understand also
 * take a struct error, owned by the caller, into which the failing function writes ONE line
 * that names the option, the file and the remedy. A null pointer is allowed and ignored.
 * Any thread may use its own struct error.
 */
#ifndef DUET_BASE_ERROR_H
#define DUET_BASE_ERROR_H

#include <stdarg.h>

struct error {
	int code;       /* positive errno, 0 while there is no error */
	char text[768]; /* one line without a newline */
};

/* Sets @err (if not null) and returns -@code, so that `return error_set(err, EINVAL, ...)` works.
 * A code of 0 is a programming error and becomes EIO. */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As error_set with ": " and the words for @code put at the end. */
int error_errno(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts words in front of what an inner function wrote, e.g. "--disk: ". Returns -code. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
