/* SPDX-License-Identifier: Apache-2.0 */
/* The cooperation device: life, configuration, saved state. */
#include "virtio/devices/coop_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CLASS_OTHER  0xff0000
#define STATE_FORMAT 1

#define AT(field) offsetof(struct duet_coop_config, field)

int32_t coop_status(int ret)
{
	switch (ret) {
	case 0:
		return 0;
	case -EPERM:
	case -EACCES:
		return -DUET_COOP_EPERM;
	case -EAGAIN:
	case -EBUSY:
		return -DUET_COOP_EAGAIN;
	case -ENOMEM:
		return -DUET_COOP_ENOMEM;
	case -EFAULT:
		return -DUET_COOP_EFAULT;
	case -EINVAL:
		return -DUET_COOP_EINVAL;
	case -ENOSPC:
	case -EMFILE:
	case -ENFILE:
		return -DUET_COOP_ENOSPC;
	case -ENOTSUP:
	case -ENOENT:
	case -ENODEV:
		return -DUET_COOP_ENOTSUP;
	default:
		return -DUET_COOP_EIO;
	}
}

static uint64_t features(struct virtio_device *device)
{
	return coop_of(device)->offered;
}

/* ---- configuration and version ---- */

static bool is_spoken(uint32_t version)
{
	return version >= DUET_COOP_VERSION_OLDEST && version <= DUET_COOP_VERSION;
}

/* What both sides have agreed on: from when the driver has said its version, and again when it is
 * all set, for a driver that said it before its features. That is the I/O thread's, while the
 * driver may say it at this moment: whoever was overtaken does it once more. */
static void agree(struct coop *coop)
{
	uint32_t version;

	do {
		uint64_t usable = coop->virtio.negotiated & coop->offered;

		version = atomic_load(&coop->driver_version);
		if (is_spoken(version))
			usable |= VIRTIO_FEATURE(COOP_AGREED);
		atomic_store(&coop->usable, usable);
	} while (atomic_load(&coop->driver_version) != version);
}

static uint64_t config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
	const struct coop *coop = coop_of(device);
	uint8_t config[sizeof(struct duet_coop_config)] = {0};

	store_le32(config + AT(version), DUET_COOP_VERSION);
	store_le32(config + AT(version_oldest), DUET_COOP_VERSION_OLDEST);
	store_le32(config + AT(driver_version), atomic_load(&coop->driver_version));
	store_le32(config + AT(vcpus), coop->vcpu_count);
	store_le32(config + AT(page_size), DUET_COOP_PAGE_SIZE);
	config[AT(call_bar)] = VIRTIO_CALL_BAR;
	return config_load(config, sizeof(config), offset, size);
}

static void config_write(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	struct coop *coop = coop_of(device);

	if (offset != AT(driver_version) || size != sizeof(uint32_t))
		return;
	atomic_store(&coop->driver_version, (uint32_t)value);
	agree(coop);
}

/* ---- time ---- */

static void publish_away(struct coop *coop)
{
	if (!(coop->offered >> DUET_COOP_F_TIME & 1))
		return;
	for (unsigned i = 0; i < coop->vcpu_count; i++)
		__atomic_store_n(&coop->pages[i].host.away_ns, atomic_load(&coop->away_ns),
			__ATOMIC_RELAXED);
}

void virtio_coop_stopped(struct device *device, uint64_t clock_ns)
{
	struct coop *coop = coop_model_of(device);

	if (coop->stopped)
		return;
	coop->stopped = true;
	coop->stopped_at = clock_ns;
}

bool virtio_coop_stands(struct device *device)
{
	return coop_model_of(device)->stopped;
}

void virtio_coop_goes_on(struct device *device, uint64_t clock_ns)
{
	struct coop *coop = coop_model_of(device);

	/* A machine that was reset meanwhile has a new clock. */
	if (coop->stopped && clock_ns > coop->stopped_at)
		atomic_fetch_add(&coop->away_ns, clock_ns - coop->stopped_at);
	coop->stopped = false;
	publish_away(coop);
}

uint64_t virtio_coop_away(struct device *device)
{
	return atomic_load(&coop_model_of(device)->away_ns);
}

