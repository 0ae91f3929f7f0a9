/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X (PCI Local Bus 3.0, 6.8.2). */
#include "base/bytes.h"
#include "base/checked.h"
#include "base/log.h"
#include "pci/internal.h"
#include "pci/registers.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* #syscalls main vcpu io: eventfd2 read write poll */

struct vector {
	uint8_t entry[MSIX_ENTRY_LENGTH]; /* address, data, control as in the table */
	int eventfd;
	bool attached;
	bool routed; /* @gsi names a route with the message below */
	unsigned gsi;
	uint64_t address;
	uint32_t data;
};

struct msix {
	pthread_mutex_t lock; /* table and routes; the table is written without the bus's lock */
	struct pci_function *function;
	unsigned capability;
	unsigned count;
	bool masked; /* the function as a whole */
	_Atomic bool enabled;
	struct log_guest_limit guest_log;
	char name[80]; /* of the range, for statistics */
	struct vector vectors[];
};

static uint32_t pba_offset(const struct msix *msix)
{
	return msix->count * MSIX_ENTRY_LENGTH;
}

static bool deliverable(const struct msix *msix, const struct vector *vector)
{
	return atomic_load_explicit(&msix->enabled, memory_order_relaxed) && !msix->masked &&
	       !(vector->entry[12] & MSIX_ENTRY_MASKED);
}

static struct bus_host *host_of(const struct msix *msix)
{
	return msix->function->bus->place.host;
}

/* Makes the route carry the message of the table; only what changed costs a call. */
static int route(struct msix *msix, struct vector *vector)
{
	struct bus_host *host = host_of(msix);
	uint64_t address = load_le64(vector->entry);
	uint32_t data = load_le32(vector->entry + 8);
	int ret;

	if (vector->routed && vector->address == address && vector->data == data)
		return 0;
	if (vector->routed)
		ret = host->ops->msi_change(host, vector->gsi, address, data);
	else
		ret = host->ops->msi_add(host, address, data, &vector->gsi);
	if (ret < 0)
		return ret;
	vector->routed = true;
	vector->address = address;
	vector->data = data;
	return 0;
}

static void detach(struct msix *msix, struct vector *vector)
{
	struct bus_host *host = host_of(msix);

	if (!vector->attached)
		return;
	host->ops->irqfd_detach(host, vector->gsi, vector->eventfd);
	vector->attached = false;
}

static void drop_route(struct msix *msix, struct vector *vector)
{
	struct bus_host *host = host_of(msix);

	detach(msix, vector);
	if (vector->routed)
		host->ops->msi_remove(host, vector->gsi);
	vector->routed = false;
}

/* A vector whose message the host refuses is dead alone, and holds nothing: what is signalled stays
 * pending until the driver writes a better one. */
static void update(struct msix *msix, struct vector *vector)
{
	struct bus_host *host = host_of(msix);
	int ret;

	if (!deliverable(msix, vector)) {
		detach(msix, vector);
		return;
	}
	ret = route(msix, vector);
	if (ret == 0 && !vector->attached) {
		ret = host->ops->irqfd_attach(host, vector->gsi, vector->eventfd);
		vector->attached = ret == 0;
	}
	if (ret == 0)
		return;
	drop_route(msix, vector);
	log_guest(&msix->guest_log, msix->function->device.name,
		"MSI-X vector %u cannot be delivered: %s", (unsigned)(vector - msix->vectors),
		strerror(-ret));
}

static void update_all(struct msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++)
		update(msix, &msix->vectors[i]);
}

static bool readable(int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	return poll(&poller, 1, 0) == 1 && (poller.revents & POLLIN);
}

/* Pending: signalled while nobody listens. An attached eventfd is KVM's to read. */
static bool pending(const struct vector *vector)
{
	return !vector->attached && readable(vector->eventfd);
}

static uint8_t pending_byte(const struct msix *msix, unsigned index)
{
	uint8_t bits = 0;

	for (unsigned i = 0; i < 8 && index * 8 + i < msix->count; i++)
		bits |= (uint8_t)(pending(&msix->vectors[index * 8 + i]) << i);
	return bits;
}

static uint64_t read_pba(const struct msix *msix, uint64_t offset, unsigned size)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < size && (offset + i) * 8 < msix->count; i++)
		bits |= (uint64_t)pending_byte(msix, (unsigned)offset + i) << 8 * i;
	return bits;
}

