/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/merge.h"

#include "base/cleanup.h"
#include "snapshot/read.h"
#include "snapshot/write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The oldest first. */
struct chain {
	struct snapshot links[SNAPSHOT_CHAIN_MAX];
	const char *const *names;
	unsigned count;
};

static int read_chunk(const struct snapshot *link, const char *name, uint64_t chunk, uint8_t *bytes,
	struct error *err)
{
	int ret = pages_read(&link->pages, chunk, bytes, link->memory_fd);

	if (ret == -EBADMSG || ret == -ENODATA)
		return error_set(err, -ret,
			"%s: its memory was changed or cut short, between %llu and %llu MiB; it "
			"cannot be "
			"used any more",
			name, (unsigned long long)(chunk * CHUNK_BYTES >> 20),
			(unsigned long long)((chunk + 1) * CHUNK_BYTES >> 20));
	return ret < 0 ? error_errno(err, -ret, "%s", name) : 0;
}

/* Where changes were copied over a whole memory, the rest of it is in no table of pages. */
static int check_links(const struct chain *chain, struct error *err)
{
	if (snapshot_is_diff(&chain->links[0].head))
		return error_set(err, EINVAL,
			"%s: only its changes are known; begin with the snapshot that they are to",
			chain->names[0]);
	for (unsigned i = 1; i < chain->count; i++) {
		const struct snapshot_head *head = &chain->links[i].head,
					   *before = &chain->links[i - 1].head;

		if (!snapshot_id_same(&head->parent, &before->id) ||
			head->regions != before->regions ||
			memcmp(head->region, before->region, sizeof(head->region)) != 0)
			return error_set(err, EINVAL,
				"%s: holds no changes to %s; name snapshots in the order in which "
				"they "
				"were made, without gaps",
				chain->names[i], chain->names[i - 1]);
	}
	return 0;
}

static int open_chain(
	struct chain *chain, const char *const *directories, unsigned count, struct error *err)
{
	int ret = 0;

	chain->names = directories;
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		const struct snapshot_place place = {.directory = directories[i]};

		chain->count++;
		ret = snapshot_open(&chain->links[i], &place, i == 0, err);
	}
	return ret < 0 ? ret : check_links(chain, err);
}

static void close_chain(struct chain *chain)
{
	for (unsigned i = 0; i < chain->count; i++)
		snapshot_close(&chain->links[i]);
	free(chain);
}

/* What a later one holds lies over what an earlier one does. */
static int load_chunk(const struct chain *chain, uint64_t chunk, uint8_t *bytes, struct error *err)
{
	int ret = 0;

	memset(bytes, 0, CHUNK_BYTES);
	for (unsigned i = 0; ret == 0 && i < chain->count; i++)
		ret = read_chunk(&chain->links[i], chain->names[i], chunk, bytes, err);
	return ret;
}

static int merge_chunk(const struct chain *chain, struct pages *pages, uint64_t chunk,
	uint8_t *bytes, int fd, struct error *err)
{
	int ret = load_chunk(chain, chunk, bytes, err);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < pages_of_chunk(pages, chunk); i++)
		if (!memory_page_is_zero(bytes + i * MEMORY_PAGE))
			pages_keep(pages, chunk * CHUNK_PAGES + i);
	ret = pages_write(pages, chunk, bytes, fd);
	return ret < 0 ? error_errno(err, -ret, "the new memory") : 0;
}

static int merge_memory(const struct chain *chain, struct pages *pages, int fd, struct error *err)
{
	const struct snapshot_head *head = &chain->links[chain->count - 1].head;
	_cleanup_free_ uint8_t *bytes = malloc(CHUNK_BYTES);
	int ret = bytes ? snapshot_marks_write(fd, snapshot_head_size(head), &head->id, false)
			: -ENOMEM;

	if (ret < 0)
		return error_errno(err, -ret, "the new memory");
	for (uint64_t chunk = 0; ret == 0 && chunk < pages_chunks(pages); chunk++)
		ret = merge_chunk(chain, pages, chunk, bytes, fd, err);
	return ret;
}

/* That of the last one, which now has all of memory. */
static int merge_state(
	const struct chain *chain, const struct pages *pages, int fd, struct error *err)
{
	const struct snapshot *last = &chain->links[chain->count - 1];
	_cleanup_free_ char *config = strndup(last->config, last->config_length);
	const struct snapshot_content content = {.config = config,
		.machine = last->bytes + last->machine_at,
		.machine_length = last->length - last->machine_at};
	struct snapshot_head head = last->head;
	int ret;

	if (!config)
		return error_errno(err, ENOMEM, "the new state");
	head.parent = (struct snapshot_id){{0}};
	ret = snapshot_write_state(fd, &head, pages, &content);
	return ret < 0 ? error_errno(err, -ret, "the new state") : 0;
}

static int merge_files(const struct chain *chain, const char *to, struct error *err)
{
	const struct snapshot_place place = {.directory = to};
	struct snapshot_target target;
	struct pages pages = {0};
	int ret = snapshot_target_open(&target, &place, err);

	if (ret == 0 && pages_init(&pages, chain->links[0].pages.count) < 0)
		ret = error_errno(err, ENOMEM, "%s", to);
	if (ret == 0)
		ret = merge_memory(chain, &pages, target.memory_fd, err);
	if (ret == 0)
		ret = merge_state(chain, &pages, target.state_fd, err);
	if (ret == 0)
		ret = snapshot_target_commit(&target, err);
	snapshot_target_close(&target);
	pages_free(&pages);
	return ret;
}

int snapshot_merge(
	const char *const *directories, unsigned count, const char *to, struct error *err)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	int ret;

	if (!chain)
		return error_errno(err, ENOMEM, "snapshot");
	ret = count > SNAPSHOT_CHAIN_MAX
		      ? error_set(err, E2BIG, "more than %d snapshots at once; merge some first",
				SNAPSHOT_CHAIN_MAX)
		      : open_chain(chain, directories, count, err);
	if (ret == 0)
		ret = merge_files(chain, to, err);
	close_chain(chain);
	return ret;
}

int snapshot_verify(const char *directory, struct error *err)
{
	const struct snapshot_place place = {.directory = directory};
	_cleanup_free_ uint8_t *bytes = malloc(CHUNK_BYTES);
	struct snapshot snapshot;
	int ret = snapshot_open(&snapshot, &place, false, err);

	if (ret == 0 && !bytes)
		ret = error_errno(err, ENOMEM, "%s", directory);
	for (uint64_t chunk = 0; ret == 0 && chunk < pages_chunks(&snapshot.pages); chunk++)
		ret = read_chunk(&snapshot, directory, chunk, bytes, err);
	snapshot_close(&snapshot);
	return ret;
}
