// SPDX-License-Identifier: GPL-2.0-only
/*
 * duet.ko: the guest's side of duet's cooperation device. Finds the device, agrees on a version of
 * the contract, maps the shared pages, and starts the parts. Whatever the device says is checked;
 * a device that makes no sense is left alone.
 */
#define pr_fmt(text) KBUILD_MODNAME ": " text

#include <linux/io.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/reboot.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/virtio_config.h>

#include "core.h"

static bool selftest;
module_param(selftest, bool, 0444);
MODULE_PARM_DESC(selftest, "test the device and all parts at load; a failure fails the load");

/* One row for each part; started in this order, stopped in the other. */
static const struct duet_part *const parts[] = {
	&duet_hints,
	&duet_wishes,
	&duet_counters,
	&duet_timers,
	&duet_locks,
	&duet_tcp,
	&duet_heap,
	&duet_bench,
};

/* Of the machine's one device. */
static struct duet *the_duet;
static DEFINE_MUTEX(the_lock);

struct duet *duet_get(void)
{
	struct duet *duet;

	mutex_lock(&the_lock);
	duet = the_duet;
	if (duet && try_module_get(THIS_MODULE))
		WRITE_ONCE(duet->users, duet->users + 1);
	else
		duet = NULL;
	mutex_unlock(&the_lock);
	return duet;
}

void duet_put(struct duet *duet)
{
	mutex_lock(&the_lock);
	WRITE_ONCE(duet->users, duet->users - 1);
	if (duet->users == 0)
		wake_up_all(&duet->idle);
	mutex_unlock(&the_lock);
	module_put(THIS_MODULE);
}

static bool publish(struct duet *duet)
{
	bool first;

	mutex_lock(&the_lock);
	first = !the_duet;
	if (first)
		the_duet = duet;
	mutex_unlock(&the_lock);
	return first;
}

/* Nobody finds it any more, and those who have are waited for: a device that is pulled out has
 * users, the module that is unloaded has none. */
static void withdraw(struct duet *duet)
{
	bool used;

	mutex_lock(&the_lock);
	the_duet = NULL;
	used = duet->users != 0;
	mutex_unlock(&the_lock);
	if (used)
		dev_warn(&duet->vdev->dev, "removed while in use: waiting for its users to close it\n");
	/* The condition takes no mutex: what it is asked in may not block. */
	wait_event(duet->idle, READ_ONCE(duet->users) == 0);
	/* The last user still holds the lock while it wakes who waits here. */
	mutex_lock(&the_lock);
	mutex_unlock(&the_lock);
}

/* The device's configuration */

static u32 config32(struct virtio_device *vdev, unsigned int offset)
{
	return virtio_cread32(vdev, offset);
}
#define CONFIG(vdev, field) config32(vdev, offsetof(struct duet_coop_config, field))

/* The newest version of the contract that both speak. */
static int agree(struct virtio_device *vdev, u32 *version)
{
	u32 newest = CONFIG(vdev, version), oldest = CONFIG(vdev, version_oldest);

	*version = min_t(u32, newest, DUET_COOP_VERSION);
	if (oldest <= newest && *version >= oldest && *version >= DUET_COOP_VERSION_OLDEST) {
		virtio_cwrite32(vdev, offsetof(struct duet_coop_config, driver_version), *version);
		return 0;
	}
	dev_err(&vdev->dev,
		"the device speaks versions %u to %u, this module %u to %u: left alone; update the older\n",
		oldest, newest, DUET_COOP_VERSION_OLDEST, DUET_COOP_VERSION);
	return -ENODEV;
}

static int read_config(struct duet *duet)
{
	struct virtio_device *vdev = duet->vdev;
	int error = agree(vdev, &duet->version);

	if (error)
		return error;
	duet->vcpus = CONFIG(vdev, vcpus);
	duet->call_bar = virtio_cread8(vdev, offsetof(struct duet_coop_config, call_bar));
	if (CONFIG(vdev, page_size) == DUET_COOP_PAGE_SIZE && duet->vcpus && duet->vcpus <= 65536 &&
	    duet->call_bar < PCI_STD_NUM_BARS)
		return 0;
	dev_err(&vdev->dev, "%u pages of %u bytes, calls by BAR %u: not a configuration\n",
		duet->vcpus, CONFIG(vdev, page_size), duet->call_bar);
	return -EPROTO;
}

/* Ports of fast calls */

static int find_ports(struct duet *duet)
{
	struct device *parent = duet->vdev->dev.parent;

	if (!parent || !dev_is_pci(parent))
		return -ENODEV;
	duet->pci = to_pci_dev(parent);
	if (!(pci_resource_flags(duet->pci, duet->call_bar) & IORESOURCE_IO) ||
	    pci_resource_len(duet->pci, duet->call_bar) < duet->vcpus) {
		dev_err(&duet->vdev->dev, "BAR %u has no port for each of %u vCPUs\n",
			duet->call_bar, duet->vcpus);
		return -EPROTO;
	}
	duet->call_port = pci_resource_start(duet->pci, duet->call_bar);
	return pci_request_region(duet->pci, duet->call_bar, KBUILD_MODNAME);
}

