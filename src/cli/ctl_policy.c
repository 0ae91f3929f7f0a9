/* SPDX-License-Identifier: Apache-2.0 */
/* What a network's guest may send and receive, from the words of duet ctl. */
#include "cli/ctl_policy.h"

#include "base/checked.h"
#include "base/log.h"
#include "machine/json_fault.h"

#include <jansson.h>
#include <string.h>

/* Each is a new reference; null: the log has said why not. */
static json_t *read_switch(const char *text)
{
	if (strcmp(text, "on") == 0 || strcmp(text, "off") == 0)
		return json_boolean(text[1] == 'n');
	log_error("policy mac-check=%s: say on or off", text);
	return NULL;
}

static json_t *read_default(const char *text)
{
	if (strcmp(text, "allow") == 0 || strcmp(text, "deny") == 0)
		return json_string(text);
	log_error("policy rules-default=%s: say allow or deny", text);
	return NULL;
}

static json_t *read_addresses(const char *text)
{
	json_t *value = *text ? json_string(text) : json_null();

	if (!value)
		log_error("policy ip: no addresses; they are written as 10.0.0.2+fd00::2");
	return value;
}

static json_t *read_rules(const char *path)
{
	json_error_t fault;
	json_t *rules;

	if (!*path)
		return json_null();
	rules = json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
	if (json_is_array(rules))
		return rules;
	if (rules)
		log_error("policy rules=%s: no array of rules; see man duet", path);
	else if (fault.line < 0)
		log_error("policy rules=%s: %s; name a file with a JSON array of rules", path,
			fault.text);
	else
		log_error(
			"policy rules=%s: line %d: %s", path, fault.line, json_fault_words(&fault));
	json_decref(rules);
	return NULL;
}

static const struct {
	const char *name;
	json_t *(*read)(const char *text);
} fields[] = {
	{"mac-check", read_switch},
	{"ip", read_addresses},
	{"rules", read_rules},
	{"rules-default", read_default},
};

static int add(json_t *object, const char *word)
{
	size_t length = strcspn(word, "=");

	for (unsigned i = 0; word[length] && i < ARRAY_SIZE(fields); i++)
		if (strlen(fields[i].name) == length && memcmp(fields[i].name, word, length) == 0) {
			json_t *value = fields[i].read(word + length + 1);

			return value ? json_object_set_new(object, fields[i].name, value) : -1;
		}
	log_error("policy %s: it is mac-check=on, ip=ADDRESS+..., rules=FILE, rules-default=deny",
		word);
	return -1;
}

char *ctl_policy(unsigned count, const char *const *words)
{
	json_t *object = json_object();
	char *body = NULL;
	unsigned done = 0;

	while (done < count && add(object, words[done]) == 0)
		done++;
	if (done == count)
		body = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	return body;
}
