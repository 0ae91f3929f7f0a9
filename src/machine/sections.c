/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/sections.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* More than a machine with the most vCPUs and devices has. */
#define SECTIONS_MAX 256

static struct section *find(struct sections *sections, const char *name)
{
	for (unsigned i = 0; i < sections->count; i++)
		if (strcmp(sections->all[i].reader.name, name) == 0)
			return &sections->all[i];
	return NULL;
}

static int keep(struct sections *sections, struct state_reader *reader, struct error *err)
{
	if (find(sections, reader->name))
		return error_set(
			err, EINVAL, "saved state: section %s is there twice", reader->name);
	if (sections->count == SECTIONS_MAX)
		return error_set(err, EINVAL, "saved state: more than %u sections", SECTIONS_MAX);
	sections->all[sections->count++] = (struct section){.reader = *reader};
	return state_section_skip(reader, err);
}

int sections_read(struct sections *sections, struct state_reader *reader, struct error *err)
{
	int ret;

	*sections = (struct sections){.all = calloc(SECTIONS_MAX, sizeof(struct section))};
	if (!sections->all)
		return error_errno(err, ENOMEM, "saved state");
	while ((ret = state_section_next(reader, err)) > 0) {
		ret = keep(sections, reader, err);
		if (ret < 0)
			break;
	}
	return ret;
}

void sections_free(struct sections *sections)
{
	free(sections->all);
	*sections = (struct sections){0};
}

int sections_open(struct sections *sections, const char *name, uint32_t version,
	struct state_reader **reader, struct error *err)
{
	struct section *section = find(sections, name);

	if (!section)
		return error_set(err, EINVAL,
			"saved state: section %s is missing; it is of another machine, or damaged",
			name);
	if (section->reader.version > version || section->reader.version == 0)
		return error_set(err, ENOTSUP,
			"saved state: section %s has version %u, this duet reads versions up to "
			"%u; "
			"use the duet that saved it",
			name, section->reader.version, version);
	section->opened = true;
	*reader = &section->reader;
	return 0;
}

int sections_all_opened(const struct sections *sections, struct error *err)
{
	for (unsigned i = 0; i < sections->count; i++)
		if (!sections->all[i].opened)
			return error_set(err, EINVAL,
				"saved state: section %s belongs to no part of this machine; "
				"restore it with its own configuration",
				sections->all[i].reader.name);
	return 0;
}
