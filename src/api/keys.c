/* SPDX-License-Identifier: Apache-2.0 */
#include "api/private.h"

#include <errno.h>

int press_ctrl_alt_del(struct call *call)
{
	int ret = machine_press_ctrl_alt_del(call->api->machine);

	if (ret == -ENOTSUP)
		return error_set(&call->err, ENOTSUP,
			"SendCtrlAltDel: the machine has no keyboard; start it with --keyboard "
			"on.");
	if (ret < 0)
		return error_set(&call->err, EAGAIN,
			"SendCtrlAltDel: the guest listens to no keyboard (yet).");
	return 0;
}