/* Software must use aligned 4 or 8 byte accesses (6.8.2); others read 0 and write nothing. */
static bool legal(uint64_t offset, unsigned size)
{
	return (size == 4 || size == 8) && offset % size == 0;
}

static uint64_t table_read(void *device, uint64_t offset, unsigned size)
{
	struct msix *msix = device;
	uint64_t value = 0;

	if (!legal(offset, size))
		return 0;
	pthread_mutex_lock(&msix->lock);
	if (offset < pba_offset(msix))
		value = load_le(msix->vectors[offset / MSIX_ENTRY_LENGTH].entry +
					offset % MSIX_ENTRY_LENGTH,
			size);
	else
		value = read_pba(msix, offset - pba_offset(msix), size);
	pthread_mutex_unlock(&msix->lock);
	return value;
}

static void table_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct msix *msix = device;
	struct vector *vector;

	if (!legal(offset, size) || offset >= pba_offset(msix))
		return;
	pthread_mutex_lock(&msix->lock);
	vector = &msix->vectors[offset / MSIX_ENTRY_LENGTH];
	store_le(vector->entry + offset % MSIX_ENTRY_LENGTH, size, value);
	vector->entry[0] &= (uint8_t)~3U; /* the message is a 32-bit write */
	memset(vector->entry + 13, 0, 3); /* reserved but for the mask bit */
	vector->entry[12] &= MSIX_ENTRY_MASKED;
	update(msix, vector);
	pthread_mutex_unlock(&msix->lock);
}

static const struct bus_ops table_ops = {.read = table_read, .write = table_write};

uint64_t msix_read(const struct pci_function *function, uint64_t offset, unsigned size)
{
	return offset < pba_offset(function->msix) ? table_read(function->msix, offset, size) : 0;
}

void msix_write(const struct pci_function *function, uint64_t offset, unsigned size, uint64_t value)
{
	table_write(function->msix, offset, size, value);
}

uint64_t msix_read_pending(const struct pci_function *function, uint64_t offset, unsigned size)
{
	return table_read(function->msix, pba_offset(function->msix) + offset, size);
}

static void free_vectors(struct msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++)
		if (msix->vectors[i].eventfd >= 0)
			close(msix->vectors[i].eventfd);
	pthread_mutex_destroy(&msix->lock);
	free(msix);
}

static int open_vectors(struct msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++) {
		struct vector *vector = &msix->vectors[i];

		vector->entry[12] = MSIX_ENTRY_MASKED;
		vector->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vector->eventfd < 0)
			return -errno;
	}
	return 0;
}

static struct msix *create(struct pci_function *function, unsigned vectors)
{
	struct msix *msix = calloc(1, sizeof(*msix) + vectors * sizeof(msix->vectors[0]));

	if (!msix)
		return NULL;
	pthread_mutex_init(&msix->lock, NULL);
	msix->function = function;
	msix->count = vectors;
	for (unsigned i = 0; i < vectors; i++)
		msix->vectors[i].eventfd = -1;
	return msix;
}

int msix_add(struct pci_function *function, unsigned vectors, unsigned bar, uint64_t size_of_bar,
	struct error *err)
{
	uint64_t needed = (uint64_t)vectors * MSIX_ENTRY_LENGTH + align_up(vectors, 64) / 8;
	struct msix *msix;
	int ret;

	if (needed > size_of_bar)
		return error_set(err, EINVAL, "%s: %u MSI-X vectors do not fit",
			function->device.name, vectors);
	ret = msix_add_inside(function, vectors, bar, vectors * MSIX_ENTRY_LENGTH | bar, err);
	if (ret < 0)
		return ret;
	msix = function->msix;
	snprintf(msix->name, sizeof(msix->name), "%s msix", function->device.name);
	pci_describe_bar(
		function, bar, PCI_BAR_MEMORY32, size_of_bar, &table_ops, msix, msix->name);
	return 0;
}

int msix_add_inside(struct pci_function *function, unsigned vectors, uint32_t table, uint32_t pba,
	struct error *err)
{
	struct msix *msix;
	uint8_t *config;
	int ret;

