/* SPDX-License-Identifier: Apache-2.0 */
/* From descriptors to segments of host memory. */
#include "virtio/queue/ring.h"

#include "base/checked.h"

#include <errno.h>

void chain_start(struct virtqueue_chain *chain)
{
	chain->entries = 1;
	chain->readable = chain->writable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
}

int chain_add(struct virtqueue *queue, struct virtqueue_chain *chain, const struct descriptor *desc)
{
	unsigned count = chain->readable + chain->writable;
	bool writable = desc->flags & DESC_WRITE;
	void *host;

	if (!writable && chain->writable)
		return virtqueue_break(queue, "readable buffer behind a writable one");
	if (desc->length == 0)
		return 0;
	if (count == chain->capacity)
		return virtqueue_break(queue, "chain with too many buffers");
	host = memory_begin(queue->memory, GPA(desc->address), desc->length);
	if (!host)
		return virtqueue_break(queue, "buffer outside memory");
	chain->segments[count] = (struct iovec){host, desc->length};
	if (writable) {
		chain->writable++;
		chain->writable_bytes += desc->length;
	} else {
		chain->readable++;
		chain->readable_bytes += desc->length;
	}
	if (chain->readable_bytes + chain->writable_bytes > UINT32_MAX)
		return virtqueue_break(queue, "chain longer than 4 GiB");
	return 0;
}

/* 2.7.5.3: linked like the main table. @steps bounds a loop in the links. */
static int add_split_table(struct virtqueue *queue, struct virtqueue_chain *chain,
	const uint8_t *table, uint32_t count)
{
	uint32_t at = 0;

	for (unsigned steps = 0; steps < VIRTQUEUE_SIZE_MAX; steps++) {
		struct descriptor desc = read_split_descriptor(table + (size_t)at * DESC_SIZE);
		int ret;

		if (desc.flags & DESC_INDIRECT)
			return virtqueue_break(queue, "indirect table within an indirect table");
		ret = chain_add(queue, chain, &desc);
		if (ret < 0 || !(desc.flags & DESC_NEXT))
			return ret;
		at = desc.link;
		if (at >= count)
			return virtqueue_break(queue, "link out of an indirect table");
	}
	return virtqueue_break(queue, "indirect chain that does not end");
}

/* 2.8.7: in order, as many as there are. */
static int add_packed_table(struct virtqueue *queue, struct virtqueue_chain *chain,
	const uint8_t *table, uint32_t count)
{
	if (count > VIRTQUEUE_SIZE_MAX)
		return virtqueue_break(queue, "indirect table longer than any ring");
	for (uint32_t i = 0; i < count; i++) {
		struct descriptor desc = read_packed_descriptor(table + (size_t)i * DESC_SIZE);
		int ret;

		if (desc.flags & DESC_INDIRECT)
			return virtqueue_break(queue, "indirect table within an indirect table");
		ret = chain_add(queue, chain, &desc);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int chain_add_indirect(
	struct virtqueue *queue, struct virtqueue_chain *chain, const struct descriptor *desc)
{
	uint32_t count = desc->length / DESC_SIZE;
	const uint8_t *table;

	if (!queue->setup.indirect)
		return virtqueue_break(queue, "indirect table without the feature");
	if (desc->flags & DESC_NEXT)
		return virtqueue_break(queue, "indirect table in the middle of a chain");
	if (count == 0 || desc->length % DESC_SIZE)
		return virtqueue_break(queue, "indirect table of a wrong length");
	table = memory_begin(queue->memory, GPA(desc->address), desc->length);
	if (!table)
		return virtqueue_break(queue, "indirect table outside memory");
	if (queue->setup.packed)
		return add_packed_table(queue, chain, table, count);
	return add_split_table(queue, chain, table, count);
}