/* Shared pages */

/* Hints are written often: said when this mapping makes each write slow. */
static void check_cached(struct duet *duet)
{
	unsigned int level;
	pte_t *entry = lookup_address((unsigned long)duet->pages, &level);

	if (entry && (pte_val(*entry) & (_PAGE_PCD | _PAGE_PWT)))
		dev_notice(&duet->vdev->dev, "the shared pages are not cached (see MTRRs and PAT)\n");
}

static int map_pages(struct duet *duet)
{
	struct virtio_shm_region region;

	if (!virtio_get_shm_region(duet->vdev, &region, DUET_COOP_SHM_ID) ||
	    region.len < (u64)duet->vcpus * DUET_COOP_PAGE_SIZE || !PAGE_ALIGNED(region.addr)) {
		dev_err(&duet->vdev->dev, "no shared memory with a page for each of %u vCPUs\n",
			duet->vcpus);
		return -EPROTO;
	}
	duet->pages = memremap(region.addr, (size_t)duet->vcpus * DUET_COOP_PAGE_SIZE, MEMREMAP_WB);
	if (!duet->pages)
		return -ENOMEM;
	check_cached(duet);
	return 0;
}

/* Queues */

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static int find_queues(struct duet *duet, struct virtqueue **queues)
{
	struct virtqueue_info described[DUET_COOP_QUEUES] = {
		[DUET_COOP_REQUESTS] = {"requests", duet_requests_done},
		[DUET_COOP_EVENTS] = {"events", duet_events_done},
	};

	return virtio_find_vqs(duet->vdev, DUET_COOP_QUEUES, queues, described, NULL);
}
#else
static int find_queues(struct duet *duet, struct virtqueue **queues)
{
	vq_callback_t *callbacks[] = {duet_requests_done, duet_events_done};
	static const char *const names[] = {"requests", "events"};

	return virtio_find_vqs(duet->vdev, DUET_COOP_QUEUES, queues, callbacks, names, NULL);
}
#endif

static int open_queues(struct duet *duet)
{
	struct virtqueue *queues[DUET_COOP_QUEUES];
	unsigned long flags;
	int error = find_queues(duet, queues);

	if (error)
		return error;
	duet->requests = queues[DUET_COOP_REQUESTS];
	duet->events = queues[DUET_COOP_EVENTS];
	virtio_device_ready(duet->vdev);
	duet_events_fill(duet);
	spin_lock_irqsave(&duet->lock, flags);
	WRITE_ONCE(duet->gone, false);
	spin_unlock_irqrestore(&duet->lock, flags);
	return 0;
}

/* The device asks and writes nothing more, and who waits for it gets -ENODEV. */
static void quiet(struct duet *duet)
{
	unsigned long flags;

	if (!duet->requests)
		return; /* it did not come back from a sleep */
	spin_lock_irqsave(&duet->lock, flags);
	WRITE_ONCE(duet->gone, true);
	spin_unlock_irqrestore(&duet->lock, flags);
	virtio_reset_device(duet->vdev);
	duet_requests_fail(duet);
	duet_events_drop(duet);
}

static void close_queues(struct duet *duet)
{
	quiet(duet);
	if (duet->requests)
		duet->vdev->config->del_vqs(duet->vdev);
	duet->requests = NULL;
	duet->events = NULL;
}

/* Parts */

static void stop_parts(struct duet *duet)
{
	int i;

	for (i = ARRAY_SIZE(parts) - 1; i >= 0; i--)
		if (duet->started >> i & 1)
			parts[i]->stop(duet);
	duet->started = 0;
}

static int start_part(struct duet *duet, unsigned int i)
{
	int error;

	if (!duet_has(duet, parts[i]->feature))
		return 0;
	error = parts[i]->start(duet);
	if (!error)
		duet->started |= 1ULL << i;
	else if (error != -EOPNOTSUPP)
		dev_err(&duet->vdev->dev, "%s: cannot start: %d\n", parts[i]->name, error);
	return error == -EOPNOTSUPP ? 0 : error;
}

static int test_part(struct duet *duet, unsigned int i)
{
	int error = 0;

	if (!(duet->started >> i & 1) || !parts[i]->selftest)
		return 0;
	error = parts[i]->selftest(duet);
	dev_info(&duet->vdev->dev, "selftest of %s: %s\n", parts[i]->name, error ? "failed" : "passed");
	return error;
}

static int test_all(struct duet *duet)
{
	unsigned int i;
	int error = duet_selftest(duet);

	dev_info(&duet->vdev->dev, "selftest of the channel: %s\n", error ? "failed" : "passed");
	for (i = 0; i < ARRAY_SIZE(parts) && !error; i++)
		error = test_part(duet, i);
	return error;
}

static int start_parts(struct duet *duet)
{
	unsigned int i;
	int error = 0;

	for (i = 0; i < ARRAY_SIZE(parts) && !error; i++)
		error = start_part(duet, i);
	if (!error && selftest)
		error = test_all(duet);
	return error;
}

/* The driver */

