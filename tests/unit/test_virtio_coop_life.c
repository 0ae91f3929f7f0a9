/* SPDX-License-Identifier: Apache-2.0 */
/* Hints, wishes, time and saved state of the cooperation device. */
#include "coop_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* The guest writes; what it writes is taken when it is whole. */
static void reads_hints(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct device *device = rig->device.device;
	struct duet_coop_guest_part *part = &coop_rig_page(rig, 1)->guest;
	struct virtio_coop_machine_hints machine;
	struct virtio_coop_vcpu_hints hints;

	assert_false(virtio_coop_vcpu_hints(device, 1, &hints));
	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_true(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_false(hints.valid);
	*part = (struct duet_coop_guest_part){
		.sequence = 2, .runnable = 3, .burst_ns = 4, .switches = 5, .updated_ns = 6};
	assert_true(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_true(hints.valid && hints.runnable == 3 && hints.burst_ns == 4);
	assert_true(hints.switches == 5 && hints.updated_ns == 6);
	part->sequence = 3;
	assert_true(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_false(hints.valid);
	assert_false(virtio_coop_vcpu_hints(device, COOP_RIG_VCPUS, &hints));
	assert_true(virtio_coop_machine_hints(device, &machine));
	assert_false(machine.valid);
	coop_rig_page(rig, 0)->guest = (struct duet_coop_guest_part){.sequence = 8,
		.working_set = 1 << 20,
		.refaults = 7,
		.heartbeat = 9,
		.pressure = {1, 2, 3, 4, 5, 6}};
	assert_true(virtio_coop_machine_hints(device, &machine));
	assert_true(machine.valid && machine.working_set == 1 << 20 && machine.refaults == 7);
	assert_true(machine.heartbeat == 9 && machine.pressure[0] == 1 && machine.pressure[4] == 5);
	coop_rig_up(rig, COOP_F_ALL & ~COOP_F(HINTS), 1);
	assert_false(virtio_coop_vcpu_hints(device, 1, &hints));
	assert_false(virtio_coop_machine_hints(device, &machine));
	coop_rig_free(rig);
}

#define WISHES (DEVICE_RIG_DATA + 0x20000)

static const struct ring_buffer wish_buffer = {WISHES, sizeof(struct duet_coop_wish), true};

static uint32_t await_wish(struct coop_rig *rig, uint32_t kind)
{
	const struct duet_coop_wish *wish = (const void *)device_rig_at(&rig->device, WISHES);
	uint32_t written;
	uint64_t token;

	assert_true(driver_await(&rig->device.rings[DUET_COOP_EVENTS], &token, &written));
	assert_int_equal(written, sizeof(*wish));
	assert_int_equal(wish->kind, kind);
	return wish->number;
}

static void offer_wish(struct coop_rig *rig)
{
	assert_true(
		ring_driver_offer(&rig->device.rings[DUET_COOP_EVENTS], &wish_buffer, 1, false, 1));
	driver_kick(&rig->device.driver, DUET_COOP_EVENTS);
}

static void wishes(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct device *device = rig->device.device;
	struct error err = {0};

	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_SHARE, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "coop0: no driver"));
	coop_rig_up(rig, COOP_F_ALL & ~COOP_F(WISHES), 1);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_SHARE, &err), -ENOTSUP);
	coop_rig_up(rig, COOP_F_ALL, 1);
	/* With a buffer there, and before there is one. */
	offer_wish(rig);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_SHARE, &err), 0);
	assert_int_equal(await_wish(rig, DUET_COOP_WISH_SHARE), 1);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_LOCALITY, &err), 0);
	assert_int_equal(virtio_coop_wish(device, VIRTIO_COOP_LOCALITY, &err), 0);
	offer_wish(rig);
	assert_int_equal(await_wish(rig, DUET_COOP_WISH_LOCALITY), 2);
	assert_int_equal(coop_rig_counted(rig, NULL, "wishes"), 2);
	coop_rig_free(rig);
}
static void tells_how_long_it_stood_still(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct device *device = rig->device.device;

	coop_rig_up(rig, COOP_F_ALL, 1);
	virtio_coop_goes_on(device, 500);
	assert_int_equal(coop_rig_page(rig, 2)->host.away_ns, 0);
	virtio_coop_stopped(device, 1000);
	virtio_coop_stopped(device, 1500);
	virtio_coop_goes_on(device, 3000);
	assert_int_equal(coop_rig_page(rig, 0)->host.away_ns, 2000);
	/* The guest's scribbling changes nothing; a clock that begins anew takes nothing away. */
	coop_rig_page(rig, 2)->host.away_ns = 5;
	virtio_coop_stopped(device, 4000);
	virtio_coop_goes_on(device, 10);
	assert_int_equal(coop_rig_page(rig, 2)->host.away_ns, 2000);
	virtio_coop_stopped(device, 5000);
	virtio_coop_goes_on(device, 5001);
	assert_int_equal(coop_rig_page(rig, 2)->host.away_ns, 2001);
	coop_rig_up(rig, COOP_F_ALL, 1);
	assert_int_equal(coop_rig_page(rig, 2)->host.away_ns, 2001);
	assert_int_equal(virtio_coop_away(device), 2001);
	coop_rig_free(rig);
}

