/* SPDX-License-Identifier: Apache-2.0 */
#include "api/private.h"

#include <errno.h>

int refresh_drive(struct call *call, const char *id, const char *path)
{
	return error_set(&call->err, ENOTSUP, "%.64s: its file stays while the machine runs", id);
}
