/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on standard error: "duet: warning: ...". Any thread; each line is one write.
 *
 * The level is the one process-wide setting of the program: it concerns the process's own
 * standard error, not a machine, and passing it to every call would say nothing more.
 *
 * Whatever a guest can trigger goes through log_guest(), which lets a short burst through
 * and then counts what it swallows, so that a guest cannot fill the host's log.
 */
#ifndef DUET_BASE_LOG_H
#define DUET_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

void log_set_level(enum log_level level);
/* "error", "warning", "info" or "debug"; false when @name is none of them. */
bool log_level_parse(const char *name, enum log_level *level);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* One per device; zero-initialised. At most LOG_GUEST_BURST lines in a device's life, then
 * silence but for the count. */
#define LOG_GUEST_BURST 10
struct log_guest_limit {
	_Atomic uint64_t seen;
};

/* A line (warning level) about something the guest did wrong. */
void log_guest(struct log_guest_limit *limit, const char *device, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
