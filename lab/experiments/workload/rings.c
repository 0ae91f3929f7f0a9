/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net transmit queue driven from user space, so that exactly K descriptors lie in the ring
 * before each kick (virtio 1.2: 2.7 split rings, 4.1 PCI, 5.1.6.2 transmission). The stock driver
 * is taken off the device first. Completions are seen by polling the used ring; in the mode
 * `interrupt` the device interrupts as well, with a vector whose handler in Linux does nothing but
 * acknowledge and count it (that of posted interrupts, the line PIN of /proc/interrupts).
 * In the mode `heed` the kick is left out when the device says that it looks by itself.
 */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAP_VENDOR       0x09
#define CAP_MSIX         0x11
#define COMMAND_ON       7 /* ports, memory, bus master */
#define MSIX_ENABLE      0x8000
#define POSTED_INTERRUPT 0xf2
#define TRANSMIT_QUEUE   1
#define RING             256
#define FRAME            (12 + 64) /* virtio_net_hdr and the frame */
#define PAGE             4096
#define GAP_NS           1000000 /* the other side falls asleep again */
#define NO_INTERRUPT     1       /* in available_flags */
#define NO_NOTIFY        1       /* in used_flags */

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct queue_memory {
	struct descriptor descriptors[RING];
	uint16_t available_flags, available_index, available[RING];
	char gap[PAGE];
	uint16_t used_flags, used_index;
	struct {
		uint32_t id, length;
	} used[RING];
	uint8_t frame[128];
};

struct device {
	char path[128];
	int config;
	volatile uint8_t *common;
	unsigned notify_found, notify_bar, notify_offset, notify_multiplier;
	volatile uint32_t *vector; /* MSI-X table's first entry */
	volatile struct queue_memory *memory;
	uint64_t physical;
	volatile uint16_t *doorbell; /* null: it is at @port */
	uint16_t port;
	int heeds; /* the device's wish not to be kicked */
	unsigned long kicks;
};

static int open_part(const struct device *device, const char *name, int flags)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", device->path, name);
	fd = open(path, flags);
	if (fd < 0)
		fail(path);
	return fd;
}

static uint32_t config_read(const struct device *device, unsigned offset, size_t size)
{
	uint32_t value = 0;

	if (pread(device->config, &value, size, offset) != (ssize_t)size)
		fail("configuration space");
	return value;
}

static volatile uint8_t *map_bar(const struct device *device, uint32_t bar)
{
	char name[16];
	int fd;
	struct stat about;
	void *at;

	snprintf(name, sizeof(name), "resource%u", bar);
	fd = open_part(device, name, O_RDWR);
	if (fstat(fd, &about) < 0)
		fail(name);
	at = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		fail(name);
	close(fd);
	return at;
}

static void find_parts(struct device *device)
{
	for (unsigned at = config_read(device, 0x34, 1); at; at = config_read(device, at + 1, 1)) {
		unsigned kind = config_read(device, at, 1), type = config_read(device, at + 3, 1);
		uint32_t bar, offset;

		if (kind == CAP_MSIX) {
			const uint16_t enable = MSIX_ENABLE;

			offset = config_read(device, at + 4, 4);
			device->vector =
				(volatile uint32_t *)(map_bar(device, offset & 7) + (offset & ~7U));
			if (pwrite(device->config, &enable, 2, at + 2) != 2)
				fail("MSI-X");
		}
		if (kind != CAP_VENDOR || type < 1 || type > 2)
			continue;
		bar = config_read(device, at + 4, 1);
		offset = config_read(device, at + 8, 4);
		if (type == 1) {
			device->common = map_bar(device, bar) + offset;
		} else if (!device->notify_found) { /* the first one is what the device prefers */
			device->notify_found = 1;
			device->notify_bar = bar;
			device->notify_offset = offset;
			device->notify_multiplier = config_read(device, at + 16, 4);
		}
	}
}

static void unbind(const struct device *device, const char *name)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/driver/unbind", device->path);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return; /* taken off before */
	if (write(fd, name, strlen(name)) < 0)
		fail(path);
	close(fd);
}

static void open_device(struct device *device, const char *name)
{
	const uint16_t command = COMMAND_ON;

	snprintf(device->path, sizeof(device->path), "/sys/bus/pci/devices/%s", name);
	unbind(device, name);
	device->config = open_part(device, "config", O_RDWR);
	if (pwrite(device->config, &command, 2, 4) != 2)
		fail("command register");
	find_parts(device);
	errno = ENODEV;
	if (!device->common || !device->notify_found || !device->vector)
		fail("no virtio device");
}

/* A huge page: its guest-physical addresses follow each other. */
static void take_memory(struct device *device)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	device->memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (device->memory == MAP_FAILED)
		fail("a huge page (vm.nr_hugepages)");
	device->memory->used_index = 0;
	if (pread(fd, &entry, 8, (off_t)((uintptr_t)device->memory / PAGE * 8)) != 8)
		fail("pagemap");
	close(fd);
	device->physical = (entry & ((1ULL << 55) - 1)) * PAGE;
}

static void set8(struct device *device, unsigned at, uint8_t value)
{
	device->common[at] = value;
}

static void set16(struct device *device, unsigned at, uint16_t value)
{
	*(volatile uint16_t *)(device->common + at) = value;
}

static void set32(struct device *device, unsigned at, uint32_t value)
{
	*(volatile uint32_t *)(device->common + at) = value;
}

