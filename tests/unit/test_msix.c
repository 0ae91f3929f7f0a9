/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X: when a vector is attached, what a route costs, the pending bits, saved state. */
#include "fake_host.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VECTORS 70
#define SLOT    1
#define PBA     (16 * VECTORS)
#define ENABLE  0x8000
#define MASK    0x4000

struct rig {
	struct fake_machine machine;
	struct pci_function function;
	uint64_t table;
	unsigned capability;
};

static void rig_init(struct rig *rig)
{
	static const struct pci_ids ids = {.vendor = 1, .device = 2};
	struct error err;

	memset(rig, 0, sizeof(*rig));
	fake_machine_init(&rig->machine);
	strcpy(rig->function.device.name, "card");
	pci_init(&rig->function, &ids);
	assert_int_equal(msix_add(&rig->function, VECTORS, 1, 4096, &err), 0);
	assert_int_equal(pci_add(rig->machine.place.pci, &rig->function, &err), 0);
	fake_guest_config_write(&rig->machine, SLOT, 4, 2, 2);
	rig->table = fake_guest_config_read(&rig->machine, SLOT, 0x14, 4);
	rig->capability = fake_guest_config_read(&rig->machine, SLOT, 0x34, 1);
}

static void rig_free(struct rig *rig)
{
	msix_free(&rig->function);
	pci_remove(&rig->function);
	assert_int_equal(fake_host_routes(&rig->machine.host), 0);
	fake_machine_free(&rig->machine);
}

static void control(struct rig *rig, uint16_t bits)
{
	fake_guest_config_write(&rig->machine, SLOT, rig->capability + 2, 2, bits);
}

static void entry(struct rig *rig, unsigned vector, unsigned offset, uint32_t value)
{
	fake_guest_write(&rig->machine, rig->table + 16 * vector + offset, 4, value);
}

/* As Linux writes a message: low, high, data, then the mask. */
static void message(struct rig *rig, unsigned vector, uint32_t data)
{
	entry(rig, vector, 0, 0xfee00000);
	entry(rig, vector, 4, 0);
	entry(rig, vector, 8, data);
	entry(rig, vector, 12, 0);
}

static void test_capability(void **state)
{
	struct error err;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	assert_int_equal(
		fake_guest_config_read(&rig.machine, SLOT, rig.capability + 2, 2), VECTORS - 1);
	assert_int_equal(fake_guest_config_read(&rig.machine, SLOT, rig.capability + 4, 4), 1);
	assert_int_equal(
		fake_guest_config_read(&rig.machine, SLOT, rig.capability + 8, 4), PBA | 1);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + 12, 4), 1); /* masked */
	assert_int_equal(msix_vectors(&rig.function), VECTORS);
	assert_int_equal(msix_eventfd(&rig.function, VECTORS), -1);
	assert_int_equal(msix_eventfd(&rig.function, 0xffff), -1);
	msix_notify(&rig.function, 0xffff);
	rig_free(&rig);
	memset(&rig, 0, sizeof(rig));
	assert_int_equal(msix_add(&rig.function, 256, 1, 4096, &err), -EINVAL);
	assert_int_equal(msix_add(&rig.function, 0, 1, 4096, &err), -EINVAL);
}

static void test_attached_while_deliverable(void **state)
{
	struct fake_host *host;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	host = &rig.machine.host;
	message(&rig, 3, 0x33);
	assert_int_equal(host->msi_adds, 0); /* not before it can be delivered */
	control(&rig, ENABLE | MASK);
	assert_true(msix_enabled(&rig.function));
	assert_int_equal(fake_host_attached(host), 0);
	control(&rig, ENABLE);
	assert_int_equal(fake_host_attached(host), 1);
	msix_notify(&rig.function, 3);
	assert_int_equal(fake_host_take_msi(host, 0x33), 1);
	entry(&rig, 3, 12, 1);
	assert_int_equal(fake_host_attached(host), 0);
	entry(&rig, 3, 12, 0);
	control(&rig, 0);
	assert_int_equal(fake_host_attached(host), 0);
	assert_false(msix_enabled(&rig.function));
	rig_free(&rig);
}

