/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/nowait.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int current_level = LOG_LEVEL_WARNING;
static _Atomic int patience = -1;
static int output = STDERR_FILENO;
static const char *program = "duet";
static struct nowait stream; /* open when there is a limit to the patience */
static _Atomic uint64_t dropped, untold;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

void log_set_program(const char *name)
{
	program = name;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

void log_set_patience(int milliseconds)
{
	if (patience < 0 && milliseconds >= 0)
		nowait_open(&stream, output);
	else if (patience >= 0 && milliseconds < 0)
		nowait_close(&stream);
	patience = milliseconds;
}

void log_set_output(int fd)
{
	if (patience >= 0) {
		nowait_close(&stream);
		nowait_open(&stream, fd);
	}
	output = fd;
}

uint64_t log_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
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

/* The second 32 of the control characters, of which one alone begins a sequence: as a byte, or as
 * UTF-8 has it; else it is part of another character. @before: it, if any. */
static bool is_late_control(unsigned char byte, unsigned char before)
{
	return byte >= 0x80 && byte < 0xa0 && (before < 0x80 || before == 0xc2);
}

/* Names come from files and peers, too; none of them speaks to the terminal. */
static void make_plain(char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		const unsigned char byte = (unsigned char)text[i];
		const unsigned char before = i ? (unsigned char)text[i - 1] : 0;

		if (byte >= ' ' && byte != 0x7f && !is_late_control(byte, before))
			continue;
		if (before == 0xc2)
			text[i - 1] = '?';
		text[i] = '?';
	}
}

/* False: it is lost. What cannot be written has nowhere else to go. */
static bool emit(const char *text, size_t length)
{
	ssize_t written;

	if (patience < 0)
		return write(output, text, length) >= 0;
	written = nowait_write(&stream, text, length);
	if (written == -EAGAIN && patience && nowait_room(&stream, patience))
		written = nowait_write(&stream, text, length);
	return written == (ssize_t)length;
}

/* True: those that were lost have been told of. */
static bool tell_dropped(void)
{
	const uint64_t lost = atomic_exchange_explicit(&untold, 0, memory_order_relaxed);
	char line[128];
	int length;

	if (!lost)
		return true;
	length = snprintf(line, sizeof(line),
		"%s: warning: standard error took nothing: %" PRIu64 " lines were dropped\n",
		program, lost);
	if (emit(line, (size_t)length))
		return true;
	atomic_fetch_add_explicit(&untold, lost, memory_order_relaxed);
	return false;
}

static void emit_or_count(const char *line, size_t length)
{
	if (tell_dropped() && emit(line, length))
		return;
	atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&untold, 1, memory_order_relaxed);
}

void log_text(const char *text, size_t length)
{
	emit(text, length);
}

static void write_line(enum log_level level, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

static void write_line(enum log_level level, const char *format, va_list args)
{
	char line[1024];
	int used = snprintf(line, sizeof(line), "%s: %s: ", program, level_names[level]);
	int more = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	size_t length = (size_t)used + (more > 0 ? (size_t)more : 0);

	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	make_plain(line, length);
	line[length++] = '\n';
	emit_or_count(line, length);
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