static void release(struct duet *duet)
{
	if (duet->pages)
		memunmap(duet->pages);
	if (duet->pci)
		pci_release_region(duet->pci, duet->call_bar);
	kfree(duet);
}

static int set_up(struct duet *duet)
{
	int error = read_config(duet);

	if (!error)
		error = find_ports(duet);
	if (error) {
		duet->pci = NULL; /* its ports are not ours */
		return error;
	}
	error = map_pages(duet);
	return error ? error : open_queues(duet);
}

static struct duet *duet_new(struct virtio_device *vdev)
{
	struct duet *duet = kzalloc(sizeof(*duet), GFP_KERNEL);
	unsigned int feature;

	if (!duet)
		return NULL;
	duet->vdev = vdev;
	duet->gone = true;
	for (feature = DUET_COOP_F_HINTS; feature <= DUET_COOP_F_WISHES; feature++)
		if (virtio_has_feature(vdev, feature))
			duet->features |= 1ULL << feature;
	spin_lock_init(&duet->lock);
	init_waitqueue_head(&duet->room);
	init_waitqueue_head(&duet->idle);
	vdev->priv = duet;
	return duet;
}

static int go_on_air(struct duet *duet)
{
	int error;

	if (!publish(duet)) {
		dev_err(&duet->vdev->dev, "a second cooperation device: left alone\n");
		return -EBUSY;
	}
	error = start_parts(duet);
	if (!error)
		return 0;
	withdraw(duet);
	stop_parts(duet);
	return error;
}

static int duet_probe(struct virtio_device *vdev)
{
	struct duet *duet = duet_new(vdev);
	int error;

	if (!duet)
		return -ENOMEM;
	error = set_up(duet);
	if (error) {
		release(duet);
		return error;
	}
	error = go_on_air(duet);
	if (error) {
		close_queues(duet);
		release(duet);
		return error;
	}
	dev_info(&vdev->dev, "version %u, %u vCPUs, features %#llx\n", duet->version, duet->vcpus,
		 duet->features);
	return 0;
}

static void duet_remove(struct virtio_device *vdev)
{
	struct duet *duet = vdev->priv;

	withdraw(duet);
	stop_parts(duet);
	close_queues(duet);
	release(duet);
}

#ifdef CONFIG_PM_SLEEP
static int duet_freeze(struct virtio_device *vdev)
{
	close_queues(vdev->priv);
	return 0;
}

/* Parts and mappings have stayed: the device that is there now must be the same. */
static int duet_restore(struct virtio_device *vdev)
{
	struct duet *duet = vdev->priv;
	u32 vcpus = duet->vcpus, bar = duet->call_bar;
	int error = read_config(duet);

	if (!error && (duet->vcpus != vcpus || duet->call_bar != bar))
		error = -EPROTO;
	duet->vcpus = vcpus;
	duet->call_bar = bar;
	return error ? error : open_queues(duet);
}
#endif

/* Before another kernel starts in this memory (kexec): the device must not write to it any more. */
static int on_reboot(struct notifier_block *block, unsigned long event, void *data)
{
	mutex_lock(&the_lock);
	if (the_duet)
		quiet(the_duet);
	mutex_unlock(&the_lock);
	return NOTIFY_DONE;
}

static struct notifier_block reboot = {.notifier_call = on_reboot};

static const struct virtio_device_id ids[] = {
	{DUET_COOP_DEVICE_ID, VIRTIO_DEV_ANY_ID},
	{},
};
MODULE_DEVICE_TABLE(virtio, ids);

static const unsigned int features[] = {
	DUET_COOP_F_HINTS, DUET_COOP_F_TIME,     DUET_COOP_F_YIELD,
	DUET_COOP_F_COPY,  DUET_COOP_F_COUNTERS, DUET_COOP_F_WISHES,
};

static struct virtio_driver driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	/* Away with the module or the whole device alone: what is open holds the module. */
	.driver.suppress_bind_attrs = true,
	.id_table = ids,
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.probe = duet_probe,
	.remove = duet_remove,
#ifdef CONFIG_PM_SLEEP
	.freeze = duet_freeze,
	.restore = duet_restore,
#endif
};

/* A driver's probe that fails does not fail its load; a self-test's must. */
static int tested(void)
{
	struct duet *duet = selftest ? duet_get() : NULL;

	if (duet)
		duet_put(duet);
	return selftest && !duet ? -ENODEV : 0;
}

static int __init duet_init(void)
{
	int error = register_virtio_driver(&driver);

	if (error)
		return error;
	error = tested();
	if (!error)
		error = register_reboot_notifier(&reboot);
	if (error) {
		unregister_virtio_driver(&driver);
		pr_err("not loaded: %s\n", error == -ENODEV ? "no device passed its self-test" : "see above");
	}
	return error;
}

static void __exit duet_exit(void)
{
	unregister_reboot_notifier(&reboot);
	unregister_virtio_driver(&driver);
}

module_init(duet_init);
module_exit(duet_exit);
MODULE_DESCRIPTION("Cooperation with the duet virtual machine monitor");
MODULE_LICENSE("GPL");
MODULE_VERSION(DUET_MODULE_VERSION);