static void test_routes_cost_once(void **state)
{
	struct fake_host *host;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	host = &rig.machine.host;
	control(&rig, ENABLE);
	message(&rig, 0, 0x40);
	assert_int_equal(host->msi_adds, 1);
	assert_int_equal(host->msi_changes, 0);
	for (unsigned i = 0; i < 10; i++) {
		entry(&rig, 0, 12, 1);
		message(&rig, 0, 0x40);
		entry(&rig, 0, 12, 0);
	}
	assert_int_equal(host->msi_adds, 1);
	assert_int_equal(host->msi_changes, 0);
	/* Another CPU: masked, written, unmasked is one change. */
	entry(&rig, 0, 12, 1);
	message(&rig, 0, 0x41);
	assert_int_equal(host->msi_changes, 1);
	/* Written while it is not masked. */
	entry(&rig, 0, 8, 0x42);
	assert_int_equal(host->msi_changes, 2);
	msix_notify(&rig.function, 0);
	assert_int_equal(fake_host_take_msi(host, 0x42), 1);
	assert_int_equal(host->attaches - host->detaches, 1);
	rig_free(&rig);
}

static void test_pending(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	control(&rig, ENABLE);
	message(&rig, 65, 0x65);
	entry(&rig, 65, 12, 1);
	msix_notify(&rig.function, 65);
	msix_notify(&rig.function, 65);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA, 8), 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA + 8, 8), 2);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA + 8, 4), 2);
	fake_guest_write(&rig.machine, rig.table + PBA + 8, 8, 0); /* read-only */
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA + 8, 8), 2);
	entry(&rig, 65, 12, 0);
	assert_true(fake_host_take_msi(&rig.machine.host, 0x65) > 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA + 8, 8), 0);
	rig_free(&rig);
}

static void test_table_accesses(void **state)
{
	struct rig rig;
	uint64_t at;

	(void)state;
	rig_init(&rig);
	at = rig.table + 16 * 5;
	fake_guest_write(&rig.machine, at, 8, 0x1122334455667788);
	assert_true(fake_guest_read(&rig.machine, at, 8) == 0x1122334455667788);
	assert_int_equal(fake_guest_read(&rig.machine, at + 4, 4), 0x11223344);
	fake_guest_write(&rig.machine, at + 8, 8, 0xffffffff00000042);
	assert_int_equal(fake_guest_read(&rig.machine, at + 8, 8), 0x100000042);
	fake_guest_write(&rig.machine, at + 1, 1, 0xff);
	fake_guest_write(&rig.machine, at + 2, 4, 0xffffffff);
	assert_int_equal(fake_guest_read(&rig.machine, at, 4), 0x55667788);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + 4088, 8), 0);
	rig_free(&rig);
}

static void test_reset(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig);
	control(&rig, ENABLE);
	message(&rig, 1, 0x11);
	entry(&rig, 1, 12, 1);
	msix_notify(&rig.function, 1);
	pci_reset(&rig.function);
	assert_int_equal(fake_host_routes(&rig.machine.host), 0);
	assert_false(msix_enabled(&rig.function));
	fake_guest_config_write(&rig.machine, SLOT, 4, 2, 2);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + 16, 8), 0);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + 28, 4), 1);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA, 8), 0);
	rig_free(&rig);
}

static void test_save_and_restore(void **state)
{
	struct rig from, to;
	struct state_writer writer;
	struct state_reader reader;
	struct error err;

	(void)state;
	rig_init(&from);
	rig_init(&to);
	control(&from, ENABLE);
	message(&from, 1, 0x11);
	message(&from, 2, 0x22);
	entry(&from, 2, 12, 1);
	msix_notify(&from.function, 2);
	state_writer_init(&writer);
	state_section_begin(&writer, "card", 1);
	pci_save(&from.function, &writer);
	state_section_close(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_reader_init(&reader, writer.bytes, writer.length, &err), 0);
	assert_int_equal(state_section_next(&reader, &err), 1);
	assert_int_equal(pci_restore(&to.function, &reader, &err), 0);
	assert_int_equal(state_section_end(&reader, &err), 0);
	assert_true(msix_enabled(&to.function));
	assert_int_equal(fake_host_attached(&to.machine.host), 1);
	msix_notify(&to.function, 1);
	assert_int_equal(fake_host_take_msi(&to.machine.host, 0x11), 1);
	assert_int_equal(fake_guest_read(&to.machine, to.table + PBA, 8), 4);
	entry(&to, 2, 12, 0);
	assert_int_equal(fake_host_take_msi(&to.machine.host, 0x22), 1);
	state_writer_free(&writer);
	rig_free(&from);
	rig_free(&to);
}

