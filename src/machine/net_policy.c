/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/net_policy.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/numbers.h"
#include "machine/json_fault.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RULES_FILE_MAX (1U << 18) /* bytes */
#define ADDRESS_SIZE   64         /* of a prefix's text */

/* ---- parts ---- */

/* "10.0.0.0/8", "fd00::1". */
static int parse_prefix(const char *text, size_t length, struct net_prefix *prefix)
{
	char copy[ADDRESS_SIZE], *bits = copy;
	uint64_t number;

	if (length >= sizeof(copy))
		return -EINVAL;
	snprintf(copy, sizeof(copy), "%.*s", (int)length, text);
	strsep(&bits, "/");
	*prefix = (struct net_prefix){.family = strchr(copy, ':') ? 6 : 4};
	number = prefix->family == 6 ? 128 : 32;
	if (inet_pton(prefix->family == 6 ? AF_INET6 : AF_INET, copy, prefix->address) != 1)
		return -EINVAL;
	if (bits && parse_number(bits, 0, number, &number) < 0)
		return -EINVAL;
	prefix->length = (uint8_t)number;
	return 0;
}

static int parse_addresses(const char *text, struct net_prefix *prefixes, unsigned *count)
{
	for (*count = 0;; (*count)++) {
		size_t length = strcspn(text, "+");

		if (*count == NET_ADDRESSES_MAX ||
			parse_prefix(text, length, &prefixes[*count]) < 0)
			return -EINVAL;
		text += length;
		if (!*text++)
			break;
	}
	(*count)++;
	return 0;
}

int net_addresses_check(const char *text, const char *what, struct error *err)
{
	struct net_prefix prefixes[NET_ADDRESSES_MAX];
	unsigned count;

	if (parse_addresses(text, prefixes, &count) == 0)
		return 0;
	return error_set(err, EINVAL,
		"%s: not a list of addresses; write for example 10.0.0.2+fd00::2 (%d at most)",
		what, NET_ADDRESSES_MAX);
}

/* ---- one rule ---- */

/* A field of a rule. */
struct rule_field {
	const char *name;
	int (*read)(struct net_rule *rule, const json_t *value);
	const char *wanted;
};

static int read_name(struct net_rule *rule, const json_t *value)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	const char *name = json_string_value(value);

	if (!name || !*name || strlen(name) >= NET_RULE_NAME || name[strspn(name, allowed)])
		return -EINVAL;
	strcpy(rule->name, name);
	return 0;
}

static int read_action(struct net_rule *rule, const json_t *value)
{
	const char *word = json_string_value(value);

	if (!word || (strcmp(word, "allow") != 0 && strcmp(word, "deny") != 0))
		return -EINVAL;
	rule->allow = *word == 'a';
	return 0;
}

static int read_direction(struct net_rule *rule, const json_t *value)
{
	const char *word = json_string_value(value);

	if (!word || (strcmp(word, "in") != 0 && strcmp(word, "out") != 0))
		return -EINVAL;
	rule->directions[NET_IN] = *word == 'i';
	rule->directions[NET_OUT] = *word == 'o';
	return 0;
}

static int read_protocol(struct net_rule *rule, const json_t *value)
{
	static const struct {
		const char *name;
		int number;
	} names[] = {{"tcp", 6}, {"udp", 17}, {"icmp", 1}, {"icmpv6", 58}, {"sctp", 132},
		{"arp", NET_PROTOCOL_ARP}};
	const char *word = json_string_value(value);

	if (json_is_integer(value) && json_integer_value(value) >= 0 &&
		json_integer_value(value) <= 255) {
		rule->protocol = (int)json_integer_value(value);
		return 0;
	}
	for (unsigned i = 0; word && i < ARRAY_SIZE(names); i++)
		if (strcmp(word, names[i].name) == 0) {
			rule->protocol = names[i].number;
			return 0;
		}
	return -EINVAL;
}

static int read_prefix(struct net_prefix *prefix, const json_t *value)
{
	const char *text = json_string_value(value);

	return text ? parse_prefix(text, strlen(text), prefix) : -EINVAL;
}

static int read_source(struct net_rule *rule, const json_t *value)
{
	return read_prefix(&rule->source, value);
}

static int read_destination(struct net_rule *rule, const json_t *value)
{
	return read_prefix(&rule->destination, value);
}

