/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;

	if (code == 0)
		code = EIO;
	if (!err)
		return -code;
	err->code = code;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return -code;
}

int error_errno(struct error *err, int code, const char *format, ...)
{
	char buffer[128];
	va_list args;
	size_t used;

	if (code == 0)
		code = EIO;
	if (!err)
		return -code;
	err->code = code;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s",
		strerror_r(code, buffer, sizeof(buffer)));
	return -code;
}

int error_prefix(struct error *err, const char *format, ...)
{
	char inner[sizeof(err->text)];
	va_list args;
	size_t used;

	if (!err)
		return -EIO;
	memcpy(inner, err->text, sizeof(inner));
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, "%s", inner);
	return -(err->code ? err->code : EIO);
}
