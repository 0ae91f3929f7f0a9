/* SPDX-License-Identifier: Apache-2.0 */
/* Network interfaces: taps of the host. */
#include "api/private.h"
#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct fields {
	const char *id, *ifname, *mac;
	struct given_limiter rx, tx;
};

#define IN(member) offsetof(struct fields, member)
static const struct member put_members[] = {
	{.name = "iface_id", .kind = MEMBER_TEXT, .needed = true, .offset = IN(id)},
	{.name = "host_dev_name", .kind = MEMBER_TEXT, .needed = true, .offset = IN(ifname)},
	{.name = "guest_mac", .kind = MEMBER_TEXT, .offset = IN(mac)},
	{.name = "rx_rate_limiter", .kind = MEMBER_STRUCT, .offset = IN(rx), .body = &limiter_body},
	{.name = "tx_rate_limiter", .kind = MEMBER_STRUCT, .offset = IN(tx), .body = &limiter_body},
};
static const struct member patch_members[] = {
	{.name = "iface_id", .kind = MEMBER_TEXT, .needed = true, .offset = IN(id)},
	{.name = "rx_rate_limiter", .kind = MEMBER_STRUCT, .offset = IN(rx), .body = &limiter_body},
	{.name = "tx_rate_limiter", .kind = MEMBER_STRUCT, .offset = IN(tx), .body = &limiter_body},
};
static const struct body put_body = {"NetworkInterfaceConfig", put_members, ARRAY_SIZE(put_members),
	.size = sizeof(struct fields)};
static const struct body patch_body = {"NetworkInterfaceUpdateConfig", patch_members,
	ARRAY_SIZE(patch_members), .size = sizeof(struct fields)};

static int check(struct call *call)
{
	const struct fields *fields = call->fields;

	if (strcmp(fields->id, call->id) == 0)
		return 0;
	return error_set(&call->err, EINVAL,
		"The id from the path [%s] does not match the id from the body [%.64s]!", call->id,
		fields->id);
}

static int limits(struct device_config *net, const struct fields *fields, struct error *err)
{
	int ret = limiter_take(&fields->rx, DEVICE_NET, "rx-rate", "rx-pps", net, err);

	return ret < 0 ? ret : limiter_take(&fields->tx, DEVICE_NET, "tx-rate", "tx-pps", net, err);
}

static int check_mac(const struct machine_config *config, const struct device_config *net,
	const char *text, struct error *err)
{
	const struct device_config *other;

	for (unsigned i = 0; (other = machine_config_device(config, DEVICE_NET, i)); i++)
		if (strcmp(other->id, net->id) != 0 && other->net.mac.given &&
			memcmp(other->net.mac.bytes, net->net.mac.bytes, 6) == 0)
			return error_set(
				err, EINVAL, "The MAC address is already in use: %s", text);
	return 0;
}

static int fill_copy(const struct machine_config *config, struct device_config *net,
	const struct fields *fields, struct error *err)
{
	int ret = api_set(net, "kind", "tap", err);

	net->net.mac.given = false;
	net->net.rx_rate = net->net.rx_pps = net->net.tx_rate = net->net.tx_pps =
		(struct bucket_limit){0};
	if (ret == 0)
		ret = api_set(net, "ifname", fields->ifname, err);
	if (ret == 0 && fields->mac)
		ret = api_set(net, "mac", fields->mac, err);
	if (ret == 0 && fields->mac)
		ret = check_mac(config, net, fields->mac, err);
	return ret < 0 ? ret : limits(net, fields, err);
}

static int fill(const struct machine_config *config, struct device_config *net,
	const struct fields *fields, struct error *err)
{
	struct device_config copy;
	int ret = api_copy(&copy, net, err);

	if (ret < 0)
		return ret;
	ret = fill_copy(config, &copy, fields, err);
	if (ret < 0)
		api_drop(&copy);
	else
		api_keep(net, &copy);
	return ret;
}

/* Firecracker opens it at once; here it is closed again, and opened at the start. */
static int check_tap(const struct api *api, const struct fields *fields, struct error *err)
{
	static const char failed[] =
		"Could not create the network device: Open tap device failed: ";
	const struct api_options *options = &api->options;
	const struct device_config *other;

	for (unsigned i = 0; (other = machine_config_device(options->config, DEVICE_NET, i)); i++)
		if (strcmp(other->id, fields->id) != 0 && other->net.ifname &&
			strcmp(other->net.ifname, fields->ifname) == 0)
			return error_set(err, EBUSY, "%s%s is also %s's; give each its own", failed,
				other->net.ifname, other->id);
	if (!options->check_tap)
		return 0;
	return options->check_tap(options->opaque, fields->ifname, err) < 0
		       ? error_prefix(err, "%s", failed)
		       : 0;
}

static int put(struct call *call)
{
	const struct fields *fields = call->fields;
	struct machine_config *config = call->api->options.config;
	bool known = machine_config_find(config, fields->id);
	struct device_config *net;
	int ret = api_device(&net, config, DEVICE_NET, fields->id, &call->err);

	if (ret == 0) {
		ret = check_tap(call->api, fields, &call->err);
		if (ret == 0)
			ret = fill(config, net, fields, &call->err);
		if (ret < 0 && !known)
			machine_config_remove(config, net);
	}
	return ret < 0 ? error_prefix(&call->err, "Network config error: ") : 0;
}

static int change(struct call *call, const struct device_config *net, const struct fields *fields)
{
	struct device_config wanted = *net;
	int ret = limits(&wanted, fields, &call->err);

	return ret < 0 ? ret : machine_change_device(call->api->machine, &wanted, &call->err);
}

static int patch(struct call *call)
{
	const struct fields *fields = call->fields;
	const struct device_config *net = machine_config_find(api_config(call->api), fields->id);
	int ret;

	if (net && net->type == DEVICE_NET)
		ret = change(call, net, fields);
	else
		ret = error_set(&call->err, ENOENT, "there is no interface %.64s", fields->id);
	return ret < 0 ? error_prefix(&call->err, "Network config error: ") : 0;
}

static json_t *mac_json(const struct mac_address *mac)
{
	const uint8_t *byte = mac->bytes;
	char text[18];

	if (!mac->given)
		return json_null();
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", byte[0], byte[1], byte[2],
		byte[3], byte[4], byte[5]);
	return json_string(text);
}

static json_t *net_json(const struct device_config *device)
{
	const struct net_config *net = &device->net;

	/* Text of a command line may be of no encoding. */
	json_t *ifname = net->ifname ? json_string(net->ifname) : NULL;

	return json_pack("{s:s, s:o, s:o, s:o, s:o}", "iface_id", device->id, "host_dev_name",
		ifname ? ifname : json_string(""), "guest_mac", mac_json(&net->mac),
		"rx_rate_limiter", limiter_json(&net->rx_rate, &net->rx_pps), "tx_rate_limiter",
		limiter_json(&net->tx_rate, &net->tx_pps));
}

json_t *nets_json(const struct api *api)
{
	const struct machine_config *config = api_config(api);
	const struct device_config *net;
	json_t *array = json_array();

	for (unsigned i = 0; (net = machine_config_device(config, DEVICE_NET, i)); i++)
		json_array_append_new(array, net_json(net));
	return array;
}

static const struct route routes[] = {
	{"PUT", "network-interfaces/{}", WHEN_BEFORE, .resource = true, .body = &put_body,
		.check = check, .function = put},
	{"PATCH", "network-interfaces/{}", WHEN_AFTER, .resource = true, .body = &patch_body,
		.check = check, .function = patch},
};
const struct route_set net_routes = {routes, ARRAY_SIZE(routes)};
