/* SPDX-License-Identifier: Apache-2.0 */
#include "api/private.h"

#include <errno.h>

int press_ctrl_alt_del(struct call *call)
{
	return error_set(&call->err, ENOTSUP, "SendCtrlAltDel: the machine has no keyboard.");
}
