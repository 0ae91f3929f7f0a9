/* SPDX-License-Identifier: Apache-2.0 */
/* What is changed of a machine that runs: its back ends are real, its guest is not there. */
#include "backend/block_private.h"
#include "backend/net_private.h"
#include "base/checked.h"
#include "base/loop_private.h"
#include "machine/internal.h"
#include "x86/layout.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
	struct machine *machine;
	struct net *net;
	struct block *block;
	int other;
};

static void open_block(struct rig *rig)
{
	char path[] = "/tmp/duet-change-XXXXXX";
	struct block_options options = {.path = path};
	int fd = mkstemp(path);

	assert_int_equal(ftruncate(fd, 65536), 0);
	close(fd);
	assert_int_equal(block_open(&rig->block, &options, NULL), 0);
	unlink(path);
}

static void rig_init(struct rig *rig)
{
	static const enum device_type types[] = {DEVICE_DISK, DEVICE_NET, DEVICE_ENTROPY};
	static const char *const ids[] = {"disk0", "net0", "entropy0"};
	const struct loop_thread_options io = {.name = "duet-io", .entries = 16};
	int pair[2];

	rig->machine = calloc(1, sizeof(*rig->machine));
	machine_config_init(&rig->machine->config);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		strcpy(machine_config_add(&rig->machine->config, types[i])->id, ids[i]);
	assert_int_equal(loop_thread_start(&rig->machine->io, &io, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	rig->other = pair[1];
	assert_int_equal(passt_open_stream(&rig->net, pair[0], NULL), 0);
	open_block(rig);
	rig->machine->life.state = MACHINE_RUNNING;
	rig->machine->backends[0].block = rig->block;
	rig->machine->backends[1].net = rig->net;
}

static void rig_free(struct rig *rig)
{
	loop_thread_quit(rig->machine->io);
	net_close(rig->net);
	block_close(rig->block);
	loop_thread_stop(rig->machine->io);
	machine_config_free(&rig->machine->config);
	close(rig->other);
	free(rig->machine);
}

static struct device_config *config_of(struct rig *rig, const char *id)
{
	return machine_config_find(&rig->machine->config, id);
}

static void change(struct rig *rig, const struct device_config *wanted)
{
	struct error err = {0};

	if (machine_change_device(rig->machine, wanted, &err) < 0)
		fail_msg("%s", err.text);
}

static void nothing(struct loop_task *task)
{
}

/* What was posted to the I/O loop before has been done. */
static void settle(struct rig *rig)
{
	struct loop_task barrier = {.run = nothing};

	loop_call(loop_thread_loop(rig->machine->io), &barrier);
}

static void changes_a_disk(void **state)
{
	struct device_config wanted;
	struct rig rig;

	rig_init(&rig);
	wanted = *config_of(&rig, "disk0");
	wanted.disk.iops.amount = 5;
	wanted.disk.bw.burst = 7;
	wanted.disk.readonly = true;
	change(&rig, &wanted);
	settle(&rig);
	assert_non_null(rig.block->throttle);
	assert_int_equal(config_of(&rig, "disk0")->disk.iops.amount, 5);
	assert_int_equal(config_of(&rig, "disk0")->disk.bw.burst, 7);
	assert_false(config_of(&rig, "disk0")->disk.readonly);
	wanted.disk.iops.amount = 0;
	change(&rig, &wanted);
	settle(&rig);
	assert_null(rig.block->throttle);
	rig_free(&rig);
}

static void changes_a_network(void **state)
{
	char rules[] = "[{\"action\":\"deny\",\"name\":\"x\"}]", ip[] = "10.0.0.2";
	struct device_config wanted, as_before;
	struct rig rig;

	rig_init(&rig);
	as_before = wanted = *config_of(&rig, "net0");
	wanted.net.rules = rules;
	wanted.net.ip = ip;
	wanted.net.queues = 7;
	for (unsigned i = 0; i < 20; i++) {
		wanted.net.tx_pps.amount = i + 1;
		change(&rig, &wanted);
		settle(&rig);
		assert_true(net_policed(rig.net));
		assert_string_equal(config_of(&rig, "net0")->net.rules, rules);
		assert_ptr_not_equal(config_of(&rig, "net0")->net.rules, rules);
		assert_string_equal(config_of(&rig, "net0")->net.ip, ip);
		assert_int_equal(config_of(&rig, "net0")->net.tx_pps.amount, i + 1);
		assert_int_equal(config_of(&rig, "net0")->net.queues, as_before.net.queues);
		if (i & 1)
			change(&rig, &as_before);
	}
	settle(&rig);
	assert_false(net_policed(rig.net));
	assert_null(config_of(&rig, "net0")->net.rules);
	/* One on its way when the machine goes. */
	change(&rig, &wanted);
	rig_free(&rig);
}

/* Not built yet: it will be made by it. */
static void changes_before_the_start(void **state)
{
	struct device_config wanted;
	struct rig rig;

	rig_init(&rig);
	memset(rig.machine->backends, 0, sizeof(rig.machine->backends));
	wanted = *config_of(&rig, "net0");
	wanted.net.mac_check = true;
	change(&rig, &wanted);
	assert_true(config_of(&rig, "net0")->net.mac_check);
	assert_false(net_policed(rig.net));
	rig_free(&rig);
}

static void refreshes_a_disk(void **state)
{
	char path[] = "/tmp/duet-change-XXXXXX";
	struct error err = {0};
	struct rig rig;
	int fd = mkstemp(path);

	rig_init(&rig);
	assert_int_equal(ftruncate(fd, 131072), 0);
	close(fd);
	assert_int_equal(machine_refresh_disk(rig.machine, "disk0", path, &err), 0);
	assert_int_equal(block_size(rig.block), 131072);
	assert_string_equal(config_of(&rig, "disk0")->disk.path, path);
	assert_int_equal(truncate(path, 65536), 0);
	assert_int_equal(machine_refresh_disk(rig.machine, "disk0", NULL, &err), 0);
	assert_int_equal(block_size(rig.block), 65536);
	unlink(path);
	assert_int_equal(machine_refresh_disk(rig.machine, "disk0", path, &err), -ENOENT);
	assert_non_null(strstr(err.text, "disk0: --disk path=/tmp/duet-change-"));
	assert_string_equal(config_of(&rig, "disk0")->disk.path, path);
	assert_int_equal(machine_refresh_disk(rig.machine, "net0", NULL, &err), -ENOENT);
	config_of(&rig, "disk0")->disk.model = DISK_IDE;
	assert_int_equal(machine_refresh_disk(rig.machine, "disk0", NULL, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "disk0: an IDE disk"));
	rig.machine->life.state = MACHINE_ENDED;
	assert_int_equal(machine_refresh_disk(rig.machine, "disk0", NULL, &err), -EINVAL);
	rig_free(&rig);
}

static void says_what_cannot_be(void **state)
{
	struct device_config wanted;
	struct error err = {0};
	struct rig rig;

	rig_init(&rig);
	wanted = *config_of(&rig, "entropy0");
	assert_int_equal(machine_change_device(rig.machine, &wanted, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "entropy0: nothing of it can be changed"));
	wanted.type = DEVICE_NET;
	assert_int_equal(machine_change_device(rig.machine, &wanted, &err), -ENOENT);
	assert_string_equal(err.text, "entropy0: there is no such net");
	strcpy(wanted.id, "net7");
	assert_int_equal(machine_change_device(rig.machine, &wanted, &err), -ENOENT);
	rig.machine->life.state = MACHINE_ENDED;
	wanted = *config_of(&rig, "disk0");
	assert_int_equal(machine_change_device(rig.machine, &wanted, &err), -EINVAL);
	rig_free(&rig);
}

/* ---- a function that leaves ---- */

static unsigned freed;

static void free_device(struct device *device)
{
	freed++;
	free(device);
}

static const struct device_ops function_ops = {.type = "vfio", .free = free_device};

static void set_line(struct bus_host *host, unsigned gsi, bool level)
{
}

static const struct bus_host_ops host_ops = {.set_line = set_line};

static void add_device(struct machine *machine, struct device *device)
{
	*machine->last_device = device;
	machine->last_device = &device->next;
}

static void add_function(struct machine *machine, const char *id, unsigned slot)
{
	struct device_config *config = machine_config_add(&machine->config, DEVICE_VFIO);
	struct device *device = calloc(1, sizeof(*device));

	strcpy(config->id, id);
	config->slot = slot;
	config->vfio.host = strdup("0000:01:10.0");
	device->ops = &function_ops;
	strcpy(device->name, id);
	add_device(machine, device);
}

static bool has(const struct machine *machine, const char *name)
{
	for (const struct device *device = machine->devices; device; device = device->next)
		if (strcmp(device->name, name) == 0)
			return true;
	return false;
}

/* What the guest and the main loop do then, on a machine that somebody has paused. */
static void let_go(struct rig *rig, unsigned slot)
{
	bus_write(rig->machine->ports, LAYOUT_EJECT, 4, 1ULL << slot);
	rig->machine->life.state = MACHINE_PAUSED;
	rig->machine->life.paused = true;
	loop_run_tasks(rig->machine->owner.loop);
	rig->machine->life.paused = false;
	rig->machine->life.state = MACHINE_RUNNING;
}

static void open_bus(struct rig *rig, struct bus_host *host)
{
	struct device *eject;

	freed = 0;
	host->ops = &host_ops;
	rig->machine->last_device = &rig->machine->devices;
	/* One that nobody runs: what is posted to it is done by let_go(). */
	assert_int_equal(loop_new(&rig->machine->owner.loop, 8, NULL), 0);
	assert_int_equal(bus_new(&rig->machine->ports, "port"), 0);
	rig->machine->place.ports = rig->machine->ports;
	rig->machine->place.host = host;
	assert_int_equal(machine_create_eject(rig->machine, &eject, NULL), 0);
	assert_int_equal(eject->ops->realize(eject, &rig->machine->place, NULL), 0);
	add_device(rig->machine, eject);
}

static void functions_leave(void **state)
{
	struct bus_host host;
	struct error err = {0};
	struct rig rig;

	rig_init(&rig);
	open_bus(&rig, &host);
	add_function(rig.machine, "vfio0", 5);
	add_function(rig.machine, "vfio1", 6);
	assert_int_equal(machine_unplug(rig.machine, "disk0", &err), -ENOTSUP);
	assert_int_equal(machine_unplug(rig.machine, "vfio2", &err), -ENOENT);
	/* Nobody has asked for it. */
	let_go(&rig, 5);
	assert_true(config_of(&rig, "vfio0") && freed == 0);
	assert_int_equal(machine_unplug(rig.machine, "vfio0", &err), 0);
	let_go(&rig, 5);
	assert_null(config_of(&rig, "vfio0"));
	assert_true(!has(rig.machine, "vfio0") && has(rig.machine, "vfio1") && freed == 1);
	/* What stands behind it in the configuration is what it was. Two at once are one task, for
	 * a task is posted once. */
	add_function(rig.machine, "vfio0", 5);
	assert_int_equal(machine_unplug(rig.machine, "vfio1", &err), 0);
	assert_int_equal(machine_unplug(rig.machine, "vfio0", &err), 0);
	bus_write(rig.machine->ports, LAYOUT_EJECT, 4, 1U << 5);
	let_go(&rig, 6);
	assert_true(freed == 3 && !rig.machine->devices && !rig.machine->eject);
	assert_ptr_equal(rig.machine->last_device, &rig.machine->devices);
	assert_int_equal(rig.machine->config.device_count, 3);
	assert_ptr_equal(rig.machine->backends[1].net, rig.net);
	assert_int_equal(machine_unplug(rig.machine, "vfio1", &err), -ENOENT);
	rig.machine->life.state = MACHINE_PAUSED;
	machine_end_unplug(rig.machine);
	loop_free(rig.machine->owner.loop);
	bus_free(rig.machine->ports);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_a_disk),
		cmocka_unit_test(changes_a_network),
		cmocka_unit_test(changes_before_the_start),
		cmocka_unit_test(refreshes_a_disk),
		cmocka_unit_test(says_what_cannot_be),
		cmocka_unit_test(functions_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
