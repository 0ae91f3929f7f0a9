/* SPDX-License-Identifier: Apache-2.0 */
#include "api/private.h"

#include "base/log.h"

#include <errno.h>

int press_ctrl_alt_del(struct call *call)
{
	int ret = machine_press_ctrl_alt_del(call->api->machine);

	if (ret == -ENOTSUP)
		return error_set(&call->err, ENOTSUP,
			"SendCtrlAltDel: the machine has no keyboard; start it with --keyboard "
			"on.");
	/* Clients of Firecracker ask early, and give the guest its time. */
	if (ret < 0 && call->api->options.start) {
		log_warning("SendCtrlAltDel: the guest listens to no keyboard (yet); it was not "
			    "pressed");
		return 0;
	}
	if (ret < 0)
		return error_set(&call->err, EAGAIN,
			"SendCtrlAltDel: the guest listens to no keyboard (yet).");
	return 0;
}
