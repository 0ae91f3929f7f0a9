/* SPDX-License-Identifier: Apache-2.0 */
#include "base/numbers.h"

#include "base/checked.h"

#include <errno.h>
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
