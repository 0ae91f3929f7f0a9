/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio socket device, behind a unix socket of the host. */
#include "api/private.h"
#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CID_LEAST 3 /* those below are the host's and the hypervisor's */

struct fields {
	struct given_number cid;
	const char *path, *id;
};

#define IN(member) offsetof(struct fields, member)
static const struct member members[] = {
	{.name = "guest_cid",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN(cid),
		.most = UINT32_MAX},
	{.name = "uds_path", .kind = MEMBER_TEXT, .needed = true, .offset = IN(path)},
	{.name = "vsock_id", .kind = MEMBER_TEXT, .offset = IN(id)},
};
static const struct body vsock_body = {
	"VsockDeviceConfig", members, ARRAY_SIZE(members), .size = sizeof(struct fields)};

static int put(struct call *call)
{
	const struct fields *fields = call->fields;
	struct machine_config *config = call->api->options.config;
	struct device_config *vsock = machine_config_device(config, DEVICE_VSOCK, 0);
	char *path;

	if (fields->cid.value < CID_LEAST)
		return error_set(&call->err, EINVAL, "Vsock config error: guest_cid is %u at least",
			CID_LEAST);
	path = *fields->path ? strdup(fields->path) : NULL;
	if (!path)
		return error_set(&call->err, EINVAL, "Vsock config error: uds_path is empty");
	if (!vsock)
		vsock = machine_config_add(config, DEVICE_VSOCK);
	if (!vsock) {
		free(path);
		return error_errno(&call->err, ENOMEM, "Vsock config error");
	}
	free(vsock->vsock.path);
	vsock->vsock.path = path;
	vsock->vsock.cid = (unsigned)fields->cid.value;
	return 0;
}

json_t *vsock_json(const struct api *api)
{
	const struct device_config *vsock = machine_config_device(api_config(api), DEVICE_VSOCK, 0);

	/* Text of a command line may be of no encoding. */
	return vsock ? json_pack("{s:I, s:s*}", "guest_cid", (json_int_t)vsock->vsock.cid,
			       "uds_path", vsock->vsock.path)
		     : NULL;
}

static const struct route routes[] = {
	{"PUT", "vsock", WHEN_BEFORE, .body = &vsock_body, .function = put},
};
const struct route_set vsock_routes = {routes, ARRAY_SIZE(routes)};