	if (vectors == 0 || vectors > MSIX_VECTORS_MAX)
		return error_set(err, EINVAL, "%s: no device has %u MSI-X vectors",
			function->device.name, vectors);
	ret = pci_add_capability(function, PCI_CAPABILITY_MSIX, MSIX_CAPABILITY_LENGTH);
	if (ret < 0)
		return error_errno(err, -ret, "%s: MSI-X capability", function->device.name);
	msix = create(function, vectors);
	if (!msix)
		return error_errno(err, ENOMEM, "%s: MSI-X", function->device.name);
	msix->capability = (unsigned)ret;
	ret = open_vectors(msix);
	if (ret < 0) {
		free_vectors(msix);
		return error_errno(err, -ret, "%s: MSI-X eventfd", function->device.name);
	}
	config = function->config + msix->capability;
	store_le16(config + MSIX_CONTROL, (uint16_t)(vectors - 1));
	store_le32(config + MSIX_TABLE, table);
	store_le32(config + MSIX_PBA, pba);
	store_le16(function->writable + msix->capability + MSIX_CONTROL,
		MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL);
	function->msix = msix;
	return 0;
}

static void drop_routes(struct msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++)
		drop_route(msix, &msix->vectors[i]);
}

void msix_free(struct pci_function *function)
{
	struct msix *msix = function->msix;

	if (!msix)
		return;
	if (function->bus)
		drop_routes(msix);
	function->msix = NULL;
	free_vectors(msix);
}

void msix_control_written(struct pci_function *function)
{
	struct msix *msix = function->msix;
	uint16_t control = load_le16(function->config + msix->capability + MSIX_CONTROL);
	bool enabled = control & MSIX_CONTROL_ENABLE, masked = control & MSIX_CONTROL_MASK_ALL;

	pthread_mutex_lock(&msix->lock);
	if (enabled != msix->enabled || masked != msix->masked) {
		atomic_store(&msix->enabled, enabled);
		msix->masked = masked;
		update_all(msix);
	}
	pthread_mutex_unlock(&msix->lock);
}

static void clear(struct vector *vector)
{
	uint64_t count;

	memset(vector->entry, 0, sizeof(vector->entry));
	vector->entry[12] = MSIX_ENTRY_MASKED;
	/* Nothing to read is the usual case. */
	if (read(vector->eventfd, &count, sizeof(count)) < 0)
		return;
}

void msix_reset(struct pci_function *function)
{
	struct msix *msix = function->msix;

	msix_control_written(function);
	pthread_mutex_lock(&msix->lock);
	drop_routes(msix);
	for (unsigned i = 0; i < msix->count; i++)
		clear(&msix->vectors[i]);
	pthread_mutex_unlock(&msix->lock);
}

bool msix_enabled(const struct pci_function *function)
{
	return function->msix &&
	       atomic_load_explicit(&function->msix->enabled, memory_order_acquire);
}

unsigned msix_vectors(const struct pci_function *function)
{
	return function->msix ? function->msix->count : 0;
}

int msix_eventfd(const struct pci_function *function, unsigned vector)
{
	return vector < msix_vectors(function) ? function->msix->vectors[vector].eventfd : -1;
}

void msix_notify(struct pci_function *function, unsigned vector)
{
	static const uint64_t one = 1;
	int fd = msix_eventfd(function, vector);

	/* It can only fail when the counter is full: then the interrupt is pending anyway. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

void msix_save(struct pci_function *function, struct state_writer *writer)
{
	struct msix *msix = function->msix;

	pthread_mutex_lock(&msix->lock);
	state_put_u16(writer, (uint16_t)msix->count);
	for (unsigned i = 0; i < msix->count; i++) {
		state_put_bytes(writer, msix->vectors[i].entry, MSIX_ENTRY_LENGTH);
		state_put_bool(writer, pending(&msix->vectors[i]));
	}
	pthread_mutex_unlock(&msix->lock);
}

static void restore_vector(struct vector *vector, struct state_reader *reader)
{
	static const uint64_t one = 1;

	state_get_bytes(reader, vector->entry, MSIX_ENTRY_LENGTH);
	vector->entry[0] &= (uint8_t)~3U;
	vector->entry[12] &= MSIX_ENTRY_MASKED;
	memset(vector->entry + 13, 0, 3);
	if (state_get_bool(reader) && write(vector->eventfd, &one, sizeof(one)) < 0)
		return;
}

int msix_restore(struct pci_function *function, struct state_reader *reader)
{
	struct msix *msix = function->msix;

	if (state_get_u16(reader) != msix->count)
		return -EINVAL;
	msix_reset(function);
	pthread_mutex_lock(&msix->lock);
	for (unsigned i = 0; i < msix->count; i++)
		restore_vector(&msix->vectors[i], reader);
	update_all(msix);
	pthread_mutex_unlock(&msix->lock);
	return 0;
}
