/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration in JSON: refused with words, or complete and the same when written and read. */
#include "machine/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct machine_config *config)
{
	struct machine_config again;
	struct error err = {0};
	char *first = NULL, *second = NULL;

	if (machine_config_write(config, &first, &err) < 0)
		abort();
	machine_config_init(&again);
	if (machine_config_read(&again, first, strlen(first), "again", &err) < 0 ||
		machine_config_complete(&again, &err) < 0 ||
		machine_config_write(&again, &second, &err) < 0 || strcmp(first, second) != 0)
		abort();
	machine_config_free(&again);
	free(first);
	free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine_config config;
	struct error err = {0};

	machine_config_init(&config);
	if (machine_config_read(&config, (const char *)data, size, "input", &err) == 0 &&
		machine_config_complete(&config, &err) == 0)
		check_again(&config);
	else if (!err.text[0])
		abort(); /* refused without a word */
	machine_config_free(&config);
	return 0;
}
