/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest knows by numbers: nodes, and what it has open. */
#include "oci/share_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VALID_S 1 /* what the host changes is seen so soon */

static uint32_t bucket_of(const struct stat *info)
{
	return (uint32_t)((info->st_ino * 0x9e3779b97f4a7c15ULL ^ info->st_dev) % SHARE_BUCKETS);
}

struct share_node *share_node(struct share_server *server, uint64_t number)
{
	if (!number || number >= server->node_count || server->nodes[number].fd < 0)
		return NULL;
	return &server->nodes[number];
}

void share_attributes(const struct stat *info, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr){.ino = info->st_ino,
		.size = (uint64_t)info->st_size,
		.blocks = (uint64_t)info->st_blocks,
		.atime = (uint64_t)info->st_atim.tv_sec,
		.mtime = (uint64_t)info->st_mtim.tv_sec,
		.ctime = (uint64_t)info->st_ctim.tv_sec,
		.atimensec = (uint32_t)info->st_atim.tv_nsec,
		.mtimensec = (uint32_t)info->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)info->st_ctim.tv_nsec,
		.mode = info->st_mode,
		.nlink = (uint32_t)info->st_nlink,
		.uid = info->st_uid,
		.gid = info->st_gid,
		.blksize = (uint32_t)info->st_blksize};
}

static uint32_t find(const struct share_server *server, const struct stat *info)
{
	uint32_t number = server->buckets[bucket_of(info)];

	while (number && (server->nodes[number].inode != info->st_ino ||
				 server->nodes[number].device != info->st_dev))
		number = server->nodes[number].next;
	return number;
}

/* A place for one more; 0: no memory. */
static uint32_t take_place(struct share_server *server)
{
	const uint32_t number = server->free_nodes;
	struct share_node *grown;

	if (number) {
		server->free_nodes = server->nodes[number].next;
		return number;
	}
	if (server->node_count % 1024 == 0) {
		grown = realloc(server->nodes, (server->node_count + 1024UL) * sizeof(*grown));
		if (!grown)
			return 0;
		server->nodes = grown;
	}
	return server->node_count++;
}

int share_node_add(struct share_server *server, int fd, struct fuse_entry_out *entry)
{
	struct stat info;
	uint32_t number, bucket;

	if (fstat(fd, &info) < 0) {
		close(fd);
		return -EIO;
	}
	number = find(server, &info);
	if (number) {
		close(fd);
		server->nodes[number].lookups++;
	} else {
		number = take_place(server);
		if (!number) {
			close(fd);
			return -ENOMEM;
		}
		bucket = bucket_of(&info);
		server->nodes[number] = (struct share_node){.fd = fd,
			.mode = info.st_mode & S_IFMT,
			.device = info.st_dev,
			.inode = info.st_ino,
			.lookups = 1,
			.next = server->buckets[bucket]};
		server->buckets[bucket] = number;
	}
	*entry = (struct fuse_entry_out){
		.nodeid = number, .entry_valid = VALID_S, .attr_valid = VALID_S};
	share_attributes(&info, &entry->attr);
	return 0;
}

void share_node_forget(struct share_server *server, uint64_t number, uint64_t lookups)
{
	struct share_node *node = share_node(server, number);
	struct stat info = {0};
	uint32_t *at;

	if (!node || number == FUSE_ROOT_ID)
		return;
	node->lookups -= lookups < node->lookups ? lookups : node->lookups;
	if (node->lookups)
		return;
	info.st_ino = node->inode;
	info.st_dev = node->device;
	at = &server->buckets[bucket_of(&info)];
	while (*at != number)
		at = &server->nodes[*at].next;
	*at = node->next;
	close(node->fd);
	node->fd = -1;
	node->next = server->free_nodes;
	server->free_nodes = (uint32_t)number;
}

int share_handle_add(struct share_server *server, int fd, DIR *list)
{
	for (int i = 0; i < SHARE_OPEN; i++)
		if (server->handles[i].fd < 0 && !server->handles[i].list) {
			server->handles[i] = (struct share_handle){fd, list};
			return i;
		}
	share_handle_close(&(struct share_handle){fd, list});
	return -ENFILE;
}

struct share_handle *share_handle(struct share_server *server, uint64_t number)
{
	return number < SHARE_OPEN ? &server->handles[number] : NULL;
}

void share_handle_close(struct share_handle *handle)
{
	if (handle->fd >= 0)
		close(handle->fd);
	if (handle->list)
		closedir(handle->list);
	*handle = (struct share_handle){.fd = -1};
}

struct share_server *share_new(int root, bool readonly)
{
	struct share_server *server = calloc(1, sizeof(*server));
	struct fuse_entry_out entry;

	if (server) {
		server->readonly = readonly;
		for (unsigned i = 0; i < SHARE_OPEN; i++)
			server->handles[i].fd = -1;
		/* Number 0 is none, and the next is the root. */
		take_place(server);
		if (server->nodes) {
			server->nodes[0].fd = -1;
			if (share_node_add(server, root, &entry) == 0)
				return server;
			root = -1;
		}
	}
	if (root >= 0)
		close(root);
	share_free(server);
	return NULL;
}

static void close_nodes(const struct share_server *server)
{
	for (uint32_t i = 1; i < server->node_count; i++)
		if (server->nodes[i].fd >= 0)
			close(server->nodes[i].fd);
}

void share_free(struct share_server *server)
{
	if (!server)
		return;
	close_nodes(server);
	for (unsigned i = 0; i < SHARE_OPEN; i++)
		share_handle_close(&server->handles[i]);
	free(server->nodes);
	free(server);
}
