/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_coop_host.h"

#include "base/checked.h"

#include <duet/coop.h>
#include <errno.h>
#include <string.h>

#define FIRST_NAME 1000 /* of counters; smaller ones are none */

static struct fake_coop_host *fake_of(struct virtio_coop_host *host)
{
	return container_of(host, struct fake_coop_host, host);
}

static void must(struct fake_coop_host *fake, bool kept, const char *promise)
{
	if (!kept && !fake->broken)
		fake->broken = promise;
}

static bool is_current(struct virtio_coop_host *host, unsigned vcpu)
{
	return fake_of(host)->current == vcpu;
}

static int yield(struct virtio_coop_host *host, unsigned waiter, unsigned holder, uint64_t patience)
{
	struct fake_coop_host *fake = fake_of(host);
	const uint64_t last[] = {waiter, holder, patience};

	must(fake, is_current(host, waiter) && holder < FAKE_COOP_VCPUS && holder != waiter,
		"a yield to who it cannot be");
	memcpy(fake->last, last, sizeof(last));
	return fake->fails;
}

static int counter_open(
	struct virtio_coop_host *host, unsigned vcpu, unsigned counter, uint64_t *name)
{
	struct fake_coop_host *fake = fake_of(host);

	must(fake, is_current(host, vcpu) && counter < DUET_COOP_COUNTERS,
		"a counter that is none");
	must(fake, fake->open < FAKE_COOP_COUNTERS, "more counters than there may be");
	*name = FIRST_NAME + counter + 100 * (uint64_t)++fake->opened;
	fake->open += !fake->fails;
	return fake->fails;
}

static int counter_read(
	struct virtio_coop_host *host, unsigned vcpu, uint64_t name, uint64_t values[3])
{
	struct fake_coop_host *fake = fake_of(host);

	must(fake, is_current(host, vcpu), "a counter read for another vCPU");
	values[0] = fake->count + name;
	values[1] = vcpu;
	return name < FIRST_NAME ? -EINVAL : fake->fails;
}

/* At rest by any thread; those of saved state may have any name. */
static void counter_close(struct virtio_coop_host *host, unsigned vcpu, uint64_t name)
{
	(void)vcpu;
	(void)name;
	fake_of(host)->open -= fake_of(host)->open != 0;
}

static const struct virtio_coop_host_ops host_ops = {
	.is_current = is_current,
	.yield = yield,
	.counter_open = counter_open,
	.counter_read = counter_read,
	.counter_close = counter_close,
};

void fake_coop_host_init(struct fake_coop_host *fake)
{
	*fake = (struct fake_coop_host){.host.ops = &host_ops};
}
