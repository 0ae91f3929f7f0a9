/* SPDX-License-Identifier: Apache-2.0 */
/* What Firecracker has and duet has not: clients are told so, rather than that the path is wrong.
 */
#include "api/private.h"
#include "base/checked.h"

#include <errno.h>

static int absent(struct call *call)
{
	return error_set(&call->err, ENOTSUP,
		"The requested operation is not supported: it is not there in duet.");
}

#define ABSENT(method, path)                                                                       \
	{                                                                                          \
		method, path, .function = absent                                                   \
	}
#define ABSENT_BARE(method, path)                                                                  \
	{                                                                                          \
		method, path, .bare = true, .function = absent                                     \
	}
static const struct route routes[] = {
	ABSENT("GET", "mmds"),
	ABSENT("PUT", "mmds"),
	ABSENT("PATCH", "mmds"),
	ABSENT("PUT", "pmem"),
	ABSENT("PATCH", "pmem"),
	ABSENT("GET", "hotplug/memory"),
	ABSENT("PUT", "hotplug/memory"),
	ABSENT("PATCH", "hotplug/memory"),
	ABSENT_BARE("DELETE", "drives/{}"),
	ABSENT_BARE("DELETE", "network-interfaces/{}"),
	ABSENT_BARE("DELETE", "pmem"),
};
const struct route_set absent_routes = {routes, ARRAY_SIZE(routes)};
