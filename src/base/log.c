/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int current_level = LOG_LEVEL_WARNING;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *level)
{
	for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

/* Names come from files and peers, too; none of them speaks to the terminal. */
static void make_plain(char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
}

static void write_line(enum log_level level, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

static void write_line(enum log_level level, const char *format, va_list args)
{
	char line[1024];
	int used = snprintf(line, sizeof(line), "duet: %s: ", level_names[level]);
	int more = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	size_t length = (size_t)used + (more > 0 ? (size_t)more : 0);

	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	make_plain(line, length);
	line[length++] = '\n';
	/* A log line that cannot be written has nowhere else to go. */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
}

void log_write(enum log_level level, const char *format, ...)
{
	va_list args;

	if ((int)level > atomic_load_explicit(&current_level, memory_order_relaxed))
		return;
	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}

void log_guest(struct log_guest_limit *limit, const char *device, const char *format, ...)
{
	uint64_t seen = atomic_fetch_add_explicit(&limit->seen, 1, memory_order_relaxed);
	char text[512];
	va_list args;

	if (seen >= LOG_GUEST_BURST)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_warning("%s: %s%s", device, text,
		seen == LOG_GUEST_BURST - 1
			? " (further faults of this guest device are only counted)"
			: "");
}