/* 22, "22" or "1024-65535". */
static int read_ports(struct net_ports *ports, const json_t *value)
{
	char text[16] = "", *last = text;
	uint64_t first, end;

	if (json_is_integer(value))
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_string(value) && json_string_length(value) < sizeof(text))
		strcpy(text, json_string_value(value));
	strsep(&last, "-");
	if (parse_number(text, 1, 65535, &first) < 0)
		return -EINVAL;
	end = first;
	if (last && parse_number(last, first, 65535, &end) < 0)
		return -EINVAL;
	*ports = (struct net_ports){(uint16_t)first, (uint16_t)end};
	return 0;
}

static int read_source_ports(struct net_rule *rule, const json_t *value)
{
	return read_ports(&rule->source_ports, value);
}

static int read_destination_ports(struct net_rule *rule, const json_t *value)
{
	return read_ports(&rule->destination_ports, value);
}

static const struct rule_field rule_fields[] = {
	{"name", read_name, "up to 23 letters, digits, dots, underscores and hyphens"},
	{"action", read_action, "\"allow\" or \"deny\""},
	{"direction", read_direction, "\"in\" (to the guest) or \"out\"; left out: both"},
	{"protocol", read_protocol,
		"\"tcp\", \"udp\", \"icmp\", \"icmpv6\", \"sctp\", \"arp\" or a number from 0 to "
		"255"},
	{"source", read_source, "an address or prefix, such as \"10.0.0.0/8\" or \"fd00::1\""},
	{"destination", read_destination,
		"an address or prefix, such as \"10.0.0.0/8\" or \"fd00::1\""},
	{"source-ports", read_source_ports, "a port from 1 to 65535, or \"1024-65535\""},
	{"destination-ports", read_destination_ports, "a port from 1 to 65535, or \"1024-65535\""},
};

static int read_field(
	struct net_rule *rule, const char *key, const json_t *value, struct error *err)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rule_fields); i++) {
		if (strcmp(rule_fields[i].name, key) != 0)
			continue;
		if (rule_fields[i].read(rule, value) == 0)
			return 0;
		return error_set(err, EINVAL, "rule %s: \"%s\" must be %s", rule->name, key,
			rule_fields[i].wanted);
	}
	return error_set(err, EINVAL,
		"rule %s: \"%.64s\": unknown; see LIMITS AND RULES OF A NETWORK in duet(1)",
		rule->name, key);
}

static int read_rule(struct net_rule *rule, unsigned index, json_t *object, struct error *err)
{
	json_t *name = json_object_get(object, "name"), *value;
	const char *key;
	int ret = 0;

	*rule = (struct net_rule){.directions = {true, true}, .protocol = NET_PROTOCOL_ANY};
	snprintf(rule->name, sizeof(rule->name), "%u", index);
	if (!json_is_object(object))
		return error_set(err, EINVAL,
			"rule %s: must be an object, such as {\"action\": \"deny\", \"protocol\": "
			"\"udp\"}",
			rule->name);
	/* First, so that messages about the others have it. */
	if (name)
		ret = read_field(rule, "name", name, err);
	json_object_foreach(object, key, value)
	{
		if (ret == 0)
			ret = read_field(rule, key, value, err);
	}
	if (ret == 0 && !json_object_get(object, "action"))
		return error_set(err, EINVAL,
			"rule %s: says no \"action\"; write \"action\": \"allow\" or \"deny\"",
			rule->name);
	return ret;
}

/* ---- all of them ---- */

static int check_names(const struct net_rule *rules, unsigned count, struct error *err)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < i; k++)
			if (strcmp(rules[i].name, rules[k].name) == 0)
				return error_set(err, EINVAL,
					"rule %s: there are two of the name; give each its own",
					rules[i].name);
	return 0;
}

/* *@rules is the caller's, also after an error. */
static int read_rules(
	struct net_rule **rules, unsigned *count, const json_t *array, struct error *err)
{
	int ret = 0;

