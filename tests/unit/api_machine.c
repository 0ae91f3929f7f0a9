/* SPDX-License-Identifier: Apache-2.0 */
#include "api_machine.h"

#include "machine/fields.h"
#include "virtio/devices.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct api_machine fake;

struct machine *api_machine(void)
{
	return (struct machine *)&fake;
}

void api_machine_begin(const struct machine_config *config)
{
	fake.config = config;
	fake.state = MACHINE_RUNNING;
	fake.balloon_interval = 1;
	fake.sharing = (struct machine_sharing){.offered = 8192, .runs = 2};
}

void api_machine_end(void)
{
	api_machine_end_pause(-ECANCELED);
	fake.state = MACHINE_ENDED;
	fake.paused = false;
	fake.hints = NULL;
	fake.take = NULL;
	fake.moved = false;
}

void api_machine_end_pause(int result)
{
	struct machine_pause *pause = fake.pause;

	fake.pause = NULL;
	if (!pause)
		return;
	fake.paused = result == 0;
	fake.state = result == 0 ? MACHINE_PAUSED : MACHINE_RUNNING;
	pause->done(pause, result, result == 0 ? NULL : "disk0 did not come to rest");
}

void api_machine_end_hints(int result)
{
	struct machine_hints *hints = fake.hints;

	fake.hints = NULL;
	if (hints)
		hints->done(hints, result, result == 0 ? 1 << 20 : 0, NULL);
}

void api_machine_end_take(int result)
{
	struct snapshot_take *take = fake.take;

	fake.take = NULL;
	if (take)
		take->done(take, result, result == 0 ? NULL : "memory: No space left on device");
}

/* ---- what it is ---- */

const struct machine_config *__wrap_machine_config(const struct machine *machine);
const struct machine_config *__wrap_machine_config(const struct machine *machine)
{
	return fake.config;
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

/* The real ones are asked for by tests of whole machines. */
json_t *__wrap_machine_stats(struct machine *machine);
json_t *__wrap_machine_stats(struct machine *machine)
{
	json_t *devices = json_pack("[{s:s, s:s}]", "name", "serial", "type", "serial");

	for (unsigned i = 0; i < fake.config->device_count; i++)
		json_array_append_new(
			devices, json_pack("{s:s, s:s}", "name", fake.config->devices[i].id, "type",
					 device_types[fake.config->devices[i].type].name));
	return json_pack("{s:s, s:{}, s:[], s:{}, s:o}", "duet", "none", "machine", "vcpus",
		"exits", "devices", devices);
}

/* ---- its life ---- */

int __wrap_machine_pause(struct machine *machine, struct machine_pause *pause, uint64_t limit);
int __wrap_machine_pause(struct machine *machine, struct machine_pause *pause, uint64_t limit)
{
	if (fake.state != MACHINE_RUNNING || fake.paused)
		return -EINVAL;
	if (fake.pause)
		return -EALREADY;
	fake.pause = pause;
	return 0;
}

void __wrap_machine_resume(struct machine *machine);
void __wrap_machine_resume(struct machine *machine)
{
	fake.resumes++;
	api_machine_end_pause(-ECANCELED);
	fake.paused = false;
	if (fake.state == MACHINE_PAUSED)
		fake.state = MACHINE_RUNNING;
}

int __wrap_machine_press_ctrl_alt_del(struct machine *machine);
int __wrap_machine_press_ctrl_alt_del(struct machine *machine)
{
	return fake.keys;
}

/* ---- its devices ---- */

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

int __wrap_machine_unplug(struct machine *machine, const char *id, struct error *err);
int __wrap_machine_unplug(struct machine *machine, const char *id, struct error *err)
{
	if (strcmp(id, "vfio0") != 0)
		return error_set(err, ENOENT, "%s: there is no such device", id);
	fake.unplugs++;
	return 0;
}

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

int __real_virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err);
int __wrap_virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err);
int __wrap_virtio_coop_wish(struct device *device, enum virtio_coop_kind kind, struct error *err)
{
	return fake.takes_wishes ? 0 : __real_virtio_coop_wish(device, kind, err);
}

int __wrap_virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err);
int __wrap_virtio_balloon_set_target(struct device *device, uint64_t bytes, struct error *err)
{
	fake.balloon_target = bytes;
	return 0;
}

void __wrap_virtio_balloon_set_interval(struct device *device, unsigned seconds);
void __wrap_virtio_balloon_set_interval(struct device *device, unsigned seconds)
{
	fake.balloon_interval = seconds;
}

