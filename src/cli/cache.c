/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cache.h"

#include <stdio.h>
#include <stdlib.h>

void cache_choose(struct machine_config *config)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int ret = 0;

	if (config->cache)
		return;
	if (cache && *cache == '/')
		ret = asprintf(&config->cache, "%s/duet/kernels", cache);
	else if (home && *home == '/')
		ret = asprintf(&config->cache, "%s/.cache/duet/kernels", home);
	if (ret < 0)
		config->cache = NULL;
}
