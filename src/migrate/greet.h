/* SPDX-License-Identifier: Apache-2.0 */
/* The source and the target come to know each other, on each stream. The source's thread. */
#ifndef DUET_MIGRATE_GREET_H
#define DUET_MIGRATE_GREET_H

#include "migrate/source.h"

/* All streams but the first, which is connected already unless it is @again. Those that were made
 * stay open in any case. */
int greet_all(struct source *source, bool again, struct error *err);

#endif