/* More vectors than the host has routes: the rest stays silent, nothing breaks. */
static void test_no_routes_left(void **state)
{
	struct rig rig;
	unsigned taken = 0, gsi;

	(void)state;
	rig_init(&rig);
	while (rig.machine.place.host->ops->msi_add(rig.machine.place.host, 0, 0, &gsi) == 0)
		taken++;
	control(&rig, ENABLE);
	message(&rig, 0, 0x10);
	assert_int_equal(fake_host_attached(&rig.machine.host), 0);
	msix_notify(&rig.function, 0);
	rig.machine.place.host->ops->msi_remove(rig.machine.place.host, FAKE_HOST_GSI_FIRST);
	entry(&rig, 0, 12, 0);
	assert_int_equal(fake_host_take_msi(&rig.machine.host, 0x10), 1);
	for (unsigned i = 1; i < taken; i++)
		rig.machine.place.host->ops->msi_remove(
			rig.machine.place.host, FAKE_HOST_GSI_FIRST + i);
	rig_free(&rig);
}

/* A message that the host refuses: its vector is dead, alone, until there is a better one. */
static void test_refused_message(void **state)
{
	struct fake_host *host;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	host = &rig.machine.host;
	control(&rig, ENABLE);
	message(&rig, 0, 0x10);
	message(&rig, 1, 0x11);
	entry(&rig, 1, 4, 1); /* while it is in use */
	entry(&rig, 2, 0, 0xfee00000);
	entry(&rig, 2, 4, 1); /* from the start */
	entry(&rig, 2, 8, 0x12);
	entry(&rig, 2, 12, 0);
	message(&rig, 3, 0x13);
	assert_int_equal(fake_host_attached(host), 2);
	assert_int_equal(fake_host_routes(host), 2);
	for (unsigned i = 0; i < 4; i++)
		msix_notify(&rig.function, i);
	assert_int_equal(fake_host_take_msi(host, 0x10), 1);
	assert_int_equal(fake_host_take_msi(host, 0x11), 0);
	assert_int_equal(fake_host_take_msi(host, 0x12), 0);
	assert_int_equal(fake_host_take_msi(host, 0x13), 1);
	assert_int_equal(fake_guest_read(&rig.machine, rig.table + PBA, 8), 6);
	/* The message of before too is a better one. */
	entry(&rig, 1, 4, 0);
	entry(&rig, 2, 4, 0);
	assert_int_equal(fake_host_take_msi(host, 0x11), 1);
	assert_int_equal(fake_host_take_msi(host, 0x12), 1);
	rig_free(&rig);
}

static void test_attach_fails(void **state)
{
	struct fake_host *host;
	struct rig rig;

	(void)state;
	rig_init(&rig);
	host = &rig.machine.host;
	control(&rig, ENABLE);
	host->attach_error = -ENOMEM;
	message(&rig, 0, 0x10);
	assert_int_equal(fake_host_routes(host), 0);
	host->attach_error = 0;
	entry(&rig, 0, 12, 0);
	msix_notify(&rig.function, 0);
	assert_int_equal(fake_host_take_msi(host, 0x10), 1);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capability),
		cmocka_unit_test(test_attached_while_deliverable),
		cmocka_unit_test(test_routes_cost_once),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_table_accesses),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_save_and_restore),
		cmocka_unit_test(test_no_routes_left),
		cmocka_unit_test(test_refused_message),
		cmocka_unit_test(test_attach_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
