/* SPDX-License-Identifier: Apache-2.0 */
/* Small things all models use. */
#ifndef DUET_VIRTIO_DEVICES_COMMON_H
#define DUET_VIRTIO_DEVICES_COMMON_H

#include "base/bytes.h"
#include "base/checked.h"
#include "virtio/virtio.h"

#include <stdatomic.h>

/* A counter with one writer, the I/O loop: no locked instruction is needed. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
		memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* An access to a configuration space that is held as @length bytes. */
static inline uint64_t config_load(
	const uint8_t *bytes, size_t length, unsigned offset, unsigned size)
{
	return range_within(offset, size, length) ? load_le(bytes + offset, size) : 0;
}

#endif
