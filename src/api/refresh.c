/* SPDX-License-Identifier: Apache-2.0 */
#include "api/private.h"

int refresh_drive(struct call *call, const char *id, const char *path)
{
	return machine_refresh_disk(call->api->machine, id, path, &call->err);
}
