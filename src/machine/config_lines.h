/* SPDX-License-Identifier: Apache-2.0 */
/* On which line of a JSON configuration something stands; the parser of JSON does not keep it. */
#ifndef DUET_MACHINE_CONFIG_LINES_H
#define DUET_MACHINE_CONFIG_LINES_H

#include <stddef.h>

/* Where an object begins. */
struct config_place {
	size_t offset;
	unsigned line;
};

/* The whole; the object number @index in "devices". @text is known to be JSON. */
struct config_place config_place(const char *text, size_t length);
struct config_place config_place_of_device(const char *text, size_t length, unsigned index);
/* Of the member @field of the object at @place; the object's own when there is none. */
unsigned config_line(
	const char *text, size_t length, const struct config_place *place, const char *field);

#endif
