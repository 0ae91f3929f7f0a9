/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_host.h"

#include "base/checked.h"
#include "bus/rest.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ROUND_NS 500000

/* A test's own misuse, or a device's: there is nothing sensible to go on with. */
static void fail(const char *what)
{
	fprintf(stderr, "fake host: %s\n", what);
	abort();
}

static struct fake_host *fake_of(struct bus_host *host)
{
	return container_of(host, struct fake_host, host);
}

static struct fake_route *route_of(struct fake_host *fake, unsigned gsi)
{
	unsigned index = gsi - FAKE_HOST_GSI_FIRST;

	if (index >= FAKE_HOST_ROUTES || !fake->routes[index].used)
		fail("no such route");
	return &fake->routes[index];
}

static void set_line(struct bus_host *host, unsigned gsi, bool level)
{
	struct fake_host *fake = fake_of(host);

	if (gsi >= FAKE_HOST_LINES)
		fail("no such line");
	pthread_mutex_lock(&fake->lock);
	fake->raised[gsi] += level && !fake->lines[gsi];
	fake->lines[gsi] = level;
	pthread_mutex_unlock(&fake->lock);
}

static int msi_add(struct bus_host *host, uint64_t address, uint32_t data, unsigned *gsi)
{
	struct fake_host *fake = fake_of(host);
	int ret = -ENOSPC;

	pthread_mutex_lock(&fake->lock);
	fake->msi_adds++;
	for (unsigned i = 0; i < FAKE_HOST_ROUTES; i++) {
		if (fake->routes[i].used)
			continue;
		fake->routes[i] = (struct fake_route){true, address, data, -1};
		*gsi = FAKE_HOST_GSI_FIRST + i;
		ret = 0;
		break;
	}
	pthread_mutex_unlock(&fake->lock);
	return ret;
}

/* As KVM does: there are no local APICs above 4 GiB. */
static bool refused(const struct fake_route *route)
{
	return route->address >> 32;
}

static int msi_change(struct bus_host *host, unsigned gsi, uint64_t address, uint32_t data)
{
	struct fake_host *fake = fake_of(host);
	struct fake_route *route;

	int ret;

	pthread_mutex_lock(&fake->lock);
	fake->msi_changes++;
	route = route_of(fake, gsi);
	route->address = address;
	route->data = data;
	ret = route->eventfd >= 0 && refused(route) ? -EINVAL : 0;
	pthread_mutex_unlock(&fake->lock);
	return ret;
}

static void msi_remove(struct bus_host *host, unsigned gsi)
{
	struct fake_host *fake = fake_of(host);

	pthread_mutex_lock(&fake->lock);
	fake->msi_removes++;
	if (route_of(fake, gsi)->eventfd >= 0)
		fail("route removed with its eventfd attached");
	route_of(fake, gsi)->used = false;
	pthread_mutex_unlock(&fake->lock);
}

static int irqfd_attach(struct bus_host *host, unsigned gsi, int eventfd)
{
	struct fake_host *fake = fake_of(host);
	int ret = 0;

	pthread_mutex_lock(&fake->lock);
	fake->attaches++;
	if (route_of(fake, gsi)->eventfd >= 0)
		fail("eventfd attached twice");
	if (fake->attach_error)
		ret = fake->attach_error;
	else if (refused(route_of(fake, gsi)))
		ret = -EINVAL;
	else
		route_of(fake, gsi)->eventfd = eventfd;
	pthread_mutex_unlock(&fake->lock);
	return ret;
}

static void irqfd_detach(struct bus_host *host, unsigned gsi, int eventfd)
{
	struct fake_host *fake = fake_of(host);

	pthread_mutex_lock(&fake->lock);
	fake->detaches++;
	if (route_of(fake, gsi)->eventfd != eventfd)
		fail("eventfd detached that was not attached");
	route_of(fake, gsi)->eventfd = -1;
	pthread_mutex_unlock(&fake->lock);
}

/* The fake has a user-space IOAPIC: a test ends an interrupt by fake_host_end_line(). */
static int irqfd_attach_level(struct bus_host *host, unsigned gsi, int eventfd, int resample)
{
	return -ENOTSUP;
}

static int eoi_watch(struct bus_host *host, struct bus_eoi_watch *watch)
{
	struct fake_host *fake = fake_of(host);

	watch->next = fake->eoi_watches;
	fake->eoi_watches = watch;
	return 0;
}

