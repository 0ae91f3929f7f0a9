/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on standard error, or where log_set_output() says: "duet: warning: ...". Any thread;
 * each line is one write.
 *
 * The level and the patience are the process-wide settings of the program: they concern the
 * process's own standard error, not a machine, and passing them to every call would say nothing
 * more.
 *
 * Whatever a guest can trigger goes through log_guest(), which lets a short burst through
 * and then counts what it swallows, so that a guest cannot fill the host's log.
 */
#ifndef DUET_BASE_LOG_H
#define DUET_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* What lines begin with, "duet" unless said; it stays the caller's. Before other threads. */
void log_set_program(const char *name);
void log_set_level(enum log_level level);
/* "error", "warning", "info" or "debug"; false when @name is none of them. */
bool log_level_parse(const char *name, enum log_level *level);

/*
 * How long, in milliseconds, a line may wait for who reads standard error; below 0, as it is at
 * first: for as long as it takes. A line that is not taken in that time is dropped and counted, and
 * the next one that is taken comes with their number. So a machine that runs waits for nobody, were
 * its log on the same stalled pipe as its console. Any thread; the first and the last limit (below
 * 0 again) while no other thread logs.
 */
void log_set_patience(int milliseconds);
/* Where lines go from now on: standard error at first. @fd stays open, and the caller's. While no
 * other thread logs. */
void log_set_output(int fd);
/* Lines dropped so far. */
uint64_t log_dropped(void);
/* @text as it is, for the user at the terminal; likewise. */
void log_text(const char *text, size_t length);

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
