/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs and memory. */
#include "api/private.h"
#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

#define CPUS_MAX 32 /* Firecracker's, which its message says */

static const char *const huge_words[] = {"None", "2M", NULL};
static const char *const template_words[] = {
	"C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None", NULL};
#define TEMPLATE_NONE 6

struct fields {
	struct given_number cpus, memory;
	struct given_switch smt, track_dirty_pages;
	struct given_word cpu_template, huge_pages;
};

#define IN(member) offsetof(struct fields, member)
#define REST                                                                                       \
	{.name = "smt", .kind = MEMBER_SWITCH, .offset = IN(smt)},                                 \
		{.name = "cpu_template",                                                           \
			.kind = MEMBER_WORD,                                                       \
			.offset = IN(cpu_template),                                                \
			.words = template_words},                                                  \
		{.name = "track_dirty_pages",                                                      \
			.kind = MEMBER_SWITCH,                                                     \
			.offset = IN(track_dirty_pages)},                                          \
	{                                                                                          \
		.name = "huge_pages", .kind = MEMBER_WORD, .offset = IN(huge_pages),               \
		.words = huge_words                                                                \
	}
static const struct member put_members[] = {
	{.name = "vcpu_count",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN(cpus),
		.most = UINT8_MAX},
	{.name = "mem_size_mib",
		.kind = MEMBER_NUMBER,
		.needed = true,
		.offset = IN(memory),
		.most = UINT64_MAX},
	REST,
};
static const struct member patch_members[] = {
	{.name = "vcpu_count", .kind = MEMBER_NUMBER, .offset = IN(cpus), .most = UINT8_MAX},
	{.name = "mem_size_mib", .kind = MEMBER_NUMBER, .offset = IN(memory), .most = UINT64_MAX},
	REST,
};
static const struct body put_body = {
	"MachineConfig", put_members, ARRAY_SIZE(put_members), .size = sizeof(struct fields)};
static const struct body patch_body = {"MachineConfigUpdate", patch_members,
	ARRAY_SIZE(patch_members), .size = sizeof(struct fields)};

static int check_memory(const struct api *api, uint64_t mib, struct error *err)
{
	const struct device_config *balloon =
		machine_config_device(api->options.config, DEVICE_BALLOON, 0);

	if (mib == 0)
		return error_set(err, EINVAL,
			"Machine config error: The memory size (MiB) is either 0, or not a "
			"multiple "
			"of the configured page size.");
	if (mib < MACHINE_MEMORY_MIN >> 20 || mib > MACHINE_MEMORY_MAX >> 20)
		return error_set(err, EINVAL,
			"Machine config error: mem_size_mib: give a number from %llu to %llu",
			MACHINE_MEMORY_MIN >> 20, MACHINE_MEMORY_MAX >> 20);
	if (balloon && mib << 20 < balloon->balloon.size)
		return error_set(err, EINVAL,
			"Machine config error: The memory size (MiB) is smaller than the "
			"previously "
			"set balloon device target size.");
	return 0;
}

static int check_cpus(uint64_t cpus, bool smt, struct error *err)
{
	if (cpus && cpus <= CPUS_MAX && (!smt || cpus == 1 || cpus % 2 == 0))
		return 0;
	return error_set(err, EINVAL,
		"Machine config error: The number of vCPUs must be greater than 0, less than %d "
		"and "
		"must be 1 or an even number if SMT is enabled.",
		CPUS_MAX);
}

/* What is accepted and cannot be honoured is told. */
static void tell(const struct fields *fields)
{
	if (fields->smt.value)
		log_warning("PUT /machine-config: smt: each vCPU is a core of its own");
	if (fields->cpu_template.given && fields->cpu_template.value != TEMPLATE_NONE)
		log_warning("PUT /machine-config: cpu_template %s: the guest sees the host's CPU "
			    "as it is",
			template_words[fields->cpu_template.value]);
}

static int apply(struct call *call, const struct fields *fields, bool whole)
{
	struct api *api = call->api;
	struct machine_config *config = api->options.config;
	uint64_t cpus = fields->cpus.given ? fields->cpus.value : config->cpus,
		 mib = fields->memory.given ? fields->memory.value : config->memory >> 20;
	bool smt = fields->smt.given || whole ? fields->smt.value : api->smt;
	int ret = check_cpus(cpus, smt, &call->err);

	if (ret == 0)
		ret = check_memory(api, mib, &call->err);
	if (ret < 0)
		return ret;
	if (fields->huge_pages.value)
		return error_set(&call->err, ENOTSUP,
			"Machine config error: huge_pages: 2M is not there; leave it at None.");
	config->cpus = (unsigned)cpus;
	config->memory = mib << 20;
	api->smt = smt;
	if (fields->track_dirty_pages.given || whole)
		api->track.wanted = fields->track_dirty_pages.value;
	if (fields->cpu_template.given) {
		api->has_template = fields->cpu_template.value != TEMPLATE_NONE;
		api->cpu_template = fields->cpu_template.value;
	}
	tell(fields);
	return 0;
}

static int put(struct call *call)
{
	return apply(call, call->fields, true);
}

static int check_patch(struct call *call)
{
	const struct fields *fields = call->fields;

	if (fields->cpus.given || fields->memory.given || fields->smt.given ||
		fields->track_dirty_pages.given || fields->cpu_template.given ||
		fields->huge_pages.given)
		return 0;
	return error_set(&call->err, EINVAL, "Empty PATCH request.");
}

static int patch(struct call *call)
{
	return apply(call, call->fields, false);
}

json_t *machine_config_json(const struct api *api)
{
	const struct machine_config *config = api_config(api);
	json_t *object = json_pack("{s:i, s:I, s:b, s:b, s:s}", "vcpu_count", (int)config->cpus,
		"mem_size_mib", (json_int_t)(config->memory >> 20), "smt", api->smt,
		"track_dirty_pages", api->track.wanted, "huge_pages", "None");

	if (api->has_template)
		json_object_set_new(
			object, "cpu_template", json_string(template_words[api->cpu_template]));
	return object;
}

static int get(struct call *call)
{
	call->reply = machine_config_json(call->api);
	return 0;
}

static const struct route routes[] = {
	{"GET", "machine-config", .function = get},
	{"PUT", "machine-config", WHEN_BEFORE, .body = &put_body, .function = put},
	{"PATCH", "machine-config", WHEN_BEFORE, .body = &patch_body, .check = check_patch,
		.function = patch},
	{"PUT", "cpu-config", WHEN_BEFORE, .body = &cpu_body, .function = put_cpu_config},
};
const struct route_set machine_config_routes = {routes, ARRAY_SIZE(routes)};