/* ---- life ---- */

static enum virtio_progress kick(struct virtio_device *device, struct virtqueue *queue)
{
	struct coop *coop = coop_of(device);

	if (queue->index == DUET_COOP_REQUESTS)
		return coop_requests(coop, queue);
	coop_tell_wishes(coop);
	return VIRTIO_DONE;
}

static int activate(struct virtio_device *device)
{
	struct coop *coop = coop_of(device);

	agree(coop);
	coop->active = true;
	return 0;
}

static void quiesce(struct virtio_device *device)
{
	coop_of(device)->active = false;
}

/* By giving them back, which a guest without a driver never has. Else word by word: vCPUs may go on
 * writing to them meanwhile. */
static void clear_pages(struct coop *coop)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)coop->pages;

	if (madvise(coop->pages, coop->virtio.shared_length, MADV_REMOVE) == 0)
		return;
	for (uint64_t i = 0; i < coop->virtio.shared_length / sizeof(*words); i++)
		atomic_store_explicit(&words[i], 0, memory_order_relaxed);
}

/* Counters that vCPUs have open are theirs to close: see coop_private.h. */
static void reset(struct virtio_device *device)
{
	struct coop *coop = coop_of(device);

	atomic_store(&coop->usable, 0);
	atomic_store(&coop->driver_version, 0);
	atomic_fetch_add(&coop->epoch, 1);
	clear_pages(coop);
	if (atomic_load(&coop->away_ns))
		publish_away(coop);
	coop_runs_forget(coop);
}

static void save(struct virtio_device *device, struct state_writer *writer)
{
	struct coop *coop = coop_of(device);

	state_put_u8(writer, STATE_FORMAT);
	state_put_u32(writer, coop->vcpu_count);
	state_put_u32(writer, atomic_load(&coop->driver_version));
	state_put_u64(writer, atomic_load(&coop->away_ns));
	state_put_bool(writer, coop->stopped);
	state_put_u64(writer, coop->stopped_at);
	state_put_bytes(writer, coop->pages, coop->virtio.shared_length);
	coop_counters_save(coop, writer);
	coop_runs_save(coop, writer);
}

static int restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct coop *coop = coop_of(device);
	uint8_t format = state_get_u8(reader);
	uint32_t vcpus = state_get_u32(reader);

	if (format != STATE_FORMAT)
		return error_set(err, EINVAL, "%s: saved by another duet, in format %u, not %d",
			device->name, format, STATE_FORMAT);
	if (vcpus != coop->vcpu_count)
		return error_set(err, EINVAL, "%s: saved with %u vCPUs, this machine has %u",
			device->name, vcpus, coop->vcpu_count);
	atomic_store(&coop->driver_version, state_get_u32(reader));
	atomic_store(&coop->away_ns, state_get_u64(reader));
	coop->stopped = state_get_bool(reader);
	coop->stopped_at = state_get_u64(reader);
	state_get_bytes(reader, coop->pages, coop->virtio.shared_length);
	if (!coop_counters_restore(coop, reader) || !coop_runs_restore(coop, reader))
		return error_set(err, EINVAL, "%s: saved state contradicts itself", device->name);
	publish_away(coop);
	/* Before activate(): a vCPU may call with its first instruction. */
	agree(coop);
	return 0;
}

static const char *const function_names[COOP_FUNCTIONS] = {
	[DUET_COOP_NOP] = "nop",
	[DUET_COOP_YIELD] = "yield",
	[DUET_COOP_COPY] = "copy",
	[DUET_COOP_COUNTER_OPEN] = "counter_open",
	[DUET_COOP_COUNTER_READ] = "counter_read",
	[DUET_COOP_COUNTER_CLOSE] = "counter_close",
	[DUET_COOP_SHARE] = "share",
	[DUET_COOP_LOCALITY] = "locality",
	[DUET_COOP_BATCH] = "batch",
};

