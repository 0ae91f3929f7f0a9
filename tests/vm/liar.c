/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a guest with a cooperation device: says in the pages that the host reads, over and over, that
 * each vCPU has a thousand threads to run and that the machine needs all memory there is. It finds
 * the pages by the device's shared memory capability (virtio 1.2, 4.1.4.7), as its driver does.
 */
#include "duet/coop.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEVICES          "/sys/bus/pci/devices"
#define CAP_VENDOR       0x09
#define CAP_SHARED       8
#define CONFIG_SIZE      256
#define PCI_CAPABILITIES 0x34

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* The capability of the shared region in a configuration space; null: there is none. */
static const uint8_t *shared_capability(const uint8_t *config)
{
	for (unsigned at = config[PCI_CAPABILITIES]; at && at < CONFIG_SIZE - 24;
		at = config[at + 1])
		if (config[at] == CAP_VENDOR && config[at + 3] == CAP_SHARED)
			return config + at;
	return NULL;
}

static volatile struct duet_coop_page *map(const char *name, size_t *count)
{
	char path[320];
	uint8_t config[CONFIG_SIZE] = {0};
	const uint8_t *capability;
	uint32_t length, offset;
	void *pages;
	int fd;

	snprintf(path, sizeof(path), DEVICES "/%s/config", name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, config, sizeof(config)) < 64)
		return NULL;
	close(fd);
	capability = shared_capability(config);
	if (word(config) >> 16 != 0x1040U + DUET_COOP_DEVICE_ID || !capability)
		return NULL;
	offset = word(capability + 8);
	length = word(capability + 12);
	snprintf(path, sizeof(path), DEVICES "/%s/resource%u", name, capability[4]);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return NULL;
	pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	close(fd);
	*count = length / sizeof(struct duet_coop_page);
	return pages == MAP_FAILED ? NULL : pages;
}

static void lie(volatile struct duet_coop_guest_part *part)
{
	part->sequence |= 1;
	part->runnable = 1000;
	part->burst_ns = 1;
	part->working_set = 1ULL << 50;
	part->sequence = (part->sequence | 1) + 1;
}

int main(void)
{
	volatile struct duet_coop_page *pages = NULL;
	DIR *directory = opendir(DEVICES);
	struct dirent *entry;
	size_t count = 0;

	while (directory && !pages && (entry = readdir(directory)))
		pages = map(entry->d_name, &count);
	if (!pages) {
		puts("liar: no cooperation device");
		return 1;
	}
	puts("liar: lies");
	fflush(stdout);
	for (;;) {
		for (size_t i = 0; i < count; i++)
			lie(&pages[i].guest);
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
}
