/* SPDX-License-Identifier: Apache-2.0 */
/* A network back end's beginning and end, on the main thread. */
#include "backend/net_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int net_init(struct net *net, const struct net_ops *ops, unsigned queues, struct error *err)
{
	net->ops = ops;
	net->queues = calloc(queues, sizeof(*net->queues));
	if (!net->queues)
		return error_errno(err, ENOMEM, "--net");
	net->queues_count = queues;
	net->active = queues;
	for (unsigned i = 0; i < queues; i++) {
		net->queues[i].fd = -1;
		net->queues[i].in.net = net->queues[i].out.net = net;
		net->queues[i].in.queue = net->queues[i].out.queue = i;
	}
	return 0;
}

int net_open(struct net **net, const struct net_options *options, struct error *err)
{
	switch (options->kind) {
	case NET_TAP:
		return tap_open(net, options, err);
	case NET_USER:
		return passt_open(net, options, err);
	}
	return error_set(err, EINVAL, "--net: unknown kind of network");
}

int net_ready(struct net *net, struct error *err)
{
	return net->ops->ready ? net->ops->ready(net, err) : 0;
}

void net_close(struct net *net)
{
	if (!net)
		return;
	net_gate_free(net);
	for (unsigned i = 0; net->queues && i < net->queues_count; i++)
		if (net->queues[i].fd >= 0)
			close(net->queues[i].fd);
	free(net->queues);
	net->ops->close(net);
}