static void stats(struct virtio_device *device, struct stats_sink *sink)
{
	struct coop *coop = coop_of(device);
	uint64_t refused = 0;

	for (unsigned function = 0; function < COOP_FUNCTIONS; function++) {
		uint64_t calls = 0, requests = counter_read(&coop->requests[function]);

		for (unsigned i = 0; i < coop->vcpu_count; i++)
			calls += counter_read(&coop->vcpus[i].calls[function]);
		if (calls)
			sink->count(sink, "calls", function_names[function], calls);
		if (requests)
			sink->count(sink, "requests", function_names[function], requests);
	}
	for (unsigned i = 0; i < coop->vcpu_count; i++)
		refused += counter_read(&coop->vcpus[i].refused);
	sink->count(sink, "calls", "refused", refused);
	sink->count(sink, "requests", "batches", counter_read(&coop->batches));
	sink->count(sink, "requests", "malformed", counter_read(&coop->malformed));
	coop_runs_tell(coop, sink);
	sink->count(sink, NULL, "away_ns", atomic_load(&coop->away_ns));
}

static void coop_free(struct virtio_device *device)
{
	struct coop *coop = coop_of(device);

	if (device->io)
		loop_unpost(device->io, &coop->wishes);
	coop_counters_drop(coop);
	coop_runs_forget(coop);
	pthread_mutex_destroy(&coop->runs_lock);
	munmap(coop->pages, coop->virtio.shared_length);
	free(coop->vcpus);
	free(coop);
}

static const struct virtio_ops coop_ops = {
	.type = "duet-coop",
	.id = DUET_COOP_DEVICE_ID,
	.class_code = CLASS_OTHER,
	.features = features,
	.reset = reset,
	.activate = activate,
	.kick = kick,
	.quiesce = quiesce,
	.config_read = config_read,
	.config_write = config_write,
	.save = save,
	.restore = restore,
	.stats = stats,
	.call = coop_call,
	.free = coop_free,
};

static uint64_t offered(const struct virtio_coop_options *options)
{
	const struct virtio_coop_host_ops *ops = options->host->ops;
	uint64_t bits = 0;

	if (options->hints)
		bits |= VIRTIO_FEATURE(DUET_COOP_F_HINTS) | VIRTIO_FEATURE(DUET_COOP_F_WISHES);
	if (options->time)
		bits |= VIRTIO_FEATURE(DUET_COOP_F_TIME);
	if (options->yield && ops->yield)
		bits |= VIRTIO_FEATURE(DUET_COOP_F_YIELD);
	if (options->copy)
		bits |= VIRTIO_FEATURE(DUET_COOP_F_COPY);
	if (options->counters && ops->counter_open)
		bits |= VIRTIO_FEATURE(DUET_COOP_F_COUNTERS);
	return bits;
}

/* False: no memory. */
static bool init(struct coop *coop, const struct virtio_coop_options *options)
{
	size_t length = options->vcpus * sizeof(struct duet_coop_page);
	void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return false;
	coop->pages = pages;
	coop->host = options->host;
	coop->vcpu_count = options->vcpus;
	coop->offered = offered(options);
	pthread_mutex_init(&coop->runs_lock, NULL);
	coop->virtio.ops = &coop_ops;
	coop->virtio.queue_count = DUET_COOP_QUEUES;
	coop->virtio.queue_size_max = COOP_QUEUE_SIZE;
	coop->virtio.config_size = sizeof(struct duet_coop_config);
	coop->virtio.ring_features = options->packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0;
	coop->virtio.shared = pages;
	coop->virtio.shared_length = length;
	coop->virtio.shared_id = DUET_COOP_SHM_ID;
	return true;
}

int virtio_coop_new(struct device **device, const char *name,
	const struct virtio_coop_options *options, struct error *err)
{
	struct coop *coop = calloc(1, sizeof(*coop));
	const size_t room = options->vcpus * sizeof(*coop->vcpus);

	if (coop)
		coop->vcpus = aligned_alloc(_Alignof(struct coop_vcpu), room);
	if (!coop || !coop->vcpus || !init(coop, options)) {
		if (coop)
			free(coop->vcpus);
		free(coop);
		return error_errno(err, ENOMEM, "%s", name);
	}
	memset(coop->vcpus, 0, room);
	coop_wishes_init(coop);
	return virtio_pci_new(device, &coop->virtio, name, err);
}