static void eoi_unwatch(struct bus_host *host, struct bus_eoi_watch *watch)
{
	struct bus_eoi_watch **at = &fake_of(host)->eoi_watches;

	while (*at && *at != watch)
		at = &(*at)->next;
	if (!*at)
		fail("unwatched what was not watched");
	*at = watch->next;
}

void fake_host_end_line(struct fake_host *fake, unsigned gsi)
{
	for (struct bus_eoi_watch *watch = fake->eoi_watches; watch; watch = watch->next)
		if (watch->gsi == gsi)
			watch->ended(watch);
}

static int window_add(
	struct bus_host *host, uint64_t address, void *memory, uint64_t length, unsigned *window)
{
	struct fake_host *fake = fake_of(host);

	if ((address | length | (uintptr_t)memory) & 4095 || !length)
		fail("window not page aligned");
	if (fake->window_error)
		return fake->window_error;
	for (unsigned i = 0; i < FAKE_HOST_WINDOWS; i++) {
		const struct fake_window *other = &fake->windows[i];

		if (other->length && address < other->address + other->length &&
			other->address < address + length)
			fail("windows overlap");
	}
	for (unsigned i = 0; i < FAKE_HOST_WINDOWS; i++) {
		if (fake->windows[i].length)
			continue;
		fake->windows[i] = (struct fake_window){address, length, memory};
		*window = i;
		return 0;
	}
	return -ENOSPC;
}

static void window_remove(struct bus_host *host, unsigned window)
{
	struct fake_host *fake = fake_of(host);

	if (window >= FAKE_HOST_WINDOWS || !fake->windows[window].length)
		fail("window removed that was not there");
	fake->windows[window].length = 0;
}

unsigned fake_host_windows(const struct fake_host *fake)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_HOST_WINDOWS; i++)
		count += fake->windows[i].length != 0;
	return count;
}

static int vfio_group(struct bus_host *host, int group, bool add)
{
	return 0;
}

static bool same_doorbell(const struct fake_doorbell *a, const struct fake_doorbell *b)
{
	return a->used && a->port == b->port && a->address == b->address &&
	       a->length == b->length && a->match == b->match && a->value == b->value;
}

static struct fake_doorbell *find_doorbell(
	struct fake_host *fake, const struct fake_doorbell *doorbell)
{
	for (unsigned i = 0; i < fake->doorbells_end; i++)
		if (same_doorbell(&fake->doorbells[i], doorbell))
			return &fake->doorbells[i];
	return NULL;
}

static int doorbell_add(struct bus_host *host, bool port, uint64_t address, unsigned length,
	bool match, uint64_t value, int eventfd)
{
	struct fake_host *fake = fake_of(host);
	struct fake_doorbell doorbell = {true, port, match, address, value, length, eventfd};
	int ret = -ENOSPC;

	pthread_mutex_lock(&fake->lock);
	fake->doorbell_adds++;
	if (find_doorbell(fake, &doorbell))
		ret = -EEXIST;
	for (unsigned i = 0; ret == -ENOSPC && i < FAKE_HOST_DOORBELLS; i++) {
		if (fake->doorbells[i].used)
			continue;
		fake->doorbells[i] = doorbell;
		if (fake->doorbells_end <= i)
			fake->doorbells_end = i + 1;
		ret = 0;
	}
	pthread_mutex_unlock(&fake->lock);
	return ret;
}

static void doorbell_remove(struct bus_host *host, bool port, uint64_t address, unsigned length,
	bool match, uint64_t value, int eventfd)
{
	struct fake_host *fake = fake_of(host);
	struct fake_doorbell doorbell = {true, port, match, address, value, length, eventfd};
	struct fake_doorbell *found;

	pthread_mutex_lock(&fake->lock);
	fake->doorbell_removes++;
	found = find_doorbell(fake, &doorbell);
	if (!found || found->eventfd != eventfd)
		fail("doorbell removed that was not in place");
	found->used = false;
	pthread_mutex_unlock(&fake->lock);
}

static const struct bus_host_ops fake_ops = {
	.set_line = set_line,
	.msi_add = msi_add,
	.msi_change = msi_change,
	.msi_remove = msi_remove,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
	.doorbell_add = doorbell_add,
	.doorbell_remove = doorbell_remove,
	.irqfd_attach_level = irqfd_attach_level,
	.eoi_watch = eoi_watch,
	.eoi_unwatch = eoi_unwatch,
	.window_add = window_add,
	.window_remove = window_remove,
	.vfio_group = vfio_group,
};