static void switches_features_off(void **state)
{
	const struct virtio_coop_options none = {.vcpus = 1};
	const struct virtio_coop_host_ops nothing = {0};
	struct virtio_coop_host host = {.ops = &nothing};
	struct virtio_coop_options options = coop_rig_options;
	struct coop_rig *rig = coop_rig_new(&none);

	assert_int_equal(driver_features(&rig->device.driver) & 0xffffff, 0);
	coop_rig_up(rig, 0, 1);
	virtio_coop_stopped(rig->device.device, 1000);
	virtio_coop_goes_on(rig->device.device, 3000);
	assert_int_equal(coop_rig_page(rig, 0)->host.away_ns, 0);
	coop_rig_free(rig);
	options.host = &host;
	rig = coop_rig_new(&options);
	assert_int_equal(driver_features(&rig->device.driver) & 0xffffff & ~COOP_F(COPY),
		COOP_F(HINTS) | COOP_F(WISHES) | COOP_F(TIME));
	coop_rig_up(rig, COOP_F(HINTS), 1);
	assert_int_equal(coop_rig_call(rig, 0, DUET_COOP_COUNTER_OPEN, 0, 0), -DUET_COOP_EPERM);
	coop_rig_free(rig);
}

/* ---- saved state ---- */

static int restore(struct coop_rig *rig, const struct state_writer *writer)
{
	struct state_reader reader;
	struct error err;
	int ret;

	assert_int_equal(state_reader_init(&reader, writer->bytes, writer->length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	fake_stop(rig->device.device);
	ret = rig->device.device->ops->restore(rig->device.device, &reader, &err);
	if (ret == 0)
		assert_int_equal(state_section_end(&reader, &err), 0);
	assert_int_equal(rig->device.device->ops->start(rig->device.device, &err), 0);
	return ret;
}

static void save(struct coop_rig *rig, struct state_writer *writer)
{
	struct error err;

	fake_stop(rig->device.device);
	state_writer_init(writer);
	state_section_begin(writer, "coop", 1);
	rig->device.device->ops->save(rig->device.device, writer);
	state_section_close(writer);
	assert_int_equal(state_writer_finish(writer), 0);
	assert_int_equal(rig->device.device->ops->start(rig->device.device, &err), 0);
}

static void is_saved_and_restored(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options),
			*other = coop_rig_new(&coop_rig_options);
	struct virtio_coop_options fewer = coop_rig_options;
	struct state_writer writer;

	coop_rig_up(rig, COOP_F_ALL, 1);
	coop_rig_page(rig, 1)->guest.sequence = 4;
	coop_rig_page(rig, 1)->guest.runnable = 17;
	coop_rig_wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, 2, 5, 1), 0);
	assert_int_equal(coop_rig_call(rig, 1, DUET_COOP_COUNTER_OPEN, 3, 0), 0);
	virtio_coop_stopped(rig->device.device, 7000);
	save(rig, &writer);
	/* Memory is moved by others. */
	memcpy(other->device.machine.ram, rig->device.machine.ram, FAKE_RAM_SIZE);
	memcpy(other->device.rings, rig->device.rings, sizeof(rig->device.rings));
	for (unsigned i = 0; i < DUET_COOP_QUEUES; i++)
		other->device.rings[i].memory = &other->device.machine.memory;
	assert_int_equal(restore(other, &writer), 0);
	coop_rig_find_shared(other);
	virtio_coop_goes_on(other->device.device, 9000);
	assert_int_equal(coop_rig_page(other, 1)->guest.runnable, 17);
	assert_int_equal(coop_rig_page(other, 1)->host.away_ns, 2000);
	assert_int_equal(coop_rig_call(other, 2, DUET_COOP_NOP, 5, 0), 0);
	assert_int_equal(coop_rig_runs(other, VIRTIO_COOP_LOCALITY).pages, 1);
	assert_int_equal(coop_rig_runs(other, VIRTIO_COOP_LOCALITY).wished, 1);
	other->host.open = 1;
	assert_int_equal(coop_rig_call(other, 1, DUET_COOP_COUNTER_CLOSE, 1103, 0), 0);
	coop_rig_free(other);
	/* Open counters of which this machine has none. */
	fewer.counters = false;
	other = coop_rig_new(&fewer);
	assert_int_equal(restore(other, &writer), -EINVAL);
	coop_rig_free(other);
	fewer = coop_rig_options;
	fewer.vcpus = COOP_RIG_VCPUS - 1;
	other = coop_rig_new(&fewer);
	assert_int_equal(restore(other, &writer), -EINVAL);
	coop_rig_free(other);
	coop_rig_free(rig);
	state_writer_free(&writer);
}

/* Cut off at any place. */
static void refuses_bad_state(void **state)
{
	struct coop_rig *rig = coop_rig_new(&coop_rig_options);
	struct state_writer writer;
	struct state_reader reader;
	struct error err;
	size_t length;

	coop_rig_up(rig, COOP_F_ALL, 1);
	coop_rig_wish(rig, VIRTIO_COOP_LOCALITY);
	assert_int_equal(COOP_LOCALITY(0x1000, 1, 2, 5, 1), 0);
	save(rig, &writer);
	fake_stop(rig->device.device);
	length = writer.length;
	for (size_t cut = 64; cut < length - 64; cut += 97) {
		assert_int_equal(state_reader_init(&reader, writer.bytes, length, &err), 0);
		assert_int_equal(state_section_next(&reader, &err), 1);
		reader.section_end -= cut;
		assert_int_equal(
			rig->device.device->ops->restore(rig->device.device, &reader, &err),
			-EINVAL);
	}
	state_writer_free(&writer);
	coop_rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_hints),
		cmocka_unit_test(wishes),
		cmocka_unit_test(tells_how_long_it_stood_still),
		cmocka_unit_test(switches_features_off),
		cmocka_unit_test(is_saved_and_restored),
		cmocka_unit_test(refuses_bad_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