	if (!json_is_array(array))
		return error_set(err, EINVAL,
			"must be an array of rules, such as [{\"action\": \"allow\", \"protocol\": "
			"\"arp\"}]");
	*count = (unsigned)json_array_size(array);
	if (*count > NET_RULES_MAX)
		return error_set(err, EINVAL, "more than %d rules", NET_RULES_MAX);
	*rules = calloc(*count + 1, sizeof(**rules));
	if (!*rules)
		return error_errno(err, ENOMEM, "rules");
	for (unsigned i = 0; ret == 0 && i < *count; i++)
		ret = read_rule(&(*rules)[i], i, json_array_get(array, i), err);
	return ret == 0 ? check_names(*rules, *count, err) : ret;
}

static int check_rules(const json_t *array, struct error *err)
{
	_cleanup_free_ struct net_rule *rules = NULL;
	struct net_policy_options options = {0};
	struct net_policy *policy = NULL;
	int ret = read_rules(&rules, &options.rule_count, array, err);

	if (ret < 0)
		return ret;
	options.rules = rules;
	ret = net_policy_new(&policy, &options, err);
	net_policy_free(policy);
	return ret;
}

int net_rules_from_json(char **text, const json_t *rules, const char *what, struct error *err)
{
	if (check_rules(rules, err) < 0)
		return error_prefix(err, "%s: ", what);
	*text = json_dumps(rules, JSON_COMPACT);
	return *text ? 0 : error_errno(err, ENOMEM, "%s", what);
}

static int cannot_read(const char *what, struct error *err)
{
	return error_set(err, EINVAL, "%s: %s; name a file with a JSON array of rules", what,
		strerror(errno));
}

int net_rules_from_file(char **text, const char *path, const char *what, struct error *err)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *bytes = malloc(RULES_FILE_MAX + 1);
	json_error_t fault;
	json_t *rules;
	size_t length;
	int ret;

	if (!file)
		return cannot_read(what, err);
	if (!bytes)
		return error_errno(err, ENOMEM, "%s", what);
	/* One byte more than there may be, to see that there is more. */
	length = fread(bytes, 1, RULES_FILE_MAX + 1, file);
	if (ferror(file))
		return cannot_read(what, err);
	if (length > RULES_FILE_MAX)
		return error_set(err, EINVAL, "%s: larger than the %u KiB of a file of rules", what,
			RULES_FILE_MAX >> 10);
	rules = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &fault);
	if (!rules)
		return error_set(err, EINVAL, "%s: line %d: not JSON: %s", what, fault.line,
			json_fault_words(&fault));
	ret = net_rules_from_json(text, rules, what, err);
	json_decref(rules);
	return ret;
}

json_t *net_rules_to_json(const char *text)
{
	return json_loads(text, 0, NULL);
}

bool net_config_has_policy(const struct net_config *config)
{
	return config->rx_rate.amount || config->rx_pps.amount || config->tx_rate.amount ||
	       config->tx_pps.amount || config->mac_check || config->ip || config->rules ||
	       config->rules_default == NET_RULES_DENY;
}

/* What was read once is right; memory may be short. */
static int rules_of(const struct net_config *config, struct net_rule **rules, unsigned *count,
	struct error *err)
{
	json_t *array;
	int ret;

	if (!config->rules)
		return 0;
	array = net_rules_to_json(config->rules);
	if (!array)
		return error_errno(err, ENOMEM, "--net rules=");
	ret = read_rules(rules, count, array, err);
	json_decref(array);
	return ret;
}

int net_config_policy(
	struct net_policy **policy, const struct net_config *config, struct error *err)
{
	_cleanup_free_ struct net_rule *rules = NULL;
	struct net_prefix addresses[NET_ADDRESSES_MAX];
	struct net_policy_options options = {
		.limits = {[NET_OUT] = {.bytes = config->tx_rate, .operations = config->tx_pps},
			[NET_IN] = {.bytes = config->rx_rate, .operations = config->rx_pps}},
		.check_mac = config->mac_check,
		.addresses = addresses,
		.deny = config->rules_default == NET_RULES_DENY};
	int ret = rules_of(config, &rules, &options.rule_count, err);

	if (ret == 0 && config->ip &&
		parse_addresses(config->ip, addresses, &options.address_count) < 0)
		ret = net_addresses_check(config->ip, "--net ip=", err);
	if (ret < 0)
		return ret;
	memcpy(options.mac, config->mac.bytes, sizeof(options.mac));
	options.rules = rules;
	return net_policy_new(policy, &options, err);
}
