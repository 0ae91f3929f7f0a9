/* SPDX-License-Identifier: Apache-2.0 */
#include "answer_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void answer_log_line(json_t *line)
{
	const char *folder = getenv("DUET_ANSWERS");
	char name[4096];
	FILE *file;

	snprintf(name, sizeof(name), "%s/%s.jsonl", folder ? folder : "",
		program_invocation_short_name);
	file = folder && line ? fopen(name, "a") : NULL;
	if (folder && line && !file) {
		perror(name);
		abort();
	}
	if (file) {
		json_dumpf(line, file, JSON_COMPACT);
		fputc('\n', file);
		fclose(file);
	}
	json_decref(line);
}

/* What is no UTF-8 fits into no line, and is in no document. */
void answer_log(const struct request *request, unsigned status, const char *type, const char *body)
{
	answer_log_line(json_pack("{s:s, s:s, s:s, s:i, s:s?, s:s?}", "method", request->method,
		"path", request->path, "asked", request->body, "status", (int)status, "type",
		body ? type : NULL, "body", body));
}
