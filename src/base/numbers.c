/* SPDX-License-Identifier: Apache-2.0 */
#include "base/numbers.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* strtoull takes signs, spaces and nothing at all; a person who wrote those made a mistake. */
static int parse_digits(const char *text, uint64_t *number, const char **rest)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*number = strtoull(text, &end, 10);
	*rest = end;
	return -errno;
}

int parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *rest, *unit;
	uint64_t number;
	int ret = parse_digits(text, &number, &rest);

	if (ret < 0)
		return ret;
	*bytes = number;
	if (*rest == 0)
		return 0;
	unit = strchr(units, *rest & ~0x20);
	if (!unit || !*unit || rest[1])
		return -EINVAL;
	return mul_overflows(number, 1ULL << (10 * (unit - units + 1)), bytes) ? -ERANGE : 0;
}

/* "100ms" or "2s". */
static int parse_period(const char *text, uint64_t *period)
{
	uint64_t unit = SECOND_NS;
	const char *rest;
	int ret = parse_digits(text, period, &rest);

	if (ret < 0)
		return ret;
	if (strcmp(rest, "ms") == 0)
		unit = SECOND_NS / 1000;
	else if (strcmp(rest, "s") != 0)
		return -EINVAL;
	if (*period == 0 || mul_overflows(*period, unit, period) || *period > BUCKET_MAX)
		return -ERANGE;
	return 0;
}

static int parse_tokens(const char *text, uint64_t *tokens)
{
	int ret = parse_size(text, tokens);

	if (ret == 0 && (*tokens == 0 || *tokens > BUCKET_MAX))
		return -ERANGE;
	return ret;
}

int parse_limit(const char *text, struct bucket_limit *limit)
{
	char copy[LIMIT_TEXT_SIZE], *period, *once, *rest = copy;
	int ret;

	*limit = (struct bucket_limit){0};
	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	period = strsep(&rest, "+");
	once = rest;
	text = strsep(&period, "/");
	ret = parse_tokens(text, &limit->amount);
	if (ret == 0 && period)
		ret = parse_period(period, &limit->period);
	if (ret == 0 && once)
		ret = parse_tokens(strsep(&once, "+"), &limit->burst);
	if (ret == 0 && once)
		ret = parse_tokens(once, &limit->once);
	/* A second is what is meant without one. */
	if (limit->period == SECOND_NS)
		limit->period = 0;
	return ret;
}

static size_t put_tokens(char *to, size_t room, const char *before, uint64_t tokens)
{
	static const char units[] = "BKMGT";
	unsigned unit = 0;

	while (unit < 4 && tokens && tokens % 1024 == 0) {
		tokens /= 1024;
		unit++;
	}
	return (size_t)snprintf(
		to, room, "%s%" PRIu64 "%.*s", before, tokens, unit > 0, &units[unit]);
}

/* A one-time burst is written behind one that is saved up: so that is told then, as what it is when
 * it is left out. */
static uint64_t burst_of(const struct bucket_limit *limit)
{
	uint64_t period = limit->period ? limit->period : SECOND_NS;
	uint64_t burst = limit->burst;

	if (!burst && limit->once)
		burst = (uint64_t)((__int128)limit->amount * (SECOND_NS / 500) / period);
	return limit->once && !burst ? 1 : burst;
}

const char *format_limit(const struct bucket_limit *limit, char text[LIMIT_TEXT_SIZE])
{
	uint64_t burst = min_u64(burst_of(limit), BUCKET_MAX);
	size_t used = put_tokens(text, LIMIT_TEXT_SIZE, "", limit->amount);

	/* Milliseconds are as fine as they are written. */
	if (limit->period) {
		bool seconds = limit->period % SECOND_NS == 0;
		uint64_t unit = seconds ? SECOND_NS : SECOND_NS / 1000;

		used += (size_t)snprintf(text + used, LIMIT_TEXT_SIZE - used, "/%" PRIu64 "%s",
			limit->period / unit, seconds ? "s" : "ms");
	}
	if (burst)
		used += put_tokens(text + used, LIMIT_TEXT_SIZE - used, "+", burst);
	if (limit->once)
		put_tokens(text + used, LIMIT_TEXT_SIZE - used, "+", limit->once);
	return text;
}

int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *number)
{
	const char *rest;
	int ret = parse_digits(text, number, &rest);

	if (ret < 0)
		return ret;
	if (*rest)
		return -EINVAL;
	return *number < low || *number > high ? -ERANGE : 0;
}

int parse_mac(const char *text, uint8_t mac[6])
{
	static const uint8_t none[6];

	for (unsigned i = 0; i < 6; i++) {
		char *end;
		unsigned long byte;

		if (strspn(text, "0123456789abcdefABCDEF") != 2)
			return -EINVAL;
		byte = strtoul(text, &end, 16);
		mac[i] = (uint8_t)byte;
		if (*end != (i < 5 ? ':' : 0))
			return -EINVAL;
		text = end + 1;
	}
	return mac[0] & 1 || memcmp(mac, none, sizeof(none)) == 0 ? -EINVAL : 0;
}

static int hex_digit(char digit)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = strchr(digits, digit >= 'A' && digit <= 'F' ? digit | 0x20 : digit);

	return digit && at ? (int)(at - digits) : -1;
}

int parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned zeroes = 0, ones = 0;

	for (unsigned i = 0; i < 16; i++) {
		int high, low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return -EINVAL;
		high = hex_digit(text[0]);
		low = high < 0 ? -1 : hex_digit(text[1]);
		if (low < 0)
			return -EINVAL;
		uuid[i] = (uint8_t)(high << 4 | low);
		zeroes += uuid[i] == 0;
		ones += uuid[i] == 0xff;
		text += 2;
	}
	return *text || zeroes == 16 || ones == 16 ? -EINVAL : 0;
}

int parse_switch(const char *text, int *on)
{
	if (strcmp(text, "on") == 0)
		*on = 1;
	else if (strcmp(text, "off") == 0)
		*on = 0;
	else
		return -EINVAL;
	return 0;
}