void fake_host_init(struct fake_host *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->host.ops = &fake_ops;
	pthread_mutex_init(&fake->lock, NULL);
}

void fake_host_free(struct fake_host *fake)
{
	pthread_mutex_destroy(&fake->lock);
}

bool fake_host_line(struct fake_host *fake, unsigned gsi)
{
	bool level;

	pthread_mutex_lock(&fake->lock);
	level = fake->lines[gsi];
	pthread_mutex_unlock(&fake->lock);
	return level;
}

uint64_t fake_host_take_msi(struct fake_host *fake, uint32_t data)
{
	uint64_t sum = 0, signals;

	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < FAKE_HOST_ROUTES; i++) {
		const struct fake_route *route = &fake->routes[i];

		if (route->used && route->eventfd >= 0 && route->data == data &&
			read(route->eventfd, &signals, sizeof(signals)) == sizeof(signals))
			sum += signals;
	}
	pthread_mutex_unlock(&fake->lock);
	return sum;
}

bool fake_host_wait_msi(struct fake_host *fake, uint32_t data)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (unsigned waited = 0; waited <= FAKE_PATIENCE_MS; waited++) {
		if (fake_host_take_msi(fake, data))
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

unsigned fake_host_routes(struct fake_host *fake)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_HOST_ROUTES; i++)
		count += fake->routes[i].used;
	return count;
}

unsigned fake_host_attached(struct fake_host *fake)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_HOST_ROUTES; i++)
		count += fake->routes[i].used && fake->routes[i].eventfd >= 0;
	return count;
}

unsigned fake_host_doorbells(struct fake_host *fake)
{
	unsigned count = 0;

	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < fake->doorbells_end; i++)
		count += fake->doorbells[i].used;
	pthread_mutex_unlock(&fake->lock);
	return count;
}

static bool rings(const struct fake_doorbell *doorbell, bool port, uint64_t address, unsigned size,
	uint64_t value)
{
	return doorbell->used && doorbell->port == port && doorbell->address == address &&
	       (doorbell->length == 0 || doorbell->length == size) &&
	       (!doorbell->match || doorbell->value == value);
}

bool fake_host_write(
	struct fake_host *fake, bool port, uint64_t address, unsigned size, uint64_t value)
{
	static const uint64_t one = 1;
	bool taken = false;

	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < fake->doorbells_end && !taken; i++) {
		taken = rings(&fake->doorbells[i], port, address, size, value);
		if (taken && write(fake->doorbells[i].eventfd, &one, sizeof(one)) < 0)
			fail("doorbell's eventfd is not writable");
	}
	pthread_mutex_unlock(&fake->lock);
	return taken;
}

/* All but the loop. */
static void machine_init(struct fake_machine *machine)
{
	memset(machine, 0, sizeof(*machine));
	fake_host_init(&machine->host);
	memory_init(&machine->memory);
	machine->ram = mmap(NULL, FAKE_RAM_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (machine->ram == MAP_FAILED ||
		memory_add_fixed(&machine->memory, GPA(0), FAKE_RAM_SIZE, machine->ram) < 0 ||
		bus_new(&machine->place.ports, "ports") < 0 ||
		bus_new(&machine->place.mmio, "mmio") < 0)
		fail("machine");
	machine->place.memory = &machine->memory;
	machine->place.host = &machine->host.host;
}

static void add_bus(struct fake_machine *machine, struct loop *loop)
{
	const struct pci_windows windows = {
		.ecam = FAKE_ECAM,
		.memory32 = FAKE_MMIO32,
		.memory32_size = 0x10000000,
		.memory64 = 0x1000000000,
		.memory64_size = 0x1000000000,
		.ports = 0xc000,
		.ports_size = 0x1000,
	};
	struct error err;

	machine->place.io = machine->place.main = loop;
	if (pci_bus_new(&machine->place.pci, &machine->place, &windows, &err) < 0)
		fail(err.text);
}

void fake_machine_init(struct fake_machine *machine)
{
	const struct loop_thread_options io = {.name = "fake-io", .entries = 64};
	struct error err;

	machine_init(machine);
	if (loop_thread_start(&machine->io, &io, &err) < 0)
		fail("I/O thread");
	add_bus(machine, loop_thread_loop(machine->io));
}

void fake_machine_init_here(struct fake_machine *machine)
{
	struct loop *loop;
	struct error err;

	machine_init(machine);
	if (loop_new(&loop, 64, &err) < 0)
		fail("loop");
	add_bus(machine, loop);
}

struct round {
	struct loop_timer timer;
	struct loop_hook hook;
	struct loop *loop;
};

static void round_expired(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct round, timer)->loop);
}

