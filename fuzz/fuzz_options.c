/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: the input is cut into arguments at newlines. */
#include "cli/options.h"
#include "machine/config.h"

#include <stdlib.h>
#include <string.h>

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *args[ARGS_MAX];
	struct run_options options;
	struct error err = {0};
	unsigned count = 0;
	char *text = malloc(size + 1), *at = text;
	char line[4096];

	memcpy(text, data, size);
	text[size] = 0;
	while (at && count < ARGS_MAX) {
		args[count++] = at;
		at = strchr(at, '\n');
		if (at)
			*at++ = 0;
	}
	if (run_options_parse(&options, count, args, &err) == 0 && !options.help)
		machine_cmdline(&options.config, 2600000, line, sizeof(line), &err);
	else if (!options.help && !err.text[0])
		abort(); /* refused without a word */
	run_options_free(&options);
	free(text);
	return 0;
}
