/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pci_address.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* One hexadecimal number of 1 to @digits digits, and the character @end behind it. */
static bool take(const char **at, unsigned digits, char end, unsigned *value)
{
	static const char hex[] = "0123456789abcdef";
	unsigned taken = 0;

	*value = 0;
	for (; taken < digits; taken++) {
		unsigned digit = 0;
		char c = (*at)[taken];

		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		while (hex[digit] && hex[digit] != c)
			digit++;
		if (!c || !hex[digit])
			break;
		*value = *value * 16 + digit;
	}
	*at += taken;
	if (!taken || **at != end)
		return false;
	*at += end != 0;
	return true;
}

static bool take_rest(const char **at, unsigned *bus, unsigned *device, unsigned *function)
{
	return take(at, 2, ':', bus) && take(at, 2, '.', device) && take(at, 1, 0, function) &&
	       *device < 32 && *function < 8;
}

int pci_address_parse(const char *text, char canonical[PCI_ADDRESS_SIZE])
{
	unsigned domain = 0, bus = 0, device = 0, function = 0;
	const char *at = text;

	if (!take_rest(&at, &bus, &device, &function)) {
		at = text;
		if (!take(&at, 8, ':', &domain) || !take_rest(&at, &bus, &device, &function))
			return -EINVAL;
	}
	/* The masks tell the compiler what was checked. */
	snprintf(canonical, PCI_ADDRESS_SIZE, "%04x:%02x:%02x.%x", domain, bus & 0xff,
		device & 0x1f, function & 7);
	return 0;
}