static void set64(struct device *device, unsigned at, uint64_t value)
{
	set32(device, at, (uint32_t)value);
	set32(device, at + 4, (uint32_t)(value >> 32));
}

static void set_up_vector(struct device *device)
{
	device->vector[0] = 0xfee00000U;
	device->vector[1] = 0;
	device->vector[2] = POSTED_INTERRUPT;
	device->vector[3] = 0; /* not masked */
}

/* In memory or, what duet prefers, a port. */
static void find_doorbell(struct device *device)
{
	unsigned offset = device->notify_offset +
			  *(volatile uint16_t *)(device->common + 0x1e) * device->notify_multiplier;
	uint32_t bar = config_read(device, 0x10 + 4 * device->notify_bar, 4);

	if (!(bar & 1)) {
		device->doorbell =
			(volatile uint16_t *)(map_bar(device, device->notify_bar) + offset);
		return;
	}
	if (iopl(3) < 0)
		fail("iopl");
	device->port = (uint16_t)((bar & ~3U) + offset);
}

/* 3.1.1; VERSION_1 is the only feature taken, so the flags alone govern notifications. */
static void set_up_queue(struct device *device)
{
	set8(device, 0x14, 0);
	while (device->common[0x14])
		;
	set8(device, 0x14, 1 | 2);
	set32(device, 0x08, 0);
	set32(device, 0x0c, 0);
	set32(device, 0x08, 1);
	set32(device, 0x0c, 1);
	set8(device, 0x14, 1 | 2 | 8);
	set16(device, 0x16, TRANSMIT_QUEUE);
	set16(device, 0x18, RING);
	set16(device, 0x1a, 0);
	set64(device, 0x20, device->physical + offsetof(struct queue_memory, descriptors));
	set64(device, 0x28, device->physical + offsetof(struct queue_memory, available_flags));
	set64(device, 0x30, device->physical + offsetof(struct queue_memory, used_flags));
	find_doorbell(device);
	set16(device, 0x1c, 1);
	set8(device, 0x14, 1 | 2 | 8 | 4);
}

static void fill_frames(struct device *device)
{
	/* Broadcast, an experimental Ethernet type: the host drops it at once. */
	static const uint8_t start[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
	volatile struct queue_memory *memory = device->memory;

	for (size_t i = 0; i < sizeof(start); i++)
		memory->frame[12 + i] = start[i];
	for (size_t i = 0; i < RING; i++) {
		memory->descriptors[i].address =
			device->physical + offsetof(struct queue_memory, frame);
		memory->descriptors[i].length = FRAME;
		memory->available[i] = (uint16_t)i;
	}
}

static void wait_until(const volatile uint16_t *index, uint16_t wanted)
{
	const uint64_t limit = now_ns() + 20000000000U;

	for (unsigned turn = 1; *index != wanted; turn++) {
		errno = ETIMEDOUT;
		if (turn % 1024 == 0 && now_ns() > limit)
			fail("the device does not answer");
		__builtin_ia32_pause();
	}
}

/* One kick for @count descriptors; the nanoseconds until all are used. */
static uint64_t batch(struct device *device, uint16_t count)
{
	volatile struct queue_memory *memory = device->memory;
	uint16_t wanted = (uint16_t)(memory->available_index + count);
	uint64_t start = now_ns(), end;

	__sync_synchronize();
	memory->available_index = wanted;
	__sync_synchronize();
	if (!device->heeds || !(memory->used_flags & NO_NOTIFY)) {
		if (device->doorbell)
			*device->doorbell = TRANSMIT_QUEUE;
		else
			outw(TRANSMIT_QUEUE, device->port);
		device->kicks++;
	}
	wait_until(&memory->used_index, wanted);
	end = now_ns();
	while (now_ns() < end + GAP_NS)
		__builtin_ia32_pause();
	return end - start;
}

static unsigned long posted_interrupts(void)
{
	char line[512];
	unsigned long count = 0;
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " PIN: %lu", &count) == 1)
			break;
	if (file)
		fclose(file);
	return count;
}

int rings(char **args)
{
	const unsigned long k = number(args[1]), batches = number(args[2]);
	struct device device = {0};
	unsigned long interrupts;
	uint64_t ns = 0;

	errno = EINVAL;
	if (k < 1 || k > RING)
		fail("K");
	take_memory(&device);
	open_device(&device, args[0]);
	set_up_vector(&device);
	set_up_queue(&device);
	fill_frames(&device);
	device.memory->available_flags = strcmp(args[3], "interrupt") == 0 ? 0 : NO_INTERRUPT;
	device.heeds = strcmp(args[3], "heed") == 0;
	for (unsigned i = 0; i < 4; i++)
		batch(&device, (uint16_t)k);
	interrupts = posted_interrupts();
	device.kicks = 0;
	LAB_MARK(MARK_START);
	for (unsigned long i = 0; i < batches; i++) {
		LAB_MARK(MARK_STEP);
		ns += batch(&device, (uint16_t)k);
	}
	LAB_MARK(MARK_END);
	printf("{\"k\": %lu, \"kicks\": %lu, \"packets\": %lu, \"interrupts\": %lu, \"ns\": "
	       "%llu}\n",
		k, device.kicks, k * batches, posted_interrupts() - interrupts,
		(unsigned long long)ns);
	return 0;
}
