/* SPDX-License-Identifier: Apache-2.0 */
/* On which line of a JSON configuration something stands; the parser of JSON does not keep it. */
#ifndef DUET_MACHINE_CONFIG_LINES_H
#define DUET_MACHINE_CONFIG_LINES_H

#include <stddef.h>

/* Of the member @field of the whole; 1 when it is not found. @text is known to be JSON. */
unsigned config_line(const char *text, size_t length, const char *field);
/* Of the member @field of the object number @index in "devices"; of the object itself for "". */
unsigned config_line_of_device(const char *text, size_t length, unsigned index, const char *field);

#endif
