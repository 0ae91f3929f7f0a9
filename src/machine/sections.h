/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of a saved machine by name, whatever order they are in. From a hostile file: each
 * may be missing, doubled, damaged, or another's. */
#ifndef DUET_MACHINE_SECTIONS_H
#define DUET_MACHINE_SECTIONS_H

#include "state/state.h"

struct section {
	struct state_reader reader; /* at the body's begin */
	bool opened;
};

struct sections {
	struct section *all;
	unsigned count;
};

/* Reads up to the closing section. @sections is to be freed all the same, and needs the reader's
 * bytes. */
int sections_read(struct sections *sections, struct state_reader *reader, struct error *err);
void sections_free(struct sections *sections);
/* The section @name, of @version or an older one. -EINVAL: there is none; -ENOTSUP: it is newer. */
int sections_open(struct sections *sections, const char *name, uint32_t version,
	struct state_reader **reader, struct error *err);
/* -EINVAL when there is one that nobody asked for. */
int sections_all_opened(const struct sections *sections, struct error *err);

#endif
