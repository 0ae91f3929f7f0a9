/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as people write them on a command line. */
#ifndef DUET_BASE_NUMBERS_H
#define DUET_BASE_NUMBERS_H

#include "base/bucket.h"
#include "base/error.h"

#include <stdint.h>

/* "512M", "4G", "1048576"; K, M, G, T are powers of 1024. -EINVAL, -ERANGE. */
int parse_size(const char *text, uint64_t *bytes);
/* "500", "50M": so many a second; "10/100ms", "1/2s": in that time; "50M+4M": saving up a burst of
 * 4M; "50M+4M+1G": and 1G more at first. All numbers as sizes are written, none 0. -EINVAL,
 * -ERANGE. */
int parse_limit(const char *text, struct bucket_limit *limit);
#define LIMIT_TEXT_SIZE 96
/* What parse_limit() reads as @limit, whose amount is not 0 and whose period is of whole
 * milliseconds. */
const char *format_limit(const struct bucket_limit *limit, char text[LIMIT_TEXT_SIZE]);
/* A decimal number in [@low, @high]. -EINVAL, -ERANGE. */
int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *number);
/* "52:54:00:12:34:56", a unicast address, not all zeros. -EINVAL. */
int parse_mac(const char *text, uint8_t mac[6]);
/* "01234567-89ab-cdef-0123-456789abcdef": neither all zeroes nor all ones, which mean that there is
 * none. The bytes in that order. -EINVAL. */
int parse_uuid(const char *text, uint8_t uuid[16]);
/* "on" or "off". -EINVAL. */
int parse_switch(const char *text, int *on);

#endif