void __wrap_virtio_balloon_statistics(
	struct device *device, struct virtio_balloon_statistics *statistics);
void __wrap_virtio_balloon_statistics(
	struct device *device, struct virtio_balloon_statistics *statistics)
{
	*statistics = (struct virtio_balloon_statistics){
		.target = fake.balloon_target, .interval = fake.balloon_interval};
}

void __wrap_virtio_balloon_hint_status(struct device *device, struct virtio_balloon_hints *status);
void __wrap_virtio_balloon_hint_status(struct device *device, struct virtio_balloon_hints *status)
{
	*status = (struct virtio_balloon_hints){.bytes = fake.hints ? 4096 : 0};
}

int __wrap_machine_take_hints(
	struct machine *machine, struct machine_hints *hints, uint64_t limit, struct error *err);
int __wrap_machine_take_hints(
	struct machine *machine, struct machine_hints *hints, uint64_t limit, struct error *err)
{
	if (fake.hints || fake.state != MACHINE_RUNNING)
		return error_set(err, EINVAL, "balloon: the machine cannot be paused now");
	fake.hints = hints;
	return 0;
}

void __wrap_machine_cut_hints(struct machine_hints *hints);
void __wrap_machine_cut_hints(struct machine_hints *hints)
{
}

/* ---- its memory, on nodes of the host ---- */

int __wrap_machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err);
int __wrap_machine_uses(struct machine *machine, struct machine_uses *uses, struct error *err)
{
	fake.looks++;
	*uses = fake.seen;
	return 0;
}

void __wrap_machine_progress(const struct machine *machine, struct machine_progress *progress);
void __wrap_machine_progress(const struct machine *machine, struct machine_progress *progress)
{
	*progress = fake.progress;
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

/* ---- its snapshots, of which no file is written ---- */

int __wrap_snapshot_take_begin(struct snapshot_take *take, struct machine *machine,
	struct snapshot_track *track, const struct snapshot_place *place, bool diff,
	struct loop *loop, struct error *err);
int __wrap_snapshot_take_begin(struct snapshot_take *take, struct machine *machine,
	struct snapshot_track *track, const struct snapshot_place *place, bool diff,
	struct loop *loop, struct error *err)
{
	fake.take = take;
	return 0;
}

void __wrap_snapshot_take_cancel(struct snapshot_take *take);
void __wrap_snapshot_take_cancel(struct snapshot_take *take)
{
}

int __wrap_snapshot_take_end(struct snapshot_take *take);
int __wrap_snapshot_take_end(struct snapshot_take *take)
{
	fake.take = NULL;
	return 0;
}

/* ---- its migration, which goes nowhere ---- */

struct migration {
	struct source_progress progress;
	bool cancelled;
};

int __wrap_migration_begin(struct migration **migration, struct machine *machine, struct loop *loop,
	const struct migration_options *options, struct error *err);
int __wrap_migration_begin(struct migration **migration, struct machine *machine, struct loop *loop,
	const struct migration_options *options, struct error *err)
{
	*migration = calloc(1, sizeof(**migration));
	return *migration ? 0 : error_errno(err, ENOMEM, "migration");
}

int __wrap_migration_cancel(struct migration *migration);
int __wrap_migration_cancel(struct migration *migration)
{
	if (migration->cancelled)
		return -EALREADY;
	migration->cancelled = true;
	return 0;
}

struct migration_status __wrap_migration_status(const struct migration *migration);
struct migration_status __wrap_migration_status(const struct migration *migration)
{
	return (struct migration_status){.state = fake.moved             ? MIGRATION_DONE
						  : migration->cancelled ? MIGRATION_CANCELLED
									 : MIGRATION_RUNNING,
		.progress = &migration->progress,
		.why = ""};
}

void __wrap_migration_free(struct migration *migration);
void __wrap_migration_free(struct migration *migration)
{
	free(migration);
}

static int log_to(void *opaque, const char *path, const char *level, struct error *err)
{
	return 0;
}

static int write_to(void *opaque, const char *path, struct error *err)
{
	return 0;
}

static int flush(void *opaque, struct error *err)
{
	return 0;
}

void api_machine_outputs(struct api_options *options)
{
	options->log_to = log_to;
	options->metrics_to = write_to;
	options->serial_to = write_to;
	options->flush_metrics = flush;
}
