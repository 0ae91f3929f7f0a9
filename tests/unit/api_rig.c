/* SPDX-License-Identifier: Apache-2.0 */
#include "api_rig.h"

#include "base/checked.h"
#include "base/log.h"
#include "virtio/devices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void answered(struct exchange *exchange, unsigned status, const char *type, char *body)
{
	struct api_rig *rig = container_of(exchange, struct api_rig, exchange);

	rig->status = status;
	rig->answers++;
	free(rig->body);
	rig->body = body;
}

static int start(void *opaque, struct error *err)
{
	struct api_rig *rig = opaque;

	rig->starts++;
	return error_set(err, ENOENT, "/dev/kvm: No such file");
}

/* ---- a machine that is none, by the linker's --wrap ---- */

struct api_rig_machine fake;

struct device *__wrap_machine_coop(const struct machine *machine);
struct device *__wrap_machine_coop(const struct machine *machine)
{
	return fake.cooperation;
}

struct device *__wrap_machine_balloon(const struct machine *machine);
struct device *__wrap_machine_balloon(const struct machine *machine)
{
	return fake.no_balloon ? NULL : (struct device *)&fake;
}

const struct machine_config *__wrap_machine_config(const struct machine *machine);
const struct machine_config *__wrap_machine_config(const struct machine *machine)
{
	return &fake.of->config;
}

int __wrap_machine_change_device(
	struct machine *machine, const struct device_config *wanted, struct error *err);
int __wrap_machine_change_device(
	struct machine *machine, const struct device_config *wanted, struct error *err)
{
	fake.changes++;
	return 0;
}

int __wrap_machine_refresh_disk(
	struct machine *machine, const char *id, const char *path, struct error *err);
int __wrap_machine_refresh_disk(
	struct machine *machine, const char *id, const char *path, struct error *err)
{
	fake.refreshes++;
	return 0;
}

int __wrap_virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err);
int __wrap_virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err)
{
	fake.balloon_target = bytes;
	return 0;
}

void __wrap_virtio_balloon_statistics(
	struct device *device, struct virtio_balloon_statistics *statistics);
void __wrap_virtio_balloon_statistics(
	struct device *device, struct virtio_balloon_statistics *statistics)
{
	*statistics =
		(struct virtio_balloon_statistics){.target = fake.balloon_target, .interval = 1};
}

enum machine_state __wrap_machine_state(const struct machine *machine);
enum machine_state __wrap_machine_state(const struct machine *machine)
{
	return fake.state;
}

bool __wrap_machine_is_paused(const struct machine *machine);
bool __wrap_machine_is_paused(const struct machine *machine)
{
	return fake.paused;
}

int __wrap_machine_vcpu_thread(const struct machine *machine, unsigned vcpu);
int __wrap_machine_vcpu_thread(const struct machine *machine, unsigned vcpu)
{
	return 1000 + (int)vcpu;
}

int __wrap_machine_press_ctrl_alt_del(struct machine *machine);
int __wrap_machine_press_ctrl_alt_del(struct machine *machine)
{
	return fake.keys;
}

/* ---- its memory, on nodes of the host ---- */

int __wrap_machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err);
int __wrap_machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err)
{
	fake.looks++;
	*uses = fake.seen;
	return 0;
}

int __wrap_machine_place(
	struct machine *machine, const int8_t nodes[MACHINE_CPUS_MAX], struct error *err);
int __wrap_machine_place(
	struct machine *machine, const int8_t nodes[MACHINE_CPUS_MAX], struct error *err)
{
	memcpy(fake.placed, nodes, sizeof(fake.placed));
	return 0;
}

void __wrap_machine_placing(const struct machine *machine, struct machine_placing *placing);
void __wrap_machine_placing(const struct machine *machine, struct machine_placing *placing)
{
	*placing = fake.under_way;
}

int __wrap_machine_share(
	struct machine *machine, enum machine_sharing_state state, struct error *err);
int __wrap_machine_share(
	struct machine *machine, enum machine_sharing_state state, struct error *err)
{
	if (fake.no_sharing)
		return error_set(err, ENOTSUP, "No sharing.");
	fake.sharing.state = state;
	return 0;
}

int __wrap_machine_merged(const struct machine *machine, uint64_t *pages);
int __wrap_machine_merged(const struct machine *machine, uint64_t *pages)
{
	*pages = 77;
	return fake.no_sharing ? -ENOTSUP : 0;
}

void __wrap_machine_sharing(const struct machine *machine, struct machine_sharing *told);
void __wrap_machine_sharing(const struct machine *machine, struct machine_sharing *told)
{
	*told = fake.sharing;
}

void rig_runs(struct api_rig *rig)
{
	fake.of = rig;
	fake.state = MACHINE_RUNNING;
	fake.sharing = (struct machine_sharing){.offered = 8192, .runs = 2};
	api_set_machine(rig->api, (struct machine *)rig);
}

int rig_make(void **state)
{
	struct api_rig *rig = calloc(1, sizeof(*rig));
	struct api_options options = {.config = &rig->config, .start = start, .opaque = rig};

	fake = (struct api_rig_machine){0};
	log_set_level(LOG_LEVEL_ERROR);
	rig->exchange.answer = answered;
	machine_config_init(&rig->config);
	assert_int_equal(loop_new(&rig->loop, 16, NULL), 0);
	options.loop = rig->loop;
	assert_int_equal(api_new(&rig->api, &options, NULL), 0);
	*state = rig;
	return 0;
}

int rig_drop(void **state)
{
	struct api_rig *rig = *state;

	api_free(rig->api);
	loop_free(rig->loop);
	machine_config_free(&rig->config);
	free(rig->body);
	free(rig);
	return 0;
}

void rig_ask(struct api_rig *rig, const char *method, const char *path, const char *body)
{
	struct request request = {
		.method = method, .path = path, .body = body, .length = strlen(body)};
	unsigned before = rig->answers;

	api_handle(rig->api, &request, &rig->exchange);
	assert_int_equal(rig->answers, before + 1);
}

void rig_done(struct api_rig *rig, const char *method, const char *path, const char *body)
{
	rig_ask(rig, method, path, body);
	if (rig->status != 204)
		fail_msg("%s %s: %u %s", method, path, rig->status, rig->body);
	assert_null(rig->body);
}

void rig_gives(struct api_rig *rig, const char *path, const char *expected)
{
	rig_ask(rig, "GET", path, "");
	assert_int_equal(rig->status, 200);
	assert_string_equal(rig->body, expected);
}

void rig_refused(struct api_rig *rig, const char *method, const char *path, const char *body,
	const char *message)
{
	char expected[1024];

	rig_ask(rig, method, path, body);
	snprintf(expected, sizeof(expected), "{\"fault_message\":\"%s\"}", message);
	assert_int_equal(rig->status, 400);
	assert_string_equal(rig->body, expected);
}
