/* SPDX-License-Identifier: Apache-2.0 */
#include "api/private.h"
#include "base/checked.h"

#include <errno.h>

static int put(struct call *call)
{
	return error_set(&call->err, ENOTSUP, "Vsock config error: there is no vsock device.");
}

static const struct route routes[] = {
	{"PUT", "vsock", WHEN_BEFORE, .function = put},
};
const struct route_set vsock_routes = {routes, ARRAY_SIZE(routes)};