static void round_over(struct loop_hook *hook)
{
	loop_stop(container_of(hook, struct round, hook)->loop);
}

static void run_round(struct loop *loop)
{
	struct round round = {.timer.expired = round_expired, .hook.run = round_over, .loop = loop};

	loop_timer_after(loop, &round.timer, ROUND_NS);
	loop_add_hook(loop, &round.hook);
	if (loop_run(loop) < 0)
		fail("io_uring");
	loop_remove_hook(loop, &round.hook);
	loop_timer_stop(&round.timer);
}

void fake_machine_round(struct fake_machine *machine)
{
	const struct timespec step = {.tv_nsec = ROUND_NS};

	if (machine->io)
		nanosleep(&step, NULL);
	else
		run_round(machine->place.io);
}

static void reached(struct device_rest *rest)
{
	sem_post(&container_of(rest, struct fake_rest, rest)->reached);
}

void fake_rest_ask(struct fake_rest *rest, struct device *device)
{
	rest->next = device->next;
	device->next = NULL;
	sem_init(&rest->reached, 0, 0);
	device_rest_init(&rest->rest, reached);
	device_rest_ask(&rest->rest, device, false);
}

bool fake_rest_is_reached(struct fake_rest *rest)
{
	int value;

	sem_getvalue(&rest->reached, &value);
	return value > 0;
}

static void stopped(struct fake_rest *rest, struct device *device)
{
	device->next = rest->next;
	device->rest = NULL;
	device_rest_destroy(&rest->rest);
	sem_destroy(&rest->reached);
}

void fake_rest_await(struct fake_rest *rest, struct device *device)
{
	while (sem_wait(&rest->reached) < 0)
		continue;
	stopped(rest, device);
}

void fake_stop(struct device *device)
{
	struct fake_rest rest;

	fake_rest_ask(&rest, device);
	fake_rest_await(&rest, device);
}

void fake_machine_stop(struct fake_machine *machine, struct device *device)
{
	struct fake_rest rest;

	fake_rest_ask(&rest, device);
	while (sem_trywait(&rest.reached) < 0)
		fake_machine_round(machine);
	stopped(&rest, device);
}

void fake_machine_end_device(struct fake_machine *machine, struct device *device)
{
	fake_stop(device);
	if (machine->io)
		loop_thread_quit(machine->io);
	device->ops->free(device);
}

void fake_machine_free(struct fake_machine *machine)
{
	pci_bus_free(machine->place.pci);
	bus_free(machine->place.ports);
	bus_free(machine->place.mmio);
	if (!machine->io)
		loop_free(machine->place.io);
	loop_thread_stop(machine->io);
	memory_free(&machine->memory);
	munmap(machine->ram, FAKE_RAM_SIZE);
	fake_host_free(&machine->host);
}

uint64_t fake_guest_read(struct fake_machine *machine, uint64_t address, unsigned size)
{
	uint64_t value;

	bus_read(machine->place.mmio, address, size, &value);
	return value;
}

void fake_guest_write(struct fake_machine *machine, uint64_t address, unsigned size, uint64_t value)
{
	if (!fake_host_write(&machine->host, false, address, size, value))
		bus_write(machine->place.mmio, address, size, value);
}

static uint64_t ecam_address(unsigned slot, unsigned offset)
{
	return FAKE_ECAM + (slot << 15) + offset;
}

uint32_t fake_guest_config_read(
	struct fake_machine *machine, unsigned slot, unsigned offset, unsigned size)
{
	return (uint32_t)fake_guest_read(machine, ecam_address(slot, offset), size);
}

void fake_guest_config_write(
	struct fake_machine *machine, unsigned slot, unsigned offset, unsigned size, uint32_t value)
{
	fake_guest_write(machine, ecam_address(slot, offset), size, value);
}
