/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network's policy as its configuration has it: rules in JSON, addresses as text.
 *
 *   [{"name": "ssh", "action": "allow", "direction": "in", "protocol": "tcp",
 *     "source": "10.0.0.0/8", "destination-ports": "22"}, ...]
 *
 * Any thread, one at a time.
 */
#ifndef DUET_MACHINE_NET_POLICY_H
#define DUET_MACHINE_NET_POLICY_H

#include "machine/config.h"

#include <jansson.h>

/* Messages begin with @what. *@text: the rules as they are kept in net_config; the caller's. */
int net_rules_from_json(char **text, const json_t *rules, const char *what, struct error *err);
int net_rules_from_file(char **text, const char *path, const char *what, struct error *err);
json_t *net_rules_to_json(const char *text);
/* "10.0.0.2+fd00::2/64": addresses or prefixes. -EINVAL. */
int net_addresses_check(const char *text, const char *what, struct error *err);

/* The policy is the caller's; one of a network that has none does nothing. */
int net_config_policy(
	struct net_policy **policy, const struct net_config *config, struct error *err);
/* Whether anything of a policy is configured. */
bool net_config_has_policy(const struct net_config *config);

#endif
